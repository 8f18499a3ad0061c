"""What a worker that is gone had in flight, settled from its slots.

First each slot's state is made true: a change that the redo record says was made counts as made, any other as never
begun. Nothing is changed in the budgets on this way, so that it can be begun again. Then each request is settled: one
that no backend had is given back whole, one that was sent is charged for its prompt and for what had been streamed, one
that was already being settled gets what it was to get.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gpubalancer.board import locks
from gpubalancer.board.board import BoardError
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_layout import (
    SLOT_ACTUAL,
    SLOT_BYTES,
    SLOT_CACHED,
    SLOT_CELLS,
    SLOT_COMPLETION,
    SLOT_COMPLETION_RATE,
    SLOT_HELD,
    SLOT_JOULES,
    SLOT_JOULES_RATE,
    SLOT_OP,
    SLOT_PROMPT,
    SLOT_PROMPT_RATE,
    SLOT_REQUESTS,
    SLOT_SENT,
    SLOT_STARTED,
    SLOT_USD,
    WORKER_ROWS,
    Slot,
)
from gpubalancer.board.budget_settling import NEVER, settle_rows
from gpubalancer.board.budget_slots import SlotFile, slots_path
from gpubalancer.domain.budget import MILLION, NEW, NOTHING, Spending, Terms

TermsOf = Callable[[bytes], Terms | None]
"""The terms of a budget by its id, None if the policy no longer has it."""


@dataclass(frozen=True, slots=True)
class Left:
    """A request that a worker had in flight when it went.

    Attributes:
        label: as it was given to `reserve`.
        server: as it was given to `sent`; empty if it was not.
        started_ns: when it was reserved.
        spending: what it was charged.
        was_sent: a backend had it.
        was_settled: it had been settled, and only its record may be missing.
    """

    label: bytes
    server: bytes
    started_ns: int
    spending: Spending
    was_sent: bool
    was_settled: bool


def recover(file: BudgetFile, worker: int, terms_of: TermsOf, now_ns: int, record: Callable[[Left], None]) -> int:
    """Settle all that a dead worker had in flight; returns how many requests that was.

    `record` gets each after it was settled and before its slot is freed. If we are killed in between, the next
    `recover` hands it over again, as settled: whoever records looks whether it is on record already.

    Errors:
        BoardError: the worker lives.
        BusyError: a lock was not to be had; what was done stays done.
    """
    if not slots_path(file.path, worker).exists():
        return 0
    if not locks.try_lock(file.fd, locks.WORKER_BYTE + worker):
        raise BoardError(f"worker row {worker} of {file.path.name} is in use by a living process")
    slots = SlotFile(slots_path(file.path, worker))
    try:
        return _Recovery(file, slots, worker).run(terms_of, now_ns, record)
    finally:
        slots.close()
        locks.unlock(file.fd, locks.WORKER_BYTE + worker)


def dead_workers(file: BudgetFile) -> list[int]:
    """The worker rows that nobody alive uses and whose process has left requests behind.

    Rows without any are not locked, not even for a moment: a worker that is just starting may want one.
    """
    dead = []
    for worker in range(WORKER_ROWS):
        if _has_requests(slots_path(file.path, worker)) and locks.try_lock(file.fd, locks.WORKER_BYTE + worker):
            locks.unlock(file.fd, locks.WORKER_BYTE + worker)
            dead.append(worker)
    return dead


def _has_requests(path: Path) -> bool:
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return any(memoryview(data)[: len(data) // SLOT_BYTES * SLOT_BYTES].cast("q")[::SLOT_CELLS])


def counts_since_ns(terms: Terms, now_ns: int) -> int:
    """From when on spending still counts: a window's start, or, for a bucket, as long ago as it takes to fill."""
    limit, period_ns = terms.refill
    return now_ns - terms.capacity * period_ns // limit if period_ns else terms.at(NEW, now_ns)[2]


def rebuild(file: BudgetFile, budgets: Iterable[Terms], spent: Mapping[bytes, int], now_ns: int) -> int:
    """Fill a file that was begun anew from the ledger; returns how many budgets have been spent from.

    `spent` tells by id how much was spent of a budget since `counts_since_ns`. What a bucket regained in between is not
    known and not given.
    """
    count = 0
    for terms in budgets:
        amount, is_bucket = spent.get(terms.id, 0), terms.refill[1] > 0
        if amount > 0 and terms.unit != "concurrent":
            state = terms.at(NEW, now_ns)
            file.put(terms, terms.settle(state, 0, min(amount, terms.capacity) if is_bucket else amount))
            count += 1
    return count


class _Recovery:
    def __init__(self, file: BudgetFile, slots: SlotFile, worker: int) -> None:
        self._file, self._slots, self._worker = file, slots, worker
        self._op, self._applied = file.finish(worker)

    def run(self, terms_of: TermsOf, now_ns: int, record: Callable[[Left], None]) -> int:
        slots = self._slots
        for slot in list(slots.used()):
            self._make_true(slot)
        count = 0
        for slot in list(slots.used()):
            left = left_in(slots, slot)
            if slots.state(slot) != Slot.SETTLED:
                self._settle(slot, left, terms_of, now_ns)
            record(left)
            slots.give(slot)
            count += 1
        return count

    def _make_true(self, slot: int) -> None:
        cells, base = self._slots.cells, slot * SLOT_CELLS
        state, was_made = cells[base], cells[base + SLOT_OP] <= self._applied
        if not self._slots.is_sane(slot, self._file.rows) or (state == Slot.RESERVING and not was_made):
            self._slots.give(slot)
        elif state in (Slot.RESERVING, Slot.EXTENDING):
            if state == Slot.EXTENDING and was_made:
                self._slots.write(slot, SLOT_HELD, self._slots.actual(slot))
            cells[base] = Slot.HELD
        elif state == Slot.SETTLING:
            if was_made:
                cells[base] = Slot.SETTLED
            else:
                cells[base + SLOT_OP] = NEVER

    def _settle(self, slot: int, left: Left, terms_of: TermsOf, now_ns: int) -> None:
        file, slots, rows = self._file, self._slots, self._slots.rows(slot)
        cells, base = slots.cells, slot * SLOT_CELLS
        every = [terms_of(file.identity(row)) for row in rows]
        if not rows:
            slots.note(slot, left.spending)
            cells[base] = Slot.SETTLED
            return
        if cells[base] == Slot.HELD:
            pairs = zip(every, slots.held(slot), strict=True)
            slots.write(slot, SLOT_ACTUAL, [terms.charge(left.spending) if terms else held for terms, held in pairs])
            slots.note(slot, left.spending)
            cells[base + SLOT_OP] = NEVER
            cells[base] = Slot.SETTLING
        root = file.root(rows[0])
        file.lock(root)
        try:
            self._op += 1
            places = [file.state_at(row) for row in rows]
            amounts = slots.held(slot), slots.actual(slot)
            settle_rows(file, slots, (self._worker, self._op, slot), every, places, amounts, root, now_ns)
        finally:
            file.unlock(root)
        cells[base] = Slot.SETTLED


def left_in(slots: SlotFile, slot: int) -> Left:
    """What a slot of a worker that is gone tells of its request."""
    cells, base = slots.cells, slot * SLOT_CELLS
    was_settled = cells[base] != Slot.HELD
    spending = _as_written(cells, base) if was_settled else _as_streamed(cells, base)
    was_sent = was_settled or cells[base + SLOT_SENT] == 1
    return Left(slots.label(slot), slots.server(slot), cells[base + SLOT_STARTED], spending, was_sent, was_settled)


def _as_written(cells: memoryview, base: int) -> Spending:
    """What a slot was, or was to be, settled for."""
    return Spending(
        cells[base + SLOT_PROMPT],
        cells[base + SLOT_CACHED],
        cells[base + SLOT_COMPLETION],
        cells[base + SLOT_REQUESTS],
        cells[base + SLOT_USD],
        cells[base + SLOT_JOULES],
    )


def _as_streamed(cells: memoryview, base: int) -> Spending:
    """What a request had taken when its process died: nothing before it was sent, then its prompt and its stream."""
    if not cells[base + SLOT_SENT]:
        return NOTHING
    prompt, completion = cells[base + SLOT_PROMPT], cells[base + SLOT_COMPLETION]
    nano_usd = prompt * cells[base + SLOT_PROMPT_RATE] + completion * cells[base + SLOT_COMPLETION_RATE]
    return Spending(
        prompt, 0, completion, 1, nano_usd // MILLION, completion * cells[base + SLOT_JOULES_RATE] // MILLION
    )
