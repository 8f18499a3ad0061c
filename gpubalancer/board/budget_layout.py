"""Where everything lies in the budgets' files.

`budgets` has a header page, one redo record for each worker row, and the rows of all budgets. A row stands where the
hash of its budget says: in one set of 16 rows of each segment. A segment is twice as large as the one before, and one
is added when the sets of a budget are all full. So rows never move, the file only grows, and a budget is found by
looking at few cache lines.

`budgets.worker-N` has a slot for each request in flight of worker row N, and grows by doubling.

All cells are signed 64-bit numbers, written whole.
"""

import struct
from enum import IntEnum

from gpubalancer.domain.budget import CLAIMS_LIMIT

MAGIC = int.from_bytes(b"gpubalbu", "little")
VERSION = 1
CELL_BYTES = 8
PAGE_BYTES = 4096

HEADER = struct.Struct("<7q")
"""Magic, version, first segment's sets, segments, shape, clock offset in ns, a fold of the machine's boot id."""
SEGMENTS_CELL, SHAPE_CELL, OFFSET_CELL, BOOT_CELL = 3, 4, 5, 6
"""`shape` counts how often rows were freed: what a worker knows of rows' places holds while it stays the same."""

WORKER_ROWS = 128
REDO_BYTES = 1024
REDO_AT = PAGE_BYTES
REDO_OP, REDO_APPLIED, REDO_ROOT, REDO_COUNT = range(4)
"""Cells of a redo record; after them, for each row of the change, its place in bytes and its new state."""
REDO_HEAD = struct.Struct("<2q")
REDO_HEAD_AT = REDO_ROOT * CELL_BYTES
REDOS = tuple(struct.Struct(f"<{2 + 6 * count}q") for count in range(CLAIMS_LIMIT + 1))
"""By the number of rows: root, count, and each row's place and state."""
REDO_ENTRY = struct.Struct("<6q")
REDO_ENTRIES_AT = 4 * CELL_BYTES

ROWS_AT = REDO_AT + WORKER_ROWS * REDO_BYTES
ROW_BYTES = 128
"""Two cache lines: no two rows share one."""
ROW_CELLS = ROW_BYTES // CELL_BYTES
ID_CELL, STATE_CELL, LINK_CELL, PENDING_CELL, KEEP_CELL = 0, 2, 7, 8, 9
"""`link`: 1 + another row of its group, nearer to the root; 0 for the root. `pending`, of a root: 1 + the worker row
whose redo record is being carried out. `keep`: for how many nanoseconds a row is kept after its last change; after it
stand limit and period of a bucket, or 1 and 0."""
ROWS_CELL = ROWS_AT // CELL_BYTES
LINKS_CELL = ROWS_CELL + LINK_CELL
"""Where rows, and their links, begin in cells."""
KEEP = struct.Struct("<3q")
WANTED_CELL = 12
"""Of a root: somebody waits for its lock."""
BORN_CELL = 13
"""When the row was made, in nanoseconds since 1970; 0 if it was made for all of its window."""
ID = struct.Struct("<2q")
STATE = struct.Struct("<5q")
STATE_AT = STATE_CELL * CELL_BYTES
SET_ROWS = 16
LEAST_SETS = 64
SEGMENTS_LIMIT = 20
SIZE_LIMIT_BYTES = 1 << 32
"""33 million rows; a file that wants more has met a fault, not that many budgets."""

SLOT_BYTES = 1024
SLOT_CELLS = SLOT_BYTES // CELL_BYTES
SLOTS_LEAST = 64
(
    SLOT_STATE,
    SLOT_OP,
    SLOT_STARTED,
    SLOT_COUNT,
    SLOT_SENT,
    SLOT_PROMPT,
    SLOT_COMPLETION,
    SLOT_CACHED,
    SLOT_REQUESTS,
    SLOT_USD,
    SLOT_JOULES,
    SLOT_PROMPT_RATE,
    SLOT_COMPLETION_RATE,
    SLOT_JOULES_RATE,
    SLOT_LABEL_BYTES,
    SLOT_SERVER_BYTES,
) = range(16)
"""Cells of a slot. The rates are nano-usd and millijoules for a million tokens."""
SLOT_ROWS, SLOT_HELD, SLOT_ACTUAL = 16, 32, 48
"""Where in a slot three numbers begin for each row: its number, what is reserved, and what it is to be."""
LABEL_AT = 64 * CELL_BYTES
SERVER_BYTES = 96
SERVER_AT = SLOT_BYTES - SERVER_BYTES
LABEL_BYTES = SERVER_AT - LABEL_AT
"""What is known of the request when it begins, and, behind it, of the backend that gets it."""
AMOUNTS = tuple(struct.Struct(f"<{count}q") for count in range(CLAIMS_LIMIT + 1))
BEGINS = tuple(
    struct.Struct(f"<4q{8 * (SLOT_LABEL_BYTES - 4)}xqq{count}q{8 * (CLAIMS_LIMIT - count)}x{count}q")
    for count in range(CLAIMS_LIMIT + 1)
)
"""A slot that begins, by the number of rows: state, number, time, count, zeros, label's length, no server, the rows,
and what is reserved in each."""
SPENT = struct.Struct("<6q")
SPENT_AT = SLOT_PROMPT * CELL_BYTES
"""Prompt, completion, cached, requests, usd and joules, which stand side by side."""


class Slot(IntEnum):
    """What a request in flight is about to do; whether it was done, the redo record knows."""

    FREE = 0
    RESERVING = 1
    HELD = 2
    EXTENDING = 3
    SETTLING = 4
    SETTLED = 5
    """Kept until it is on record elsewhere."""


def segment_rows(first_sets: int, segment: int) -> tuple[int, int]:
    """The first row of a segment, and how many sets it has."""
    return SET_ROWS * first_sets * ((1 << segment) - 1), first_sets << segment


def size_bytes(first_sets: int, segments: int) -> int:
    """The length of a file with so many segments."""
    return ROWS_AT + ROW_BYTES * segment_rows(first_sets, segments)[0]


def cells_of(identity: bytes) -> tuple[int, int]:
    """The two cells of a budget's id; the first is never 0, which says that a row is free."""
    low, high = ID.unpack(identity)
    return low or 1, high


def set_of(low: int, sets: int) -> int:
    """In which set of a segment a budget's row stands."""
    return int((low & 0x7FFFFFFFFFFFFFFF) % sets)
