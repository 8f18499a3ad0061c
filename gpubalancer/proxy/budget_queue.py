"""Requests that wait until a budget with `when_spent: queue` pays for them.

Before each budget that makes wait stands one line, in the order of arrival; whoever comes to a budget with a line joins
it and does not overtake. The head tries when the budget has refilled for it, then the next one is the head. How long a
newcomer would wait is known: until the head may go, and what all before it and itself need by the pace of the refill.
One that would wait longer than `routing.queue.timeout`, or find more than `routing.queue.limit` before it, is refused
at once, and told its place and the time. Each worker has its own lines.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gpubalancer.brain.budget_store import Held
from gpubalancer.domain.budget import GAUGE_RETRY_S, SECOND_NS, Bucket, Claims, Gauge, Refusal, Terms

Try = Callable[[], Awaitable[Held | Refusal]]


@dataclass(slots=True)
class Ticket:
    """One request in line.

    Attributes:
        need: what it wants of the budget that it waits for.
        turn: done when it is the head.
    """

    need: int
    turn: asyncio.Future[None]


@dataclass(slots=True)
class Line:
    """Those who wait for one budget."""

    terms: Terms
    tickets: deque[Ticket] = field(default_factory=deque)
    ready_s: float = 0.0
    """When the head may go."""

    def wait_s(self, need: int, now_s: float) -> float:
        """How long a newcomer would wait."""
        behind = list(self.tickets)[1:]
        ahead = sum(ticket.need for ticket in behind) + need if self.tickets else 0
        return max(0.0, self.ready_s - now_s) + _pace_s(self.terms, ahead, len(self.tickets))


@dataclass(frozen=True, slots=True)
class TooLong:
    """A request that is not held.

    Attributes:
        terms: the budget.
        position: the place that it would have had, from 1.
        wait_s: how long it would have taken.
    """

    terms: Terms
    position: int
    wait_s: float


class BudgetQueue:
    """All lines of one worker.

    Attributes:
        lines: by the budget's id; empty while nobody waits.
        waiting: how many wait in all.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.lines: dict[bytes, Line] = {}
        self.waiting = 0
        self._clock = clock

    def __repr__(self) -> str:
        return f"<BudgetQueue {self.waiting} in {len(self.lines)} lines>"

    def before(self, claims: Claims) -> Line | None:
        """A line that a request with these claims must join."""
        return next((self.lines[terms.id] for terms in claims.terms if terms.id in self.lines), None)

    def line_of(self, refused: Refusal) -> Line:
        """The line before the budget that refuses; a new one where nobody waits yet."""
        line = self.lines.get(refused.terms.id) or Line(refused.terms)
        if not line.tickets:
            line.ready_s = self._clock() + (refused.retry_after_s or 0.0)
        return line

    def too_long(self, line: Line, need: int, patience_s: float, limit: int) -> TooLong | None:
        """Why a request is not held, None if it may join the line."""
        wait_s = line.wait_s(need, self._clock())
        if self.waiting < limit and wait_s <= patience_s:
            return None
        return TooLong(line.terms, len(line.tickets) + 1, wait_s)

    async def wait(self, line: Line, need: int, patience_s: float, attempt: Try) -> Held | Refusal | TooLong:
        """Stand in line, and try when it is our turn; returns what the last try gave, or that our turn did not come.

        Arguments:
            line: to join.
            need: what is wanted of its budget.
            patience_s: how long to wait at most.
            attempt: reserves.
        """
        until_s = self._clock() + patience_s
        ticket = Ticket(need, asyncio.get_running_loop().create_future())
        self.lines[line.terms.id] = line
        line.tickets.append(ticket)
        self.waiting += 1
        try:
            if line.tickets[0] is not ticket:
                await asyncio.wait((ticket.turn,), timeout=patience_s)
                if line.tickets[0] is not ticket:
                    place = line.tickets.index(ticket)
                    return TooLong(line.terms, place + 1, line.wait_s(need, self._clock()))
            while True:
                await asyncio.sleep(max(0.0, min(line.ready_s, until_s) - self._clock()))
                found = await attempt()
                if not isinstance(found, Refusal) or found.terms.id != line.terms.id:
                    return found
                line.ready_s = self._clock() + (found.retry_after_s or 0.0)
                if found.retry_after_s is None or line.ready_s > until_s:
                    return found
        finally:
            self._leave(line, ticket)

    def _leave(self, line: Line, ticket: Ticket) -> None:
        self.waiting -= 1
        line.tickets.remove(ticket)
        if not line.tickets:
            self.lines.pop(line.terms.id, None)
            return
        head = line.tickets[0]
        if not head.turn.done():
            head.turn.set_result(None)


def _pace_s(terms: Terms, amount: int, places: int) -> float:
    """How long a budget takes to regain an amount; a window's all come at once."""
    if isinstance(terms, Bucket):
        return amount * terms.period_ns / terms.limit / SECOND_NS
    return GAUGE_RETRY_S * places if isinstance(terms, Gauge) else 0.0
