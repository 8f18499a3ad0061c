"""The till: one worker's way to the budgets. A request reserves before it is served and settles after, once.

    reservation = till.reserve(claims, expected, till.now_ns(), label)
    if isinstance(reservation, Refusal): ...            # 429
    reservation.sent(prompt_tokens, server)             # the backend has it
    reservation.progress(completion_tokens)             # with each chunk: one store
    reservation.settle(spending, till.now_ns())         # or release(); a second call does nothing

Each request in flight has a slot in the worker's own file, also one that no budget counts (`enter`). A worker that is
gone leaves its slots behind, and `budget_recovery` settles them.

A lock that can't be had in time (its holder was stopped, not killed) refuses a reservation with `BusyError`, and puts a
settlement off: it is written down, and done with one of the next calls.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from gpubalancer.board import locks
from gpubalancer.board.board import BoardError
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_layout import (
    LINKS_CELL,
    ROW_CELLS,
    SHAPE_CELL,
    SLOT_ACTUAL,
    SLOT_CELLS,
    SLOT_HELD,
    SLOT_OP,
    STATE,
    WORKER_ROWS,
    Slot,
)
from gpubalancer.board.budget_locks import BusyError
from gpubalancer.board.budget_reservation import Reservation
from gpubalancer.board.budget_settling import NEVER, settle_rows
from gpubalancer.board.budget_slots import SlotFile, slots_path
from gpubalancer.domain.budget import Claims, Refusal, Spending, Standing, State, Terms, refusal, standing

UNCOUNTED = Claims((), stops=False)
"""Of a request that no budget counts."""
BOUND_LIMIT = 131_072
"""Claims whose rows a worker remembers; beyond, it forgets all and looks them up again."""

_HELD, _SETTLING, _SETTLED = int(Slot.HELD), int(Slot.SETTLING), int(Slot.SETTLED)
"""An enumeration's members are slow to reach."""


@dataclass(frozen=True, slots=True)
class _Bound:
    """Where the rows of some claims are; true while the file's shape is the same and the root is one."""

    rows: tuple[int, ...]
    places: tuple[int, ...]
    root: int
    shape: int


class Till:
    """One worker's way to all budgets. One thread of one process uses it.

    Arguments:
        file: attached for this till alone, so that its locks are its own.
        worker: the worker row.

    Attributes:
        slots: its requests in flight.

    Errors:
        BoardError: a living process uses this worker row, or what a dead one left there is not recovered yet.
        ValueError: no such worker row.
    """

    def __init__(self, file: BudgetFile, worker: int) -> None:
        if not 0 <= worker < WORKER_ROWS:
            raise ValueError(f"worker row {worker} of {WORKER_ROWS}")
        if not locks.try_lock(file.fd, locks.WORKER_BYTE + worker):
            raise BoardError(f"worker row {worker} of {file.path.name} is in use by another process")
        self.worker = worker
        self.slots = SlotFile(slots_path(file.path, worker))
        self._file = file
        self._bound: dict[Claims, _Bound] = {}
        self._late: deque[tuple[int, Claims, bool]] = deque()
        self._op, _ = file.finish(worker)
        if self.slots.outstanding:
            self.close()
            raise BoardError(f"worker row {worker} of {file.path.name} has requests of a process that is gone")

    def now_ns(self) -> int:
        """The time that all workers share, for `reserve` and `settle`."""
        return self._file.now_ns()

    @property
    def outstanding(self) -> int:
        """Requests that are in flight or wait for their record, those that no budget counts included."""
        return self.slots.outstanding

    @property
    def late(self) -> int:
        """Settlements that were put off."""
        return len(self._late)

    def reserve(self, claims: Claims, expected: Spending, now_ns: int, label: bytes = b"") -> Reservation | Refusal:
        """Reserve what a request is expected to take, in all of its budgets or in none.

        The label, at most 416 bytes, is what `recover` tells of the request if this process dies.

        Errors:
            BusyError: a lock was not to be had in time.
            OSError: the disk is full.
        """
        if self._late:
            self.settle_late()
        needs = [terms.need(expected) for terms in claims.terms]
        bound = self._enter(claims)
        file = self._file
        overdrawn: list[Terms] = []
        try:
            states = self._take(claims, bound, needs, now_ns, overdrawn)
            if isinstance(states, Refusal):
                return states
            slot, op = self.slots.take(), self._next_op()
            self.slots.begin(slot, op, now_ns, bound.rows, needs, label)
            file.commit(self.worker, op, bound.root, bound.places, states)
            self.slots.cells[slot * SLOT_CELLS] = _HELD
        finally:
            file.unlock(bound.root)
        reservation = Reservation(self, slot, claims, expected.completion_tokens, states, now_ns)
        if overdrawn:
            reservation.overdrawn = tuple(overdrawn)
        return reservation

    def enter(self, now_ns: int, label: bytes) -> Reservation:
        """Write down a request that no budget counts: it reserves nothing, and is on record also if this process dies.

        Errors:
            OSError: the disk is full.
        """
        slot = self.slots.take()
        self.slots.begin(slot, 0, now_ns, (), (), label)
        self.slots.cells[slot * SLOT_CELLS] = _HELD
        return Reservation(self, slot, UNCOUNTED, 0, [], now_ns)

    def standings(self, claims: Claims, now_ns: int) -> list[Standing]:
        """How the budgets stand now, for an answer without a reservation; those that only count left out.

        Errors:
            BusyError: a lock was not to be had in time.
        """
        bound = self._enter(claims)
        states = [STATE.unpack_from(self._file.memory, place) for place in bound.places]
        self._file.unlock(bound.root)
        pairs = zip(claims.terms, states, strict=True)
        return [standing(terms, terms.at(state, now_ns), now_ns) for terms, state in pairs if not terms.shadow]

    def extend(self, slot: int, claims: Claims, more: Spending, now_ns: int) -> bool:
        """Reserve more for a request in flight, in all budgets that end an answer or in none.

        The others are settled for what it takes. See `Reservation.extend`.
        """
        needs = [terms.charge(more) if terms.stops else 0 for terms in claims.terms]
        bound = self._enter(claims)
        try:
            states = self._stretch(claims, bound, needs, now_ns)
            if states is None:
                return False
            held = [before + need for before, need in zip(self.slots.held(slot), needs, strict=True)]
            op, base = self._next_op(), slot * SLOT_CELLS
            # The number goes first: while the state is still HELD, it means nothing.
            self.slots.write(slot, SLOT_ACTUAL, held)
            self.slots.cells[base + SLOT_OP] = op
            self.slots.cells[base] = Slot.EXTENDING
            self._file.commit(self.worker, op, bound.root, bound.places, states)
            self.slots.write(slot, SLOT_HELD, held)
            self.slots.cells[base] = _HELD
        finally:
            self._file.unlock(bound.root)
        return True

    def settle(self, slot: int, claims: Claims, spending: Spending, now_ns: int, *, keep: bool) -> None:
        """Write down what a request took and settle it, now or with a later call; see `Reservation.settle`."""
        cells, base = self.slots.cells, slot * SLOT_CELLS
        if not claims.terms:
            self.slots.note(slot, spending)
            self._end(slot, keep=keep)
            return
        actual = [terms.charge(spending) for terms in claims.terms]
        self.slots.write(slot, SLOT_ACTUAL, actual)
        self.slots.note(slot, spending)
        cells[base + SLOT_OP] = NEVER
        cells[base] = _SETTLING
        try:
            self._settle_now(slot, claims, actual, now_ns, keep=keep)
        except BusyError:
            self._late.append((slot, claims, keep))

    def settle_late(self) -> None:
        """Settle what was put off because a lock was not to be had; for the worker's own regular round."""
        while self._late:
            slot, claims, keep = self._late[0]
            try:
                self._settle_now(slot, claims, self.slots.actual(slot), self.now_ns(), keep=keep)
            except BusyError:
                return
            self._late.popleft()

    def forget(self, slot: int) -> None:
        """Free the slot of a settlement that was kept; if it was put off, as soon as it is made."""
        if self.slots.state(slot) == _SETTLED:
            self.slots.give(slot)
        else:
            self._late = deque((late, claims, keep and late != slot) for late, claims, keep in self._late)

    def close(self) -> None:
        """Let everything go. Reservations that are still held are left for `recover`."""
        self.slots.close()
        self._file.close()

    def _take(
        self, claims: Claims, bound: _Bound, needs: list[int], now_ns: int, overdrawn: list[Terms]
    ) -> list[State] | Refusal:
        """The states with these amounts reserved, under the group's lock; nothing is written.

        Budgets that only count, and would have refused, are added to `overdrawn`.
        """
        memory, unpack, fits = self._file.memory, STATE.unpack_from, True
        before, after = [], []
        for terms, place, need in zip(claims.terms, bound.places, needs, strict=True):
            state = terms.at(unpack(memory, place), now_ns)
            if need > terms.remaining(state):
                if terms.shadow:
                    overdrawn.append(terms)
                else:
                    fits = False
            before.append(state)
            after.append(terms.take(state, need))
        if not fits and (refused := refusal(claims, before, needs, now_ns)) is not None:
            return refused
        return after

    def _stretch(self, claims: Claims, bound: _Bound, needs: list[int], now_ns: int) -> list[State] | None:
        """The states with these further amounts reserved, under the group's lock; None if one does not fit."""
        after = []
        for terms, place, need in zip(claims.terms, bound.places, needs, strict=True):
            state = terms.at(STATE.unpack_from(self._file.memory, place), now_ns)
            if need > max(0, terms.remaining(state)) and not terms.shadow:
                return None
            after.append(terms.take(state, need))
        return after

    def _next_op(self) -> int:
        self._op += 1
        return self._op

    def _enter(self, claims: Claims) -> _Bound:
        """Where the rows are, with their group's lock held."""
        file = self._file
        while True:
            bound = self._bound.get(claims) or self._bind(claims)
            root = bound.root
            file.lock(root)
            cells = file.cells
            if cells[SHAPE_CELL] == bound.shape and not cells[LINKS_CELL + root * ROW_CELLS]:
                return bound
            file.unlock(bound.root)
            del self._bound[claims]

    def _bind(self, claims: Claims) -> _Bound:
        if len(self._bound) >= BOUND_LIMIT:
            self._bound.clear()
        file = self._file
        shape = file.shape  # before the rows are looked up: a row that is freed meanwhile makes this out of date
        rows = tuple(file.place(claims.terms))
        bound = _Bound(rows, tuple(map(file.state_at, rows)), file.root(rows[0]), shape)
        self._bound[claims] = bound
        return bound

    def _settle_now(self, slot: int, claims: Claims, actual: Sequence[int], now_ns: int, *, keep: bool) -> None:
        bound = self._enter(claims)
        try:
            what = self.worker, self._next_op(), slot
            amounts = self.slots.held(slot), actual
            settle_rows(self._file, self.slots, what, claims.terms, bound.places, amounts, bound.root, now_ns)
        finally:
            self._file.unlock(bound.root)
        self._end(slot, keep=keep)

    def _end(self, slot: int, *, keep: bool) -> None:
        if keep:
            self.slots.cells[slot * SLOT_CELLS] = _SETTLED
        else:
            self.slots.give(slot)
