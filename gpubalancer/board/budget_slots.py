"""A worker's slots: what each of its requests in flight has reserved, to be settled also when the worker is gone.

Only the worker writes here, or who has taken over its row. A slot's content is written before its state, and its state
says what is about to happen to the budgets; whether it did, the worker's redo record knows by the change's number.
"""

import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpubalancer.board.budget_layout import (
    AMOUNTS,
    BEGINS,
    CELL_BYTES,
    LABEL_AT,
    LABEL_BYTES,
    SERVER_AT,
    SERVER_BYTES,
    SLOT_ACTUAL,
    SLOT_BYTES,
    SLOT_CELLS,
    SLOT_COUNT,
    SLOT_HELD,
    SLOT_LABEL_BYTES,
    SLOT_ROWS,
    SLOT_SERVER_BYTES,
    SLOTS_LEAST,
    SPENT,
    SPENT_AT,
    Slot,
)
from gpubalancer.domain.budget import CLAIMS_LIMIT, Spending

_FREE, _RESERVING = int(Slot.FREE), int(Slot.RESERVING)
"""An enumeration's members are slow to reach."""


def slots_path(budgets: Path, worker: int) -> Path:
    """Where a worker row's slots are, beside the file of the budgets."""
    return budgets.with_name(f"{budgets.name}.worker-{worker}")


class SlotFile:
    """The slots of one worker row. One thread of one process uses it.

    Attributes:
        cells: the memory; a slot begins at its number times `SLOT_CELLS`.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.count = os.fstat(self._fd).st_size // SLOT_BYTES
        self._grow(max(SLOTS_LEAST, self.count))
        self._free = [slot for slot in reversed(range(self.count)) if not self.state(slot)]

    @property
    def outstanding(self) -> int:
        """How many slots are in use."""
        return self.count - len(self._free)

    def used(self) -> Iterator[int]:
        """The slots that are in use."""
        return (slot for slot in range(self.count) if self.state(slot))

    def state(self, slot: int) -> int:
        """A slot's state, one of `Slot`."""
        return self.cells[slot * SLOT_CELLS]

    def take(self) -> int:
        """A free slot; it stays free on the file until it is `begin`.

        Errors:
            OSError: the disk is full.
        """
        if not self._free:
            self._grow(2 * self.count)
        return self._free.pop()

    def give(self, slot: int) -> None:
        """Give a slot back."""
        self.cells[slot * SLOT_CELLS] = _FREE
        self._free.append(slot)

    def begin(self, slot: int, op: int, now_ns: int, rows: Sequence[int], held: Sequence[int], label: bytes) -> None:
        """Write down what is about to be reserved."""
        at, count, memory = slot * SLOT_BYTES, len(rows), self._memory
        label = label[:LABEL_BYTES]
        BEGINS[count].pack_into(memory, at, 0, op, now_ns, count, len(label), 0, *rows, *held)
        memory[at + LABEL_AT : at + LABEL_AT + len(label)] = label
        self.cells[slot * SLOT_CELLS] = _RESERVING

    def serve(self, slot: int, server: bytes) -> None:
        """Write down which backend gets the request."""
        server = server[:SERVER_BYTES]
        at = slot * SLOT_BYTES + SERVER_AT
        self._memory[at : at + len(server)] = server
        self.cells[slot * SLOT_CELLS + SLOT_SERVER_BYTES] = len(server)

    def note(self, slot: int, spending: Spending) -> None:
        """Write down what a request took."""
        prompt, cached, completion, *others = spending
        SPENT.pack_into(self._memory, slot * SLOT_BYTES + SPENT_AT, prompt, completion, cached, *others)

    def is_sane(self, slot: int, rows: int) -> bool:
        """True if a slot's content is one that we could have written, for a file with so many rows."""
        cells, base = self.cells, slot * SLOT_CELLS
        if cells[base] not in Slot.__members__.values() or not 0 <= cells[base + SLOT_COUNT] <= CLAIMS_LIMIT:
            return False
        if not 0 <= cells[base + SLOT_LABEL_BYTES] <= LABEL_BYTES:
            return False
        if not 0 <= cells[base + SLOT_SERVER_BYTES] <= SERVER_BYTES:
            return False
        return all(0 <= row < rows for row in self.rows(slot)) and min(self.held(slot), default=0) >= 0

    def rows(self, slot: int) -> tuple[int, ...]:
        """The rows that a slot has reserved in."""
        return self._amounts(slot, SLOT_ROWS)

    def held(self, slot: int) -> tuple[int, ...]:
        """What is reserved in each."""
        return self._amounts(slot, SLOT_HELD)

    def actual(self, slot: int) -> tuple[int, ...]:
        """What is to be there instead."""
        return self._amounts(slot, SLOT_ACTUAL)

    def write(self, slot: int, where: int, amounts: Sequence[int]) -> None:
        """Write one number for each row, at `SLOT_HELD` or `SLOT_ACTUAL`."""
        AMOUNTS[len(amounts)].pack_into(self._memory, slot * SLOT_BYTES + where * CELL_BYTES, *amounts)

    def label(self, slot: int) -> bytes:
        """What the request's owner wrote of it."""
        at = slot * SLOT_BYTES + LABEL_AT
        return self._memory[at : at + self.cells[slot * SLOT_CELLS + SLOT_LABEL_BYTES]]

    def server(self, slot: int) -> bytes:
        """Which backend got the request; empty if none did."""
        at = slot * SLOT_BYTES + SERVER_AT
        return self._memory[at : at + self.cells[slot * SLOT_CELLS + SLOT_SERVER_BYTES]]

    def close(self) -> None:
        """Let the file go. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _amounts(self, slot: int, where: int) -> tuple[int, ...]:
        count = self.cells[slot * SLOT_CELLS + SLOT_COUNT]
        return AMOUNTS[count].unpack_from(self._memory, slot * SLOT_BYTES + where * CELL_BYTES)

    def _grow(self, count: int) -> None:
        os.posix_fallocate(self._fd, 0, count * SLOT_BYTES)
        # Cells handed out before stay those of the same file: a mapping lives as long as somebody holds it.
        self._memory = mmap.mmap(self._fd, count * SLOT_BYTES)
        self.cells = memoryview(self._memory).cast("q")
        if count > self.count:
            self._free = list(reversed(range(self.count, count)))
        self.count = count
