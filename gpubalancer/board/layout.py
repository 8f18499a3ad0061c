"""Where each column lies in the board's file.

The file is a header page and then columns, each starting on a page. A column has one cell per backend row, or one per
worker and backend row. Every worker's part of such a column is a whole number of cache lines, so that two workers never
write to the same line. The sizes are fixed when the file is made; another layout is another file.

Times of `scraped_s`, `gpu_at_s` and `cached_since_s` are of the monotonic clock, which all processes of a machine
share; 0 is never.

To add a column: a row in `COLUMNS`, and a new `VERSION`.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np
from numpy.typing import DTypeLike

MAGIC = b"gpubalbd"
VERSION = 6
WORKERS_LIMIT = 64
WORKER_ROWS = 2 * WORKERS_LIMIT
"""Rows in every file, used or not, 5.5 MiB at 1,024 backends: as many workers of a dead supervisor may still live."""
BACKENDS_LEAST = 1024
NAME_BYTES = 264
"""The longest name that a policy allows has 260."""
PAGE_BYTES = 4096
CACHE_LINE_BYTES = 64

HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("version", "<u4"),
        ("worker_rows", "<u4"),
        ("backends_limit", "<u4"),
        ("workers", "<u4"),
        ("rows_used", "<u4"),
        ("epoch", "<u8"),
        ("pid", "<i8"),
    ]
)
"""`workers`: of the present supervisor. `rows_used`: the worker rows that may hold slots, from the first. `epoch`: how
many supervisors have owned the file. `pid`: the last of them."""
ROWS_USED_BYTE = 24
"""Where `rows_used` lies: workers read it on every lease."""


class Hardware(IntEnum):
    """What a cell of `hardware` says of a backend's GPUs."""

    UNKNOWN = 0
    WELL = 1
    THROTTLED = 2
    """Slower than it could be, and `speed_fraction` says by how much."""
    FAULTY = 3
    """No new work: the fault does not pass by itself."""


class Loaded(IntFlag):
    """What a cell of `loaded` says of a backend's models."""

    READY = 0
    """Or unknown."""
    LOADING = 1
    SLEEPING = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its cells' type, who writes them, whether each worker has cells of its own, and what is not known.

    Attributes:
        unset: what the supervisor puts into the cell of a row that is given to a backend anew.
    """

    name: str
    dtype: DTypeLike
    writer: str
    per_worker: bool = False
    unset: float = 0.0


NAN = float("nan")
OWN = "the worker of that row"
COLUMNS = (
    Column("name", f"S{NAME_BYTES}", "supervisor"),
    Column("live", np.uint8, "supervisor"),
    Column("up", np.uint8, "supervisor"),
    Column("reachable", np.uint8, "supervisor"),
    Column("draining", np.uint8, "supervisor"),
    Column("probed_s", np.float64, "supervisor"),
    # The engine's own view, NaN for what it does not tell, as of `scraped_s`.
    Column("running", np.float64, "supervisor", unset=NAN),
    Column("waiting", np.float64, "supervisor", unset=NAN),
    Column("kv_used_fraction", np.float64, "supervisor", unset=NAN),
    Column("kv_capacity_tokens", np.float64, "supervisor", unset=NAN),
    Column("scraped_s", np.float64, "supervisor"),
    Column("scraped_in_flight", np.int32, "supervisor"),
    Column("loaded", np.uint8, "supervisor"),
    # The GPUs behind it, as of `gpu_at_s`.
    Column("hardware", np.uint8, "supervisor"),
    Column("speed_fraction", np.float64, "supervisor", unset=1.0),
    Column("power_watts", np.float64, "supervisor", unset=NAN),
    Column("gpu_at_s", np.float64, "supervisor"),
    Column("active_watts", np.float64, "supervisor", unset=NAN),
    # What its engine had read before this second of the monotonic clock, it has forgotten.
    Column("cached_since_s", np.int64, "supervisor"),
    Column("in_flight", np.int32, OWN, per_worker=True),
    Column("prefill_tokens", np.int64, OWN, per_worker=True),
    Column("context_tokens", np.int64, OWN, per_worker=True),
    Column("read_tokens", np.int64, OWN, per_worker=True),
    Column("worked_us", np.int64, OWN, per_worker=True),
    Column("sent_requests", np.int64, OWN, per_worker=True),
    Column("ended_requests", np.int64, OWN, per_worker=True),
)
RESET = tuple(each for each in COLUMNS if each.writer == "supervisor" and each.name not in ("name", "live"))
"""What a backend's row begins with when it becomes live."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns' places for a number of backend rows; `backends_limit` is a multiple of a cache line's bytes."""

    backends_limit: int

    @classmethod
    def for_backends(cls, configured: int) -> "Layout":
        """The layout for a fleet of this size, with room to double before the file must be rebuilt."""
        rows = max(BACKENDS_LEAST, 2 * configured)
        return cls(-(-rows // CACHE_LINE_BYTES) * CACHE_LINE_BYTES)

    def offset_bytes(self, column: str) -> int:
        """Where a column begins.

        Errors:
            KeyError: no such column.
        """
        at_bytes = PAGE_BYTES
        for each in COLUMNS:
            if each.name == column:
                return at_bytes
            at_bytes += self._column_bytes(each)
        raise KeyError(column)

    @property
    def size_bytes(self) -> int:
        """The length of the whole file."""
        return PAGE_BYTES + sum(self._column_bytes(each) for each in COLUMNS)

    def _column_bytes(self, column: Column) -> int:
        rows = self.backends_limit * (WORKER_ROWS if column.per_worker else 1)
        return -(-rows * np.dtype(column.dtype).itemsize // PAGE_BYTES) * PAGE_BYTES


def read_header(head: bytes, size_bytes: int) -> Layout | str:
    """The layout of a file from its first bytes and its length, or one sentence on why it cannot be used."""
    if len(head) < HEADER.itemsize:
        return f"{size_bytes} bytes are too few for a header"
    header = np.frombuffer(head, dtype=HEADER, count=1)[0]
    if header["magic"] != MAGIC:
        return "it does not begin like a board"
    if header["version"] != VERSION or header["worker_rows"] != WORKER_ROWS:
        return f"its layout is version {header['version']} with {header['worker_rows']} worker rows"
    layout = Layout(int(header["backends_limit"]))
    if layout.backends_limit % CACHE_LINE_BYTES or not layout.backends_limit or layout.size_bytes != size_bytes:
        return f"{size_bytes} bytes do not fit {layout.backends_limit} backends"
    if not 1 <= header["workers"] <= WORKERS_LIMIT or not header["workers"] <= header["rows_used"] <= WORKER_ROWS:
        return f"it names {header['workers']} workers in {header['rows_used']} rows"
    return layout
