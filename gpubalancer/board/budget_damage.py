"""What may be wrong with a file of budgets that is found at the start, and what is done about it."""

import mmap
import os
from pathlib import Path

import numpy as np

from gpubalancer.board.budget_layout import (
    HEADER,
    ID_CELL,
    LINK_CELL,
    MAGIC,
    PENDING_CELL,
    ROW_BYTES,
    ROW_CELLS,
    ROWS_AT,
    SEGMENTS_LIMIT,
    SET_ROWS,
    STATE_CELL,
    VERSION,
    WORKER_ROWS,
    segment_rows,
    size_bytes,
)
from gpubalancer.domain.budget import MOST, SECOND_NS

FUTURE_NS = 86_400 * SECOND_NS
"""A state from later than this after now was written while the machine's clock was wrong."""
MOST_USED = 4 * MOST
"""Twice what a state stops at."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def damage(fd: int) -> str | None:
    """Why a file can't be used, or None if it is empty or well."""
    length_bytes = os.fstat(fd).st_size
    if length_bytes == 0:
        return None
    head = os.pread(fd, HEADER.size, 0)
    if len(head) < HEADER.size:
        return f"{length_bytes} bytes are too few for a header"
    magic, version, first_sets, segments, *_ = HEADER.unpack(head)
    if magic != MAGIC:
        return "it does not begin like a file of budgets"
    if version != VERSION:
        return f"its layout is version {version}"
    if not 1 <= segments <= SEGMENTS_LIMIT or not 1 <= first_sets <= 1 << 24:
        return f"it names {segments} segments of {first_sets} sets"
    # A process that was killed while the file grew leaves it longer than it says.
    if length_bytes < size_bytes(first_sets, segments):
        return f"{length_bytes} bytes are too few for {segments} segments of {first_sets} sets"
    rows = segment_rows(first_sets, segments)[0]
    table = np.frombuffer(os.pread(fd, rows * ROW_BYTES, ROWS_AT), np.int64).reshape(-1, ROW_CELLS)
    return _bad_rows(table, first_sets, segments)


def _bad_rows(table: np.ndarray[tuple[int, int], np.dtype[np.int64]], first_sets: int, segments: int) -> str | None:
    used = table[:, ID_CELL] != 0
    home = np.zeros(len(table), np.int64)
    for segment in range(segments):
        start, sets = segment_rows(first_sets, segment)
        part = slice(start, start + sets * SET_ROWS)
        home[part] = start // SET_ROWS + (table[part, ID_CELL] & 0x7FFFFFFFFFFFFFFF) % sets
    if (home != np.arange(len(table)) // SET_ROWS)[used].any():
        return "a row does not stand where its budget belongs"
    states = table[used, STATE_CELL : STATE_CELL + 5]
    if states.min(initial=0) < 0 or states[:, :2].max(initial=0) > MOST_USED:
        return "a row holds a number that no budget can have"
    links, pending = table[:, LINK_CELL][used], table[:, PENDING_CELL][used]
    if ((links < 0) | (links > len(table)) | (pending < 0) | (pending > WORKER_ROWS)).any():
        return "a row points at nothing"
    # Links lead to lower rows, so that they end.
    return "rows point at each other" if (links > np.flatnonzero(used)).any() else None


def heal_future(memory: mmap.mmap, now_ns: int) -> None:
    """Take states back to now that stand in a future that will not come soon; what is spent stays spent."""
    table = np.frombuffer(memory, np.int64, offset=ROWS_AT).reshape(-1, ROW_CELLS)
    stamps = table[:, STATE_CELL + 2]
    stamps[stamps > now_ns + FUTURE_NS] = now_ns


def set_aside(path: Path) -> str:
    """Rename a file and those of its workers, which point into it; returns the new name of the first."""
    number = 1
    while (aside := path.with_name(f"{path.name}.aside-{number}")).exists():
        number += 1
    for worker in path.parent.glob(f"{path.name}.worker-*"):
        worker.rename(worker.with_name(f"{aside.name}.{worker.suffix[1:]}"))
    path.rename(aside)
    return aside.name


def boot_fold() -> int:
    """A number that is another one after each start of the machine; 0 where the kernel does not tell."""
    try:
        return int(_BOOT_ID.read_text().replace("-", "")[:15], 16)
    except (OSError, ValueError):
        return 0
