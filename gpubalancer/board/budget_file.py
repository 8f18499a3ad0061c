"""The file of all budgets: their rows, exact over all processes and never half changed.

A request counts in several rows, and all of them change or none. Rows that are ever changed together belong to one
*group* (a tree of links, united as they are bound; a tenant, its keys and its ancestors end in one), and the group has
one kernel record lock, on its root. So a change takes one lock whatever it touches, and nobody waits for a second one.

A change is carried out from a redo record, like this: the new states go into the worker's record, its number into the
root's `pending`, the states into the rows, `applied` becomes the record's number, `pending` is cleared. A process that
is killed on the way loses the lock; whoever takes it next sees `pending` and writes the same states again. So each
change was made whole or not at all, and `applied` tells which.

Rows come into being when they are first used, and are swept away when they are as good as new. Uniting, making and
freeing rows are done under one further lock, which nobody asks for while holding a group's.
"""

import mmap
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from gpubalancer.board import budget_layout as layout
from gpubalancer.board import locks
from gpubalancer.board.board import BoardError
from gpubalancer.board.budget_damage import boot_fold, damage, heal_future, set_aside
from gpubalancer.board.budget_idle import idle_rows, is_idle
from gpubalancer.board.budget_layout import CELL_BYTES, STATE
from gpubalancer.board.budget_locks import seize
from gpubalancer.domain.budget import NEW, State, Terms

SHAPE_BYTE = locks.ROW_BYTE - 1
"""Held while rows are made, united or freed."""


class BudgetFile:
    """The mapped file. Make one with `create` (supervisor) or `attach` (worker). One thread of one process uses it.

    Attributes:
        set_aside: why and under which name an earlier file was put away by `create`, or None.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.set_aside: str | None = None
        self._map()

    @classmethod
    def create(cls, path: Path, budgets: int = 0) -> Self:
        """Own the file as the supervisor; what cannot be used is set aside and begun anew, with a row for nobody.

        A new file has room for this number of budgets before it grows.

        Errors:
            BoardError: another supervisor owns the file.
            OSError: it cannot be opened, or the disk is full.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not locks.try_lock(fd, locks.OWNER_BYTE):
            os.close(fd)
            raise BoardError(f"{path} is in use by another balancer")
        why_not = damage(fd)
        said = None
        if why_not is not None:
            said = f"{path} was set aside as {set_aside(path)}: {why_not}"
            os.close(fd)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            locks.try_lock(fd, locks.OWNER_BYTE)
        if os.fstat(fd).st_size == 0:
            # A quarter full, so that hardly a set of 16 overflows, which would make the file three times as long.
            _initialise(fd, max(layout.LEAST_SETS, -(-4 * budgets // layout.SET_ROWS)))
        made = cls(path, fd)
        made.set_aside = said
        made._take_over()
        return made

    @classmethod
    def attach(cls, path: Path) -> Self:
        """Open the file that a supervisor has created.

        Errors:
            BoardError: it is no file of budgets.
            OSError: it cannot be opened.
        """
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        magic, version, *_ = layout.HEADER.unpack(os.pread(fd, layout.HEADER.size, 0).ljust(layout.HEADER.size, b"\0"))
        if (magic, version) != (layout.MAGIC, layout.VERSION):
            os.close(fd)
            raise BoardError(f"{path} is no file of budgets of version {layout.VERSION}")
        return cls(path, fd)

    def now_ns(self) -> int:
        """Nanoseconds since 1970 on a clock that all processes share, and that never goes back."""
        return time.monotonic_ns() + self.cells[layout.OFFSET_CELL]

    def follow(self, wall_ns: int) -> None:
        """Set the clock forward to the wall's; never back. Supervisor only, now and then."""
        self.cells[layout.OFFSET_CELL] = max(self.cells[layout.OFFSET_CELL], wall_ns - time.monotonic_ns())

    @property
    def shape(self) -> int:
        """Changes when rows have been freed."""
        return self.cells[layout.SHAPE_CELL]

    @property
    def rows(self) -> int:
        """How many rows the file has, used or not."""
        return layout.segment_rows(self._first_sets, self._segments)[0]

    # Rows.

    def find(self, identity: bytes) -> int | None:
        """The row of a budget, None if it has none."""
        if self.cells[layout.SEGMENTS_CELL] != self._segments:
            self._map()
        low, high = layout.cells_of(identity)
        cells = self.cells
        for first in self._sets(low):
            at = self._cell(first)
            lows = cells[at : at + layout.SET_ROWS * layout.ROW_CELLS : layout.ROW_CELLS].tolist()
            if low in lows:
                row = lows.index(low)
                if cells[at + row * layout.ROW_CELLS + 1] == high:
                    return first + row
        return None

    def place(self, wanted: Iterable[Terms]) -> list[int]:
        """The rows of these budgets, in one group; rows that are missing are made.

        Errors:
            BusyError: a lock was not to be had.
            OSError: the disk is full.
        """
        budgets = list(wanted)
        rows = [self.find(terms.id) for terms in budgets]
        found = [row for row in rows if row is not None]
        if len(found) < len(rows) or len({self.root(row) for row in found}) > 1:
            seize(self.fd, SHAPE_BYTE, lambda: None)
            try:
                found = [self._make(terms) for terms in budgets]
                self._unite(found)
            finally:
                locks.unlock(self.fd, SHAPE_BYTE)
        for terms, row in zip(budgets, found, strict=True):
            self._note_keep(terms, row)
        return found

    def root(self, row: int) -> int:
        """The row whose lock is that of a row's group."""
        while link := self.cells[self._cell(row) + layout.LINK_CELL]:
            row = link - 1
        return row

    def state_at(self, row: int) -> int:
        """Where a row's state lies, in bytes."""
        return layout.ROWS_AT + row * layout.ROW_BYTES + layout.STATE_AT

    def state(self, row: int) -> State:
        """A row's state as it stands; under its group's lock, or for show only."""
        return STATE.unpack_from(self.memory, self.state_at(row))

    def identity(self, row: int) -> bytes:
        """The id of the budget that a row belongs to."""
        return layout.ID.pack(self.cells[self._cell(row)], self.cells[self._cell(row) + 1])

    def born_ns(self, row: int) -> int:
        """Since when the budget is counted; 0 if that is all of its window."""
        return self.cells[self._cell(row) + layout.BORN_CELL]

    def put(self, terms: Terms, state: State) -> None:
        """Set a budget's state, as when it is rebuilt from the ledger."""
        (row,) = self.place([terms])
        self.cells[self._cell(row) + layout.BORN_CELL] = 0
        root = self.root(row)
        self.lock(root)
        STATE.pack_into(self.memory, self.state_at(row), *state)
        self.unlock(root)

    # Locks and changes.

    def lock(self, root: int) -> None:
        """Take a group's lock; what a killed process left half done there is done first.

        Errors:
            BusyError: it was not to be had.
        """
        if not locks.try_lock(self.fd, locks.ROW_BYTE + root):
            seize(self.fd, locks.ROW_BYTE + root, lambda: self._want(root))
        if self.cells[layout.ROWS_CELL + root * layout.ROW_CELLS + layout.PENDING_CELL]:
            self._repair(root)

    def unlock(self, root: int) -> None:
        """Give a group's lock back; who takes it again and again lets others have a turn."""
        locks.unlock(self.fd, locks.ROW_BYTE + root)
        wanted = layout.ROWS_CELL + root * layout.ROW_CELLS + layout.WANTED_CELL
        if self.cells[wanted]:
            self.cells[wanted] = 0
            os.sched_yield()

    def is_root(self, root: int) -> bool:
        """True if a row is still its group's root; under its lock."""
        return self.cells[self._cell(root) + layout.LINK_CELL] == 0

    def commit(self, worker: int, op: int, root: int, places: Sequence[int], states: Sequence[State]) -> None:
        """Write new states into rows of a group whose lock is held: all of them, also if we are killed on the way.

        `worker` is the worker row whose redo record is ours, `op` the change's number, above that worker's last, and
        `places` are `state_at` of each row.
        """
        cells, memory = self.cells, self.memory
        redo = layout.REDO_AT + worker * layout.REDO_BYTES
        entries: list[int] = []
        for place, state in zip(places, states, strict=True):
            entries.append(place)
            entries += state
        layout.REDOS[len(places)].pack_into(memory, redo + layout.REDO_HEAD_AT, root, len(places), *entries)
        record = redo // CELL_BYTES
        cells[record + layout.REDO_OP] = op
        pending = (layout.ROWS_AT + root * layout.ROW_BYTES) // CELL_BYTES + layout.PENDING_CELL
        cells[pending] = worker + 1
        pack = STATE.pack_into
        for place, state in zip(places, states, strict=True):
            pack(memory, place, *state)
        cells[record + layout.REDO_APPLIED] = op
        cells[pending] = 0

    def finish(self, worker: int) -> tuple[int, int]:
        """Finish what a worker that is gone had begun. Returns the numbers of its last change and the last one made.

        Errors:
            BusyError: a lock was not to be had.
        """
        record = (layout.REDO_AT + worker * layout.REDO_BYTES) // CELL_BYTES
        root = self.cells[record + layout.REDO_ROOT]
        if self.cells[record + layout.REDO_OP] != self.cells[record + layout.REDO_APPLIED]:
            self.lock(root)
            self.unlock(root)
        return self.cells[record + layout.REDO_OP], self.cells[record + layout.REDO_APPLIED]

    def sweep(self) -> int:
        """Free rows that nobody has touched for as long as makes them as good as new; returns how many. Supervisor.

        Errors:
            BusyError: a lock was not to be had.
        """
        if self.cells[layout.SEGMENTS_CELL] != self._segments:
            self._map()
        now_ns = self.now_ns()
        stale = idle_rows(self.memory, now_ns)
        seize(self.fd, SHAPE_BYTE, lambda: None)
        try:
            return sum(self._free(row, now_ns) for row in stale)
        finally:
            locks.unlock(self.fd, SHAPE_BYTE)

    def close(self) -> None:
        """Let the file and its locks go. May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __repr__(self) -> str:
        if self.cells[layout.SEGMENTS_CELL] != self._segments:
            self._map()
        table = np.frombuffer(self.memory, np.int64, offset=layout.ROWS_AT).reshape(-1, layout.ROW_CELLS)
        return f"<BudgetFile {int((table[:, layout.ID_CELL] != 0).sum())} of {len(table)} rows>"

    def _map(self) -> None:
        """Map the file as long as it is now. Cells that were handed out before stay those of the same file."""
        # A mapping keeps a copy of its descriptor: one of our own would keep our locks beyond `close`.
        opened = locks.reopen(self.fd)
        self.memory = mmap.mmap(opened, 0)
        os.close(opened)
        self.cells = memoryview(self.memory).cast("q")
        _, _, self._first_sets, self._segments, *_ = layout.HEADER.unpack_from(self.memory)

    def _take_over(self) -> None:
        boot = boot_fold()
        if self.cells[layout.BOOT_CELL] != boot:
            self.cells[layout.OFFSET_CELL] = time.time_ns() - time.monotonic_ns()
            self.cells[layout.BOOT_CELL] = boot
        self.follow(time.time_ns())
        heal_future(self.memory, self.now_ns())

    def _want(self, root: int) -> None:
        self.cells[self._cell(root) + layout.WANTED_CELL] = 1

    def _cell(self, row: int) -> int:
        return (layout.ROWS_AT + row * layout.ROW_BYTES) // CELL_BYTES

    def _sets(self, low: int) -> list[int]:
        """The first row of the set of each segment where a budget may stand."""
        found = []
        for segment in range(self._segments):
            start, sets = layout.segment_rows(self._first_sets, segment)
            found.append(start + layout.SET_ROWS * layout.set_of(low, sets))
        return found

    def _make(self, terms: Terms) -> int:
        row = self.find(terms.id)
        if row is None:
            row = self._spare(layout.cells_of(terms.id)[0])
            at = self._cell(row)
            STATE.pack_into(self.memory, self.state_at(row), *NEW)
            low, high = layout.cells_of(terms.id)
            self.cells[at + layout.LINK_CELL] = self.cells[at + layout.PENDING_CELL] = 0
            self.cells[at + layout.BORN_CELL] = self.now_ns()
            self.cells[at + 1] = high
            self.cells[at] = low
        return row

    def _note_keep(self, terms: Terms, row: int) -> None:
        layout.KEEP.pack_into(
            self.memory, (self._cell(row) + layout.KEEP_CELL) * CELL_BYTES, terms.keep_ns, *terms.refill
        )

    def _spare(self, low: int) -> int:
        for first in self._sets(low):
            for row in range(first, first + layout.SET_ROWS):
                if self.cells[self._cell(row)] == 0:
                    return row
        self._grow()
        return self._spare(low)

    def _grow(self) -> None:
        longer_bytes = layout.size_bytes(self._first_sets, self._segments + 1)
        if self._segments >= layout.SEGMENTS_LIMIT or longer_bytes > layout.SIZE_LIMIT_BYTES:
            raise OSError(f"{self.path.name} can't grow any more")
        # Blocks are reserved now: a full disk must be an error here, not a SIGBUS later.
        os.posix_fallocate(self.fd, 0, longer_bytes)
        self.cells[layout.SEGMENTS_CELL] = self._segments + 1
        self._map()

    def _unite(self, rows: Sequence[int]) -> None:
        """Make one group of several rows. One store links a group to another, under the locks of both."""
        first, *others = sorted({self.root(row) for row in rows})
        for other in others:
            self.lock(first)
            try:
                self.lock(other)
                self.cells[self._cell(other) + layout.LINK_CELL] = first + 1
                self.unlock(other)
            finally:
                self.unlock(first)

    def _free(self, row: int, now_ns: int) -> bool:
        root = self.root(row)
        self.lock(root)
        try:
            state, (keep_ns, limit, period_ns) = self.state(row), self._keep(row)
            if not is_idle(state, keep_ns, limit, period_ns, now_ns):
                return False
            self.cells[layout.SHAPE_CELL] += 1
            self.cells[self._cell(row)] = 0
            return True
        finally:
            self.unlock(root)

    def _keep(self, row: int) -> tuple[int, int, int]:
        return layout.KEEP.unpack_from(self.memory, (self._cell(row) + layout.KEEP_CELL) * CELL_BYTES)

    def _repair(self, root: int) -> None:
        worker = self.cells[self._cell(root) + layout.PENDING_CELL] - 1
        redo = layout.REDO_AT + worker * layout.REDO_BYTES
        record = redo // CELL_BYTES
        for entry in range(self.cells[record + layout.REDO_COUNT]):
            place, *state = layout.REDO_ENTRY.unpack_from(
                self.memory, redo + layout.REDO_ENTRIES_AT + entry * layout.REDO_ENTRY.size
            )
            STATE.pack_into(self.memory, place, *state)
        self.cells[record + layout.REDO_APPLIED] = self.cells[record + layout.REDO_OP]
        self.cells[self._cell(root) + layout.PENDING_CELL] = 0


def _initialise(fd: int, first_sets: int) -> None:
    os.posix_fallocate(fd, 0, layout.size_bytes(first_sets, 1))
    os.pwrite(fd, layout.HEADER.pack(layout.MAGIC, layout.VERSION, first_sets, 1, 0, 0, 0), 0)
