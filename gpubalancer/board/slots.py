"""Slots: N workers that never act on more than a backend's limit together, without a lock on the usual way.

How it is exact. A worker adds one to its *own* cell, and *then* reads the sum of all workers' cells. Of any set of
leases held at the same time, one was added last; its worker read the sum after every other of them had been added and
before any was given back, so it saw them all. Had they been more than the limit, it would have taken its one back.

This needs each worker's own store to be visible before its own loads are made. x86-64 may hold a store back behind
later loads (it is the one reordering that TSO allows), so a full fence stands between the two: an uncontended
`threading.Lock`, taken and released twice. On x86-64 one atomic read-modify-write of it is a locked instruction, which
drains the store buffer (Intel SDM vol. 3A, 8.2.3.9). On ARMv8, where acquire and release order one way each, store,
release, acquire, load is the chain that holds, hence twice. Python promises no memory model: this rests on CPython's
locks being real atomics, which they are (a semaphore up to 3.12, a compare-and-swap after), and on a four-byte aligned
cell being read and written whole. Giving back is a plain store: seen late, it only refuses, never overbooks.

Taking back makes a false "full" possible: two workers want the last slot, see each other and both go. So a refusal
that other workers' passing attempts may explain is tried again under a kernel record lock on the row. Whoever comes
there last has no passing attempt beside it, so that the slot goes to somebody. Nobody waits there for long: after
`locks.TRIES` turns (a stopped process holds the lock) the answer is "full", which costs a detour to another backend.
"""

import os
import threading

import numpy as np
from numpy.typing import NDArray

from gpubalancer.board import locks
from gpubalancer.board.board import Board, BoardError


class Lease:
    """One slot on one backend; give it back with `release`.

    Attributes:
        row: the backend's row on the board.
    """

    __slots__ = ("_cell", "_cells", "row")

    def __init__(self, cells: memoryview, cell: int, row: int) -> None:
        self._cells: memoryview | None = cells
        self._cell = cell
        self.row = row

    def release(self) -> None:
        """Give the slot back. A second call does nothing."""
        cells = self._cells
        if cells is not None:
            self._cells = None
            cells[self._cell] -= 1

    @property
    def released(self) -> bool:
        """True once it has been given back."""
        return self._cells is None


class Slots:
    """One worker's way to the slots of all backends. One thread of one process uses it.

    It owns a row of counts until `close`, or its process ends. A worker that outlives its supervisor goes on counting
    there, and the successor's workers and it see each other.

    Arguments:
        board: attached or created; its file is opened once more, so that locks are this object's own.
        worker: the index among the supervisor's workers.

    Attributes:
        worker_row: the row of the board's per-worker columns that is this worker's.

    Errors:
        BoardError: another living process counts in this worker's row.
        ValueError: no such worker.
    """

    def __init__(self, board: Board, worker: int) -> None:
        if not 0 <= worker < board.workers:
            raise ValueError(f"worker {worker} of {board.workers}")
        self._fd = locks.reopen(board.fd)
        self._stride = board.layout.backends_limit
        try:
            self.worker_row = board.claim_worker_row(self._fd, worker)
            self._own = self.worker_row * self._stride
        except BoardError:
            self.close()
            raise
        self._cells = board.in_flight_cells()
        self._rows_used = board.rows_used_cell()
        self._all = board.all_in_flight
        self._first: NDArray[np.int32] = board.all_in_flight[0]
        self._fence = threading.Lock()

    def take(self, row: int, limit: int) -> Lease | None:
        """One slot of the backend at `row`, or None if all workers together hold `limit` already."""
        held = self._add_and_count(row)
        if held <= limit:
            return Lease(self._cells, self._own + row, row)
        self._cells[self._own + row] -= 1
        # Of `held`, one was ours, and at most one for each other worker was an attempt that passes.
        rows_used = self._rows_used[0]
        if rows_used == 1 or held - rows_used >= limit:
            return None
        return self._take_locked(row, limit)

    def total(self) -> NDArray[np.int32]:
        """In flight per row, all workers together. With one worker it is the board itself: read it before you await."""
        rows_used = self._rows_used[0]
        if rows_used == 1:
            return self._first
        everybody: NDArray[np.int32] = np.add.reduce(self._all[:rows_used], axis=0, dtype=np.int32)
        return everybody

    def close(self) -> None:
        """Give the row up. Leases that are still held are lost with it: release them before."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _add_and_count(self, row: int) -> int:
        self._cells[self._own + row] += 1
        with self._fence:
            pass
        with self._fence:
            pass
        return sum(self._cells[row : self._rows_used[0] * self._stride : self._stride])

    def _take_locked(self, row: int, limit: int) -> Lease | None:
        byte = locks.ROW_BYTE + row
        for _ in range(locks.TRIES):
            if locks.try_lock(self._fd, byte):
                break
            os.sched_yield()
        else:
            return None
        try:
            if self._add_and_count(row) <= limit:
                return Lease(self._cells, self._own + row, row)
            self._cells[self._own + row] -= 1
            return None
        finally:
            locks.unlock(self._fd, byte)
