"""What one request holds: its reservation in all of its budgets, and its slot, until it is settled and on record."""

from collections.abc import Callable
from typing import Protocol

from gpubalancer.board.budget_layout import (
    SLOT_CELLS,
    SLOT_COMPLETION,
    SLOT_COMPLETION_RATE,
    SLOT_JOULES_RATE,
    SLOT_PROMPT,
    SLOT_PROMPT_RATE,
    SLOT_SENT,
)
from gpubalancer.board.budget_locks import BusyError
from gpubalancer.board.budget_slots import SlotFile
from gpubalancer.domain.budget import MILLION, NOTHING, Claims, Spending, Standing, State, Terms, standing


class Keeper(Protocol):
    """Who made the reservation: a `Till`."""

    slots: SlotFile

    def extend(self, slot: int, claims: Claims, more: Spending, now_ns: int) -> bool:
        """Reserve more for a slot; False if it does not fit."""

    def settle(self, slot: int, claims: Claims, spending: Spending, now_ns: int, *, keep: bool) -> None:
        """Settle a slot."""

    def forget(self, slot: int) -> None:
        """Free the slot of a settlement that was kept."""


class Reservation:
    """What one request holds until it is settled or released.

    Attributes:
        claims: the budgets.
        covered_tokens: how many tokens of answer are reserved.
        overdrawn: budgets that only count, and would have refused.
    """

    __slots__ = (
        "_base", "_cells", "_keeper", "_now_ns", "_slot", "_states", "_till", "claims", "covered_tokens", "overdrawn",
    )  # fmt: skip

    def __init__(
        self, till: Keeper, slot: int, claims: Claims, covered_tokens: int, states: list[State], now_ns: int
    ) -> None:
        self._till: Keeper | None = till
        self._keeper: Keeper | None = None
        self._slot = slot
        self._cells = till.slots.cells
        self._base = slot * SLOT_CELLS
        self._states, self._now_ns = states, now_ns
        self.claims = claims
        self.covered_tokens = covered_tokens
        self.overdrawn: tuple[Terms, ...] = ()

    def sent(self, prompt_tokens: int, server: bytes = b"") -> None:
        """A backend is about to get the request: from now on its prompt is charged, also if this process dies.

        What names the backend, at most 96 bytes, is what `recover` tells of it.
        """
        if server and self._till is not None:
            self._till.slots.serve(self._slot, server)
        self._cells[self._base + SLOT_PROMPT] = prompt_tokens
        self._cells[self._base + SLOT_SENT] = 1

    def progress(self, completion_tokens: int) -> None:
        """So much of the answer has been streamed in all."""
        self._cells[self._base + SLOT_COMPLETION] = completion_tokens

    def rate(self, prompt_usd: float, completion_usd: float, joules: float) -> None:
        """What the backend costs, should this process die.

        The prices are USD for a million tokens of the prompt and of the answer; the joules are for one token of it.
        """
        cells, base = self._cells, self._base
        cells[base + SLOT_PROMPT_RATE] = round(prompt_usd * 1_000_000_000)
        cells[base + SLOT_COMPLETION_RATE] = round(completion_usd * 1_000_000_000)
        cells[base + SLOT_JOULES_RATE] = round(joules * 1000 * MILLION)

    def extend(self, more: Spending, now_ns: int, then: Callable[[bool], None] | None = None) -> bool | None:
        """Reserve more, before an answer goes beyond what is covered.

        False if it does not fit, it is settled, or a lock was not to be had. `then` is for stores that need time, as
        this one does not.
        """
        till = self._till
        try:
            if till is None or not till.extend(self._slot, self.claims, more, now_ns):
                return False
        except BusyError:
            return False
        self.covered_tokens += more.completion_tokens
        return True

    def settle(self, spending: Spending, now_ns: int, *, keep: bool = False) -> None:
        """Put what the request took in the place of what it reserved. A second call does nothing.

        With `keep` the slot is held until `forget`, so that a record that was not yet written can be made up for.
        """
        till = self._till
        if till is not None:
            self._till = None
            till.settle(self._slot, self.claims, spending, now_ns, keep=keep)
            self._keeper = till if keep else None

    def release(self, now_ns: int) -> None:
        """Give all back: nothing was served. Does nothing after `settle`."""
        self.settle(NOTHING, now_ns)

    def forget(self) -> None:
        """The record is written: the slot of a settlement with `keep` may go. A second call does nothing."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.forget(self._slot)

    @property
    def slot(self) -> int:
        """Its slot in the worker's file."""
        return self._slot

    @property
    def settled(self) -> bool:
        """True once it has been settled or released."""
        return self._till is None

    def standings(self) -> list[Standing]:
        """How each budget stood right after this reservation, those that only count left out."""
        pairs = zip(self.claims.terms, self._states, strict=True)
        return [standing(terms, state, self._now_ns) for terms, state in pairs if not terms.shadow]
