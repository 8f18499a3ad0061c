"""Budgets that several balancers share, on one Valkey or Redis server.

Reserving is one round trip, and nothing of settling is on an answer's way: a settlement is written into the request's
slot on this machine and sent behind (`outbox`), until the server has said that it is done. The server does each once,
by the reservation's number, whatever a connection was cut, delayed or repeated in between.

Where the server does not answer in time, whether it has reserved is not known. Then the policy decides: the request is
refused, or goes on with this process's share of what was left when the server last told (`shares`). Either way what
becomes of the request is settled with its claims, so that a reservation that did happen is replaced, one that comes
late is refused, and one that never came is charged all the same.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gpubalancer.board.budget_layout import SLOT_CELLS, SLOT_ROWS, Slot
from gpubalancer.board.budget_reservation import Reservation
from gpubalancer.board.budget_slots import SlotFile
from gpubalancer.board.budgets import UNCOUNTED
from gpubalancer.domain.budget import Claims, Refusal, Spending, Standing, refusal, standing
from gpubalancer.domain.errors import RequestError
from gpubalancer.policy.valkey_url import Address
from gpubalancer.valkey.claims_text import Answer, Text, Texts, read, write_spending
from gpubalancer.valkey.connection import GoneError
from gpubalancer.valkey.link import DEADLINE_S, Link
from gpubalancer.valkey.outbox import Outbox, Parcel
from gpubalancer.valkey.shares import Shares

RESERVED = 1
"""The script's code for a reservation that was made."""
SURE, UNSURE = 0, 1
"""Whether the server is known to know of a reservation; in the place of a slot's row."""
_HELD, _SETTLING, _SETTLED = int(Slot.HELD), int(Slot.SETTLING), int(Slot.SETTLED)


class Closable(Protocol):
    """Holds this worker's row; let go at the end."""

    def close(self) -> None:
        """Let it go."""


class Holding(Reservation):
    """What one request holds on the server, or of this process's share.

    Attributes:
        number: its name in this session.
        text: its claims as they were sent.
        is_sure: the server has said that it is reserved there.
        needs: what it holds of the share, of each budget; empty where the server holds it.
    """

    __slots__ = ("_standings", "_store", "is_sure", "needs", "number", "text")

    def __init__(self, store: "ValkeyStore", slot: int, number: int, claims: Claims, text: Text, tokens: int) -> None:
        super().__init__(store, slot, claims, tokens, [], 0)
        self.number, self.text = number, text
        self.is_sure = False
        self.needs: list[int] = []
        self._store = store
        self._standings: list[Standing] = []

    def extend(self, more: Spending, now_ns: int, then: Callable[[bool], None] | None = None) -> bool | None:
        """Reserve more: the server is asked and `then` told, or the share is."""
        return False if self.settled or then is None else self._store.stretch(self, more, then)

    def standings(self) -> list[Standing]:
        """How each budget stood right after this reservation, those that only count left out."""
        return self._standings

    def reserved(self, answer: Answer) -> None:
        """The server has reserved."""
        self.is_sure = True
        terms = self.claims.terms
        self.overdrawn = tuple(each for place, each in enumerate(terms) if answer.more >> place & 1)
        pairs = zip(terms, answer.states, strict=True)
        self._standings = [standing(each, state, answer.now_ns) for each, state in pairs if not each.shadow]

    def shared(self, needs: list[int], standings: list[Standing]) -> None:
        """It is reserved of the share."""
        self.needs, self._standings = needs, standings


class ValkeyStore:
    """One worker's way to the shared budgets; a `Store`, and the keeper of its reservations.

    Arguments:
        address: of the server.
        session: names this process there; no two share one.
        path: of this worker row's slots.
        goes_on: what the policy says where the server is away: True to go on with our share.
        lock: keeps the row ours.

    Attributes:
        slots: its requests in flight.
        link: to the server.
        outbox: settlements on their way.
    """

    def __init__(self, address: Address, session: str, path: Path, goes_on: Callable[[], bool], lock: Closable) -> None:
        self.link = Link(address, session, self._came_back)
        self.outbox = Outbox(self.link.send)
        self.slots = SlotFile(path)
        self.now_ns = self.link.now_ns
        self._goes_on = goes_on
        self._lock = lock
        self._texts = Texts()
        self._shares = Shares()
        self._flying: dict[int, Holding] = {}
        self._kept: set[int] = set()
        self._number = 0
        self._away = False
        self._task = asyncio.get_running_loop().create_task(self.link.run())

    @property
    def late(self) -> int:
        """Settlements that the server has not confirmed yet."""
        return len(self.outbox)

    def enter(self, label: bytes) -> Reservation:
        """Write down a request that no budget counts.

        Raises:
            RequestError: `overloaded` if the disk is full.
        """
        slot = self._begin_slot(0, (), label)
        self.slots.cells[slot * SLOT_CELLS] = _HELD
        return Reservation(self, slot, UNCOUNTED, 0, [], 0)

    async def reserve(self, claims: Claims, expected: Spending, label: bytes = b"") -> Holding | Refusal:
        """Reserve in all of a request's budgets or in none, in one round trip.

        Raises:
            RequestError: `budgets_unreachable`, or `overloaded` if the disk is full.
        """
        is_away = self.link.breaker.is_open
        if is_away and not self._goes_on():
            raise _unreachable()
        holding = self._begin(claims, expected, label)
        if is_away:
            return self._of_share(holding, expected, was_asked=False)
        data, spending = holding.text.data, write_spending(expected)
        try:
            reply = await self.link.ask("reserve", self.link.session, holding.number, data, spending)
        except GoneError:
            if self._goes_on():
                return self._of_share(holding, expected, was_asked=True)
            holding.release(0)
            raise _unreachable() from None
        except asyncio.CancelledError:
            holding.release(0)
            raise
        return self._told(holding, expected, read(reply, claims, holding.text))

    def stretch(self, holding: Holding, more: Spending, then: Callable[[bool], None]) -> bool | None:
        """Reserve more for a request in flight; see `Holding.extend`."""
        if not holding.is_sure or self.link.breaker.is_open:
            return self._stretch_share(holding, more)
        future = self.link.send("extend", self.link.session, holding.number, write_spending(more))

        def told(_: object) -> None:
            timer.cancel()
            fits = not future.cancelled() and future.exception() is None and bool(future.result().startswith(b"1"))
            if fits:
                holding.covered_tokens += more.completion_tokens
            then(fits)

        def late() -> None:
            future.remove_done_callback(told)
            self.link.breaker.failed()
            then(False)

        timer = asyncio.get_running_loop().call_later(DEADLINE_S, late)
        future.add_done_callback(told)
        return None

    def extend(self, slot: int, claims: Claims, more: Spending, now_ns: int) -> bool:
        """Reserve more at once, for requests that no budget counts: nothing is needed."""
        return True

    def settle(self, slot: int, claims: Claims, spending: Spending, now_ns: int, *, keep: bool) -> None:
        """Write down what a request took, and send it behind."""
        self.slots.note(slot, spending)
        self.slots.cells[slot * SLOT_CELLS] = _SETTLING
        if keep:
            self._kept.add(slot)
        holding = self._flying.pop(slot, None)
        if holding is None:
            self._settled(slot)
            return
        if holding.needs:
            actual = [terms.charge(spending) for terms in claims.terms]
            self._shares.settle(claims, holding.needs, actual, self.now_ns())
        text, data = holding.text.data, write_spending(spending)
        unsure, session = not holding.is_sure, self.link.session
        self.outbox.put(Parcel(session, holding.number, data, text, unsure, lambda: self._settled(slot)))

    def forget(self, slot: int) -> None:
        """The record of a settlement is written: its slot may go when the server has confirmed, too."""
        self._kept.discard(slot)
        if self.slots.state(slot) == _SETTLED:
            self.slots.give(slot)

    def settle_late(self) -> None:
        """Send what waits."""
        self.outbox.pump()

    def close(self) -> None:
        """Let everything go; what was not confirmed is settled from the slots by whoever recovers them."""
        self._task.cancel()
        self.link.close()
        self.slots.close()
        self._lock.close()

    def _settled(self, slot: int) -> None:
        if slot in self._kept:
            self.slots.cells[slot * SLOT_CELLS] = _SETTLED
        else:
            self.slots.give(slot)

    def _begin(self, claims: Claims, expected: Spending, label: bytes) -> Holding:
        """Write down that something is about to be reserved, with a mark that the server may not know of it."""
        self._number += 1
        text = self._texts.of(claims, self.now_ns())
        slot = self._begin_slot(self._number, (UNSURE,), label)
        holding = Holding(self, slot, self._number, claims, text, expected.completion_tokens)
        self._flying[slot] = holding
        return holding

    def _begin_slot(self, number: int, rows: tuple[int, ...], label: bytes) -> int:
        try:
            slot = self.slots.take()
        except OSError:
            sentence = "There is no room to write a reservation."
            raise RequestError("overloaded", sentence, retry_after_s=5) from None
        named = b"%b\n%b" % (self.link.session.encode(), label)
        self.slots.begin(slot, number, self.now_ns(), rows, (0,) * len(rows), named)
        return slot

    def _told(self, holding: Holding, expected: Spending, answer: Answer) -> Holding | Refusal:
        """What the server's answer means."""
        self._away = False
        self.link.heard(answer.now_ns)
        self._shares.learn(holding.claims, answer.states)
        if answer.code == RESERVED:
            self.slots.write(holding.slot, SLOT_ROWS, (SURE,))
            self.slots.cells[holding.slot * SLOT_CELLS] = _HELD
            holding.reserved(answer)
            return holding
        self._drop(holding)
        needs = [terms.need(expected) for terms in holding.claims.terms]
        found = refusal(holding.claims, answer.states, needs, answer.now_ns) if answer.states else None
        if found is None:
            # Given up before it came, or the server's arithmetic is not ours.
            raise _unreachable()
        return found

    def _of_share(self, holding: Holding, expected: Spending, *, was_asked: bool) -> Holding | Refusal:
        """Go on with our share, which is settled with the claims.

        A server that was asked may have reserved all the same, so that a refusal has to be settled, too.
        """
        if not self._away:
            self._away = True
            self._shares.begin(self.link.peers)
        needs = [terms.need(expected) for terms in holding.claims.terms]
        found = self._shares.take(holding.claims, needs, self.now_ns())
        if isinstance(found, Refusal):
            if was_asked:
                holding.release(0)
            else:
                self._drop(holding)
            return found
        self.slots.cells[holding.slot * SLOT_CELLS] = _HELD
        holding.shared(needs, found)
        return holding

    def _stretch_share(self, holding: Holding, more: Spending) -> bool:
        if not self._goes_on():
            return False
        needs = [terms.charge(more) if terms.stops else 0 for terms in holding.claims.terms]
        if isinstance(self._shares.take(holding.claims, needs, self.now_ns()), Refusal):
            return False
        before = holding.needs or [0] * len(needs)
        holding.needs = [held + need for held, need in zip(before, needs, strict=True)]
        holding.covered_tokens += more.completion_tokens
        return True

    def _drop(self, holding: Holding) -> None:
        """Nothing is held, and there is nothing to settle."""
        del self._flying[holding.slot]
        self.slots.give(holding.slot)

    def _came_back(self) -> None:
        self._away = False
        self.outbox.pump()


def _unreachable() -> RequestError:
    return RequestError("budgets_unreachable", "The budgets can't be reached.", retry_after_s=1)
