"""CPU and memory of a process tree: of made-up /proc folders, and of real processes."""

import os
import subprocess
import sys
from pathlib import Path

from bench import accounting

# Uses some CPU, starts a child that does the same, tells both ids, and waits for a line.
FAMILY = """
import os, subprocess, sys
sum(range(3_000_000))
child = "import sys; sum(range(3_000_000)); print(flush=True); sys.stdin.readline()"
below = subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
below.stdout.readline()
print(below.pid, flush=True)
sys.stdin.readline()
below.communicate(b"\\n")
print("alone", flush=True)
sys.stdin.readline()
"""


def add_process(proc: Path, pid: int, parent: int, ticks: tuple[int, int, int, int], thread_ns: list[int]) -> None:
    """Put one process into a made-up /proc; its command's name has what a careless parser trips over."""
    folder = proc / str(pid)
    for tid, nanoseconds in enumerate(thread_ns):
        (folder / "task" / str(tid)).mkdir(parents=True)
        (folder / "task" / str(tid) / "schedstat").write_text(f"{nanoseconds} 5 6\n")
    times = " ".join(map(str, ticks))
    folder.mkdir(exist_ok=True)
    (folder / "stat").write_text(f"{pid} (a b) c) S {parent} 0 0 0 0 0 0 0 0 0 {times} 20 0 1 0\n")
    (folder / "smaps_rollup").write_text("0-1 ---p [rollup]\nRss: 900 kB\nPss: 100 kB\nPss_Anon: 1 kB\n")


def test_tree_is_the_root_and_all_below_it(tmp_path: Path) -> None:
    """Children and grandchildren belong to it; parents, brothers and files that are no process do not."""
    for pid, parent in ((10, 1), (11, 10), (12, 11), (13, 10), (20, 1), (21, 20)):
        add_process(tmp_path, pid, parent, (0, 0, 0, 0), [])
    (tmp_path / "meminfo").write_text("")
    assert sorted(accounting.process_tree(10, tmp_path)) == [10, 11, 12, 13]
    assert accounting.process_tree(99, tmp_path) == []


def test_threads_of_the_tree_are_added_up(tmp_path: Path) -> None:
    """Nanoseconds of every live thread of every process count."""
    add_process(tmp_path, 10, 1, (0, 0, 0, 0), [1_500_000_000, 500_000_000])
    add_process(tmp_path, 11, 10, (0, 0, 0, 0), [1_000_000_000])
    assert accounting.cpu_s(10, tmp_path) == 3.0


def test_ended_children_are_not_forgotten(tmp_path: Path) -> None:
    """The time of children that were waited for comes on top of the live threads."""
    ticks = accounting.CLOCK_TICKS_PER_S
    add_process(tmp_path, 10, 1, (1 * ticks, 0, 3 * ticks, 4 * ticks), [1_250_000_000])
    assert accounting.cpu_s(10, tmp_path) == 8.25


def test_ended_threads_are_not_forgotten(tmp_path: Path) -> None:
    """Where a process's own ticks say more than its live threads do, threads have ended, and the ticks count."""
    ticks = accounting.CLOCK_TICKS_PER_S
    add_process(tmp_path, 10, 1, (1 * ticks, 2 * ticks, 0, 0), [1_000_000_000])
    add_process(tmp_path, 11, 10, (1 * ticks, 0, 0, 0), [1_500_000_000])
    assert accounting.cpu_s(10, tmp_path) == 4.5


def test_kernel_without_schedstat_leaves_ticks(tmp_path: Path) -> None:
    """Some kernels have no schedstat: the ticks alone are used."""
    add_process(tmp_path, 10, 1, (accounting.CLOCK_TICKS_PER_S, 0, 0, 0), [])
    assert accounting.cpu_s(10, tmp_path) == 1.0


def test_memory_is_the_sum_of_proportional_shares(tmp_path: Path) -> None:
    """PSS, not RSS, of every process of the tree."""
    for pid, parent in ((10, 1), (11, 10), (20, 1)):
        add_process(tmp_path, pid, parent, (0, 0, 0, 0), [])
    assert accounting.memory_bytes(10, tmp_path) == 200 * 1024


def test_real_family_is_counted_and_keeps_what_its_child_used() -> None:
    """A real child is found, its memory and CPU count, and its CPU still counts when it has ended."""
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert accounting.process_tree(parent.pid) == [parent.pid, child]
        assert accounting.memory_bytes(parent.pid) > accounting.memory_bytes(child) > 0
        both_s, child_s = accounting.cpu_s(parent.pid), accounting.cpu_s(child)
        assert both_s > child_s > 0
        parent.stdin.write(b"\n")
        parent.stdin.flush()
        parent.stdout.readline()
        assert accounting.process_tree(parent.pid) == [parent.pid]
        # Ticks are cut off, not rounded: one for each of four counters may be missing.
        assert accounting.cpu_s(parent.pid) >= both_s - 4 / accounting.CLOCK_TICKS_PER_S
        parent.communicate(b"\n")
    assert accounting.process_tree(parent.pid) == []
    assert accounting.cpu_s(parent.pid) == accounting.memory_bytes(parent.pid) == 0


def test_cpu_never_goes_back() -> None:
    """Two readings of a live process are in order."""
    first = accounting.cpu_s(os.getpid())
    assert sum(range(200_000)) > 0
    assert accounting.cpu_s(os.getpid()) >= first > 0
