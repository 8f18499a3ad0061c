"""What a process and everything below it has used, as the operating system counts it.

A contestant may be one process or many (a master and its workers, a launcher and the program it starts), so every
figure is for the whole tree below one process id. CPU time is in nanoseconds, of each live thread
(`/proc/PID/task/TID/schedstat`). What has ended is only in `/proc/PID/stat`, whose grain is a clock tick (10 ms):
children that were waited for (`cutime + cstime`) are added, and where `utime + stime` says more than the live threads
do, threads have ended and it is taken. Memory is PSS: pages shared between the processes of a tree are counted once.
"""

import contextlib
import os
from pathlib import Path

PROC = Path("/proc")
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

# Positions in /proc/PID/stat after the command's closing bracket (proc_pid_stat(5) counts from 1 with the pid).
PARENT, FIRST_TIME, LAST_TIME = 1, 11, 14  # ppid; utime, stime, cutime, cstime


def _stat_fields(pid: int, proc: Path) -> list[str]:
    """The fields behind the command's name, which may itself hold blanks and brackets; empty if the process is gone."""
    try:
        return (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def process_tree(root: int, proc: Path = PROC) -> list[int]:
    """`root` and all its descendants that are alive now, the root first."""
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit() and (fields := _stat_fields(int(entry.name), proc)):
            children.setdefault(int(fields[PARENT]), []).append(int(entry.name))
    tree = [root] if _stat_fields(root, proc) else []
    for pid in tree:  # grows while it is walked
        tree.extend(children.get(pid, ()))
    return tree


def _threads_s(pid: int, proc: Path) -> float:
    nanoseconds = 0
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in (proc / str(pid) / "task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                nanoseconds += int((task / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def _process_s(pid: int, proc: Path) -> float:
    """What one process has used, and its ended children."""
    ticks = [int(field) for field in _stat_fields(pid, proc)[FIRST_TIME : LAST_TIME + 1]]
    own_s, ended_children_s = sum(ticks[:2]) / CLOCK_TICKS_PER_S, sum(ticks[2:]) / CLOCK_TICKS_PER_S
    return max(own_s, _threads_s(pid, proc)) + ended_children_s


def cpu_s(root: int, proc: Path = PROC) -> float:
    """CPU seconds, user and system, that the tree below `root` has used since it started."""
    return sum(_process_s(pid, proc) for pid in process_tree(root, proc))


def _pss_bytes(pid: int, proc: Path) -> int:
    try:
        for line in (proc / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0


def memory_bytes(root: int, proc: Path = PROC) -> int:
    """Resident memory of the tree below `root`: the sum of each process's proportional share (PSS)."""
    return sum(_pss_bytes(pid, proc) for pid in process_tree(root, proc))
