"""The board: one memory-mapped file of columns that the supervisor and all workers share.

Two rules. Each cell has one writer, named in `layout.COLUMNS`; anybody reads at any time without a lock. And a row
belongs to a backend's name until it is given to another, which happens only to a row that is out of use and has nothing
in flight: workers give leases back by row number, also after a reload has removed the backend.

A worker holds a lock on its row of slot counts for life. So a row whose lock is free belongs to nobody alive, and may
be zeroed; a row whose worker has outlived its supervisor stays counted, and the next supervisor's workers take others.

The file outlives its processes. A supervisor creates or takes over the file and owns it for its life; a second one is
refused. What cannot be used (another layout, damage, too small for the fleet) is set aside under a new name, never
deleted, and built anew.
"""

import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from gpubalancer.board import locks
from gpubalancer.board.layout import (
    COLUMNS,
    HEADER,
    MAGIC,
    NAME_BYTES,
    RESET,
    ROWS_USED_BYTE,
    VERSION,
    WORKER_ROWS,
    WORKERS_LIMIT,
    Layout,
    read_header,
)

_FORMATS: dict[int, Literal["i", "q"]] = {4: "i", 8: "q"}
"""How `memoryview` calls the whole numbers of a worker's cells, by their bytes."""


class BoardError(Exception):
    """The board cannot be used; the message is one sentence for the operator."""


class Board:
    """The mapped file. Make one with `create` (supervisor) or `attach` (worker, reader).

    The views are the memory itself: what another process writes shows in them at once. Of those with one cell per
    worker row and backend row, `in_flight`, `prefill_tokens`, `context_tokens`, `read_tokens`, `worked_us`,
    `sent_requests` and `ended_requests` have the worker rows that were in use when the board was opened,
    `all_in_flight` all that the file has.

    Attributes:
        up, reachable, draining, live: 1 or 0. `reachable`: probes can connect, whatever they are told. `live`: the row
            is a backend's.
        probed_s: wall time of the last probe; 0 if never.
        running, waiting: requests in the engine, all clients together, by its own account; NaN if it does not tell.
        kv_used_fraction: share of its key-value cache in use; NaN if it does not tell.
        kv_capacity_tokens: size of that cache; NaN if it does not tell.
        scraped_s: monotonic time of the engine's last good page; 0 if never.
        scraped_in_flight: what we had in flight there at that time, all workers together. So the engine's batch now is
            about `running + waiting` then, plus `in_flight` now, less this.
        loaded: flags of `layout.Loaded`.
        hardware: a `layout.Hardware`.
        speed_fraction: clock of its slowest GPU against what it should be; 1 if unknown.
        power_watts: of its GPUs together; NaN if unknown.
        active_watts: power by which requests are charged for its time, from measured energy; NaN if unknown.
        gpu_at_s: monotonic time of the last word on its GPUs; 0 if never.
        cached_since_s: what the engine had read before this monotonic second, it has forgotten; 0 for nothing.
        in_flight: requests leased.
        prefill_tokens: uncached prompt tokens sent whose first token has not come.
        read_tokens: those whose first token has come, since the worker began.
        worked_us: microseconds that the backend has worked for requests that have ended, likewise.
        context_tokens: prompt and output tokens of the requests in flight.
        sent_requests, ended_requests: counted since the worker began.
        fd: a descriptor of the file, for `locks.reopen`.
        layout: the sizes.
        workers: how many the supervisor keeps.
        set_aside: why and under which name an earlier file was put away by `create`, or None.
    """

    def __init__(self, path: Path, fd: int, layout: Layout) -> None:
        self.path = path
        self.fd = fd
        self.layout = layout
        self.set_aside: str | None = None
        self._found: dict[str, int] = {}
        self.memory = mmap.mmap(fd, layout.size_bytes)
        self._header: Any = np.frombuffer(self.memory, dtype=HEADER, count=1)
        self.workers = int(self._header["workers"][0])
        self._shared = shared = {each.name: self._view(each.name) for each in COLUMNS}
        self._name: NDArray[np.bytes_] = shared["name"]
        self.live: NDArray[np.uint8] = shared["live"]
        self.up: NDArray[np.uint8] = shared["up"]
        self.reachable: NDArray[np.uint8] = shared["reachable"]
        self.draining: NDArray[np.uint8] = shared["draining"]
        self.probed_s: NDArray[np.float64] = shared["probed_s"]
        self.running: NDArray[np.float64] = shared["running"]
        self.waiting: NDArray[np.float64] = shared["waiting"]
        self.kv_used_fraction: NDArray[np.float64] = shared["kv_used_fraction"]
        self.kv_capacity_tokens: NDArray[np.float64] = shared["kv_capacity_tokens"]
        self.scraped_s: NDArray[np.float64] = shared["scraped_s"]
        self.scraped_in_flight: NDArray[np.int32] = shared["scraped_in_flight"]
        self.loaded: NDArray[np.uint8] = shared["loaded"]
        self.hardware: NDArray[np.uint8] = shared["hardware"]
        self.speed_fraction: NDArray[np.float64] = shared["speed_fraction"]
        self.power_watts: NDArray[np.float64] = shared["power_watts"]
        self.gpu_at_s: NDArray[np.float64] = shared["gpu_at_s"]
        self.active_watts: NDArray[np.float64] = shared["active_watts"]
        self.cached_since_s: NDArray[np.int64] = shared["cached_since_s"]
        self.all_in_flight: NDArray[np.int32] = shared["in_flight"]
        self._use_rows(int(self._header["rows_used"][0]))

    @classmethod
    def create(cls, path: Path, workers: int, backends: int) -> Self:
        """Own the board at `path` as its supervisor, for `workers` workers and at least `backends` backends.

        A usable file is kept, with its rows, health, drains, and the slots of workers that still live. The epoch rises
        by one.

        Errors:
            BoardError: another supervisor owns the file.
            ValueError: more workers than `WORKERS_LIMIT`.
            OSError: the file cannot be opened, or the disk is full.
        """
        if not 1 <= workers <= WORKERS_LIMIT:
            raise ValueError(f"workers: {workers}, expected 1 to {WORKERS_LIMIT}")
        fd, set_aside = _claim(path, backends)
        layout = _layout_of(fd)
        if isinstance(layout, str):
            layout = Layout.for_backends(backends)
            _initialise(fd, layout, workers)
        board = cls(path, fd, layout)
        board._take_over(workers, set_aside)
        return board

    @classmethod
    def attach(cls, path: Path) -> Self:
        """Map a board that a supervisor has created.

        Errors:
            BoardError: the file is not a board of this layout.
            OSError: the file cannot be opened.
        """
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        layout = _layout_of(fd)
        if isinstance(layout, str):
            os.close(fd)
            raise BoardError(f"{path} is not a usable board: {layout}")
        return cls(path, fd, layout)

    def assign_rows(self, names: Iterable[str]) -> dict[str, int]:
        """Make exactly these backends live, and give each its row. Supervisor only.

        A name that has a row keeps it, also when it comes back after it was removed. A new name gets a row that was
        never used, or else one that is out of use with nothing in flight. What the supervisor knew of a row that was
        out of use is forgotten.

        Errors:
            BoardError: no row is left, or a name is longer than `NAME_BYTES`; nothing has changed.
        """
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            if not 0 < len(name.encode()) <= NAME_BYTES or "\0" in name:
                raise BoardError(f"a backend's name takes 1 to {NAME_BYTES} bytes: {name!r}")
        known = self._named_rows()
        rows = {name: known[name] for name in wanted if name in known}
        spare = self._spare_rows(set(rows.values()))
        new = [name for name in wanted if name not in rows]
        if len(new) > len(spare):
            raise BoardError(f"{len(wanted)} backends do not fit the board's {self.layout.backends_limit} rows")
        for name, row in zip(new, spare, strict=False):
            self._name[row] = name.encode()
            self.live[row] = 0
            rows[name] = row
        for row in rows.values():
            if not self.live[row]:
                for column in RESET:
                    self._shared[column.name][row] = column.unset
        in_use = np.zeros_like(self.live)
        in_use[list(rows.values())] = 1
        self.live[:] = in_use
        return rows

    def rows(self) -> dict[str, int]:
        """The row of each live backend."""
        return {name: row for name, row in self._named_rows().items() if self.live[row]}

    def row(self, name: str) -> int | None:
        """The row of a live backend, or None; quicker than `rows` for who asks again and again."""
        row = self._found.get(name)
        if row is None or not self.live[row] or self._name[row] != name.encode():
            self._found = self.rows()
            row = self._found.get(name)
        return row

    def claim_worker_row(self, fd: int, worker: int) -> int:
        """Take a row of slot counts for life: the worker's own, or a spare one while its own is another's. It is zero.

        Arguments:
            fd: an opening of the file by this worker, from `locks.reopen`; closing it ends the claim.
            worker: the index among the supervisor's workers.

        Errors:
            BoardError: a living worker has the row, and there is no spare one.
        """
        candidates: list[int] = [worker, *range(self.workers, self.in_flight.shape[0])]
        for _ in range(locks.TRIES):
            for row in candidates:
                if locks.try_lock(fd, locks.WORKER_BYTE + row):
                    self._zero_worker(row)
                    return row
            os.sched_yield()  # somebody who clears a row holds its lock for a moment
        raise BoardError(f"worker {worker} of {self.workers} has no row: another process counts in it")

    def in_flight_cells(self) -> memoryview:
        """The cells of `all_in_flight` in one dimension, row after row: plain integers, read and written whole."""
        return self.cells("in_flight")

    def cells(self, column: str) -> memoryview:
        """The cells of a column of all worker rows in one dimension, as `in_flight_cells`.

        Errors:
            KeyError: no such column.
        """
        view: NDArray[Any] = self._shared[column]
        start = self.layout.offset_bytes(column)
        return memoryview(self.memory)[start : start + view.nbytes].cast(_FORMATS[view.dtype.itemsize])

    def all_of(self, column: str) -> Any:
        """A per-worker column whole: worker rows x backend rows, rows that are not in use included.

        Errors:
            KeyError: no such column.
        """
        return self._shared[column]

    def rows_used_cell(self) -> memoryview:
        """The one cell that tells how many worker rows may hold slots; a new supervisor changes it."""
        return memoryview(self.memory)[ROWS_USED_BYTE : ROWS_USED_BYTE + 4].cast("I")

    def clear_worker(self, index: int | None = None) -> None:
        """Forget all that the worker `index`, or every worker, has counted, slots too, if its process has ended.

        Rows beyond the workers' own are looked at in any case: who died may have counted there. Supervisor only.
        """
        own = range(self.workers) if index is None else (index,)
        self._clear_dead((*own, *range(self.workers, self.in_flight.shape[0])))

    @property
    def epoch(self) -> int:
        """How many supervisors have owned this file: a change tells a worker that its supervisor was replaced."""
        return int(self._header["epoch"][0])

    def bump_epoch(self) -> None:
        """Count one more supervisor."""
        self._header["epoch"] += np.uint64(1)

    @property
    def pid(self) -> int:
        """The process that created or took over the board last."""
        return int(self._header["pid"][0])

    def close(self) -> None:
        """Let the file go. The views stay valid while somebody holds them; the ownership ends. May be called twice."""
        if self.fd >= 0:
            locks.unlock(self.fd, locks.OWNER_BYTE)
            os.close(self.fd)
            self.fd = -1

    def __repr__(self) -> str:
        live, slots = int(self.live.sum()), int(self.in_flight.sum())
        return f"<Board {live} of {self.layout.backends_limit} rows, {self.workers} workers, {slots} in flight>"

    def _take_over(self, workers: int, set_aside: str | None) -> None:
        living = self._clear_dead(range(WORKER_ROWS))
        # Each of our workers needs a row beside those that others hold.
        rows_used = min(living[-1] + 1 + workers, WORKER_ROWS) if living else workers
        self.set_aside = set_aside
        self.workers = workers
        self._use_rows(rows_used)
        # The monotonic clock begins anew with the machine, and the file may be older than that.
        self.scraped_s[:], self.gpu_at_s[:], self.cached_since_s[:] = 0.0, 0.0, 0
        self._header["workers"] = workers
        self._header["rows_used"] = rows_used
        self._header["pid"] = os.getpid()
        self.bump_epoch()

    def _use_rows(self, rows_used: int) -> None:
        self.in_flight = self.all_in_flight[:rows_used]
        self.prefill_tokens: NDArray[np.int64] = self._shared["prefill_tokens"][:rows_used]
        self.read_tokens: NDArray[np.int64] = self._shared["read_tokens"][:rows_used]
        self.worked_us: NDArray[np.int64] = self._shared["worked_us"][:rows_used]
        self.context_tokens: NDArray[np.int64] = self._shared["context_tokens"][:rows_used]
        self.sent_requests: NDArray[np.int64] = self._shared["sent_requests"][:rows_used]
        self.ended_requests: NDArray[np.int64] = self._shared["ended_requests"][:rows_used]

    def _zero_worker(self, row: int) -> None:
        for column in COLUMNS:
            if column.per_worker:
                self._shared[column.name][row] = 0

    def _clear_dead(self, rows: Iterable[int]) -> list[int]:
        """Zero these worker rows, but those whose worker lives; returns the latter."""
        living = []
        for row in rows:
            if locks.try_lock(self.fd, locks.WORKER_BYTE + row):
                self._zero_worker(row)
                locks.unlock(self.fd, locks.WORKER_BYTE + row)
            else:
                living.append(row)
        return living

    def _named_rows(self) -> dict[str, int]:
        return {str(self._name[row], "utf-8"): int(row) for row in np.flatnonzero(self._name != b"")}

    def _spare_rows(self, taken: set[int]) -> list[int]:
        idle = (self.all_in_flight.sum(axis=0) == 0) & (self.live == 0)
        # A row that this call puts out of use is not spare yet: workers may still take from it.
        never_used = self._name == b""
        order = [*np.flatnonzero(idle & never_used), *np.flatnonzero(idle & ~never_used)]
        return [int(row) for row in order if int(row) not in taken]

    def _view(self, column: str) -> Any:
        found = next(each for each in COLUMNS if each.name == column)
        cells = self.layout.backends_limit * (WORKER_ROWS if found.per_worker else 1)
        view = np.frombuffer(self.memory, found.dtype, count=cells, offset=self.layout.offset_bytes(column))
        return view.reshape(WORKER_ROWS, -1) if found.per_worker else view


def _claim(path: Path, backends: int) -> tuple[int, str | None]:
    """Open `path` and own it; put a file that cannot serve aside. Returns the descriptor and what was put away, why."""
    set_aside = None
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not locks.try_lock(fd, locks.OWNER_BYTE):
            os.close(fd)
            raise BoardError(f"{path} is in use by another balancer")
        if not path.exists() or os.fstat(fd).st_ino != path.stat().st_ino:
            os.close(fd)  # another supervisor put it aside between our open and our lock
            continue
        why_not = _why_not(fd, backends)
        if why_not is None:
            return fd, set_aside
        aside = _free_name(path)
        path.rename(aside)
        os.close(fd)
        set_aside = f"{path} was set aside as {aside.name}: {why_not}"


def _why_not(fd: int, backends: int) -> str | None:
    """Why the file must be put aside, or None if it is empty or usable."""
    size_bytes = os.fstat(fd).st_size
    if size_bytes == 0:
        return None
    layout = _layout_of(fd)
    if isinstance(layout, str):
        return layout
    if layout.backends_limit < backends:
        return f"{layout.backends_limit} rows are too few for {backends} backends"
    names_at = layout.offset_bytes("name")
    names = np.frombuffer(os.pread(fd, layout.backends_limit * NAME_BYTES, names_at), dtype=f"S{NAME_BYTES}")
    used = [name for name in names.tolist() if name]
    try:
        distinct = {name.decode() for name in used}
    except UnicodeDecodeError:
        return "a backend's name is not UTF-8"
    return None if len(distinct) == len(used) else "two rows have one name"


def _layout_of(fd: int) -> Layout | str:
    return read_header(os.pread(fd, HEADER.itemsize, 0), os.fstat(fd).st_size)


def _initialise(fd: int, layout: Layout, workers: int) -> None:
    # Blocks are reserved now: a full disk must be an error here, not a SIGBUS in a worker later.
    os.posix_fallocate(fd, 0, layout.size_bytes)
    header = np.zeros(1, dtype=HEADER)
    header[0] = (MAGIC, VERSION, WORKER_ROWS, layout.backends_limit, workers, workers, 0, os.getpid())
    os.pwrite(fd, header.tobytes(), 0)


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.aside-{number}")).exists():
        number += 1
    return aside
