"""What a request may spend, reserved before it is served, and settled and put on record when it has ended.

A reservation is taken from every budget that applies or from none, and stands in a slot of the worker's own file, as
does a request that no budget counts: if this process dies, the supervisor settles and records what it had in flight
from there (`treasury`). How far answers have come is written there a few times a second, not with each chunk.

The end has three steps: the budgets are settled, the record is written, the slot is freed. A request that died between
two of them is found in its slot, settled, and in the journal or not. So each is charged once and recorded once, and the
record has the numbers that were charged.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from gpubalancer.brain.budget import expected, refused
from gpubalancer.brain.budget_headers import limit_lines
from gpubalancer.brain.budget_store import Held, Store
from gpubalancer.brain.downgrade import downgrade
from gpubalancer.brain.price import HOUR_S, Rates, dearest
from gpubalancer.brain.rules import Fields
from gpubalancer.domain.budget import MILLION, NOTHING, Claims, Refusal, Spending, Terms
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.outcome import Outcome
from gpubalancer.domain.work import Work
from gpubalancer.proxy.budget_queue import BudgetQueue, Line, TooLong
from gpubalancer.proxy.generation import Generation
from gpubalancer.proxy.label import describe, label_of, server_of
from gpubalancer.proxy.metering import Paying

NANO, MILLI = 1_000_000_000, 1000
FULL_RETRY_S = 5.0
"""When a client may try again that was refused because there is no room for records."""


class Records(Protocol):
    """Where the end of every request is written down."""

    @property
    def is_full(self) -> bool:
        """True while there is no room."""

    @property
    def lost(self) -> int:
        """How many could neither be written nor kept."""

    def write(self, outcome: Outcome, spending: Spending, at_ns: int) -> bool:
        """Write down how a request ended, what it was charged and when (nanoseconds since 1970).

        Returns:
            False if there was no room, so that the next `flush` has to do it.
        """

    def flush(self) -> bool:
        """Write what there was no room for; True if nothing is left to be written."""


@dataclass(slots=True)
class Payment:
    """One request's reservation, and how far its answer has come.

    Attributes:
        lines: header lines that tell how the tightest budgets stand.
        streamed_tokens: asked a few times a second while the answer comes.
    """

    reservation: Held
    lines: bytes
    now_ns: Callable[[], int]
    streamed_tokens: Callable[[], int] | None = None

    def begin(self, prompt_tokens: int, outcome: Outcome, rates: Rates | None) -> None:
        """The backend that the outcome names is about to get the request; its rates where a budget counts them."""
        if rates is not None:
            price = rates.price.usd_per_million_tokens
            read_usd = rates.price.usd_per_hour / HOUR_S * rates.read_s
            prompt_usd = price.prompt + read_usd / max(1, prompt_tokens) * MILLION
            self.reservation.rate(prompt_usd, rates.token_usd * MILLION, rates.token_joules)
        self.reservation.sent(prompt_tokens, server_of(outcome))

    def paying(self, rates: Rates) -> Paying:
        """What pays for a stream that a budget may end."""
        return Paying(self.reservation, rates, self.now_ns)


@dataclass(frozen=True, slots=True)
class _Bill:
    """What one request wants to reserve."""

    claims: Claims
    spending: Spending
    label: bytes


class Cashier:
    """One worker's way to the budgets and to the records.

    Arguments:
        store: of the budgets.
        records: get the end of every request.
        refuses_unrecorded: refuse requests while they can't be put on record.

    Attributes:
        queue: who waits for budgets.
    """

    def __init__(
        self,
        store: Store,
        records: Records,
        *,
        refuses_unrecorded: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queue = BudgetQueue(clock)
        self._store = store
        self._records = records
        self._refuses_unrecorded = refuses_unrecorded
        self._payments: dict[Held, Payment] = {}
        self._unwritten: list[Held] = []

    async def reserve(
        self, generation: Generation, work: Work, key: bytes | None, outcome: Outcome, fields: Fields
    ) -> Payment:
        """Reserve what a request is expected to take; where no budget applies, only write down that it is here.

        A budget that is spent may make it wait, or make another request of it, as its `when_spent` says.

        Arguments:
            generation: the policy, whose `routing.queue` says how many may wait, and how long.
            work: the request.
            key: the SHA-256 of the key that it came with.
            outcome: its record.
            fields: of its head, for the rules about another request that it may become.

        Raises:
            RequestError: `rate_limit_exceeded`, `insufficient_quota`; `overloaded` if the budgets can't be read;
                `journal_full`.
        """
        if self._refuses_unrecorded and self._records.is_full:
            sentence = "There is no room to record requests."
            raise RequestError("journal_full", sentence, retry_after_s=FULL_RETRY_S)
        claims = generation.plan.claims(work.tenant, work.model, key)
        if claims is None:
            return self._enter(outcome)
        bill = _bill(generation, work, claims, outcome)
        line = self.queue.before(claims) if self.queue.lines else None
        found = await self._store.reserve(claims, bill.spending, bill.label) if line is None else None
        if found is None or isinstance(found, Refusal):
            found = await self._wait(generation, outcome, bill, line, found)
        if not isinstance(found, Refusal):
            return self._pay(found, outcome)
        if found.terms.when_spent == "downgrade":
            return await self._downgrade(generation, work, key, outcome, fields, found)
        _note(outcome, found.terms, "refused")
        raise _refused(found)

    async def _wait(
        self, generation: Generation, outcome: Outcome, bill: _Bill, line: Line | None, found: Refusal | None
    ) -> Held | Refusal:
        """What comes of waiting, where the budget that refuses makes requests wait."""
        if found is not None and (found.terms.when_spent != "queue" or found.retry_after_s is None):
            return found
        if line is None:
            if found is None:
                raise ValueError("neither a line nor a refusal")
            line = self.queue.line_of(found)
        settings, need = generation.policy.routing.queue, line.terms.need(bill.spending)
        position = len(line.tickets) + 1
        ended: Held | Refusal | TooLong | None = self.queue.too_long(line, need, settings.timeout_s, settings.limit)
        if ended is None:
            _note(outcome, line.terms, "queued")
            ended = await self.queue.wait(
                line, need, settings.timeout_s, lambda: self._store.reserve(bill.claims, bill.spending, bill.label)
            )
        if not isinstance(ended, TooLong):
            outcome.queue_position = position
            return ended
        _note(outcome, line.terms, "refused")
        raise _refused_in_line(ended, found)

    async def _downgrade(
        self,
        generation: Generation,
        work: Work,
        key: bytes | None,
        outcome: Outcome,
        fields: Fields,
        found: Refusal,
    ) -> Payment:
        """Reserve for the cheaper request that this one becomes."""
        plan, policy, economy = generation.plan, generation.policy, generation.judge.method.economy
        apply_rules = partial(generation.insight.rules.apply, fields=fields, wall_s=self._store.now_ns() / NANO)
        became = downgrade(work, policy, generation.fleet, economy, plan.tenant(work.tenant), apply_rules)
        _note(outcome, found.terms, "downgraded" if became else "refused")
        if not became:
            raise _refused(found)
        outcome.downgraded = became
        describe(outcome, work, policy)
        claims = plan.beyond(work.tenant, work.model, key)
        if claims is None:
            return self._enter(outcome)
        bill = _bill(generation, work, claims, outcome)
        again = await self._store.reserve(claims, bill.spending, bill.label)
        if isinstance(again, Refusal):
            _note(outcome, again.terms, "refused")
            raise _refused(again)
        return self._pay(again, outcome)

    def _enter(self, outcome: Outcome) -> Payment:
        """Write down a request that no budget counts."""
        held = self._store.enter(label_of(outcome))
        payment = self._payments[held] = Payment(held, b"", self._store.now_ns)
        return payment

    def _pay(self, held: Held, outcome: Outcome) -> Payment:
        if not outcome.downgraded:
            for terms in held.overdrawn:
                _note(outcome, terms, "would_refuse")
        lines = limit_lines(held.standings())
        if outcome.queue_position:
            lines += b"x-gpubalancer-queue-position: %d\r\n" % outcome.queue_position
        payment = self._payments[held] = Payment(held, lines, self._store.now_ns)
        return payment

    def end(self, payment: Payment | None, outcome: Outcome) -> None:
        """Charge what a request took, all given back if nothing was served, and put it on record; once for each.

        Arguments:
            payment: what it had reserved; None if it never came so far.
            outcome: how it ended.
        """
        spending, now_ns = spending_of(outcome), self._store.now_ns()
        if payment is None:
            self._records.write(outcome, spending, now_ns)
            return
        reservation = payment.reservation
        self._payments.pop(reservation, None)
        reservation.settle(spending, now_ns, keep=True)
        if self._records.write(outcome, spending, now_ns):
            reservation.forget()
        else:
            self._unwritten.append(reservation)

    def note_progress(self) -> None:
        """Write down how far each answer has come, and do what a lock or a full disk had put off; now and then."""
        for payment in self._payments.values():
            if payment.streamed_tokens is not None:
                payment.reservation.progress(payment.streamed_tokens())
        self._store.settle_late()
        # Another request may have taken the kept records along: then there is room, and yet there are slots to free.
        if (self._unwritten or self._records.is_full) and self._records.flush():
            unwritten, self._unwritten = self._unwritten, []
            for reservation in unwritten:
                reservation.forget()

    @property
    def outstanding(self) -> int:
        """Requests that hold a reservation in a budget."""
        return sum(bool(reservation.claims.terms) for reservation in self._payments) + self._store.late

    def close(self) -> None:
        """Let the budgets go."""
        self._store.close()


def _refused(found: Refusal) -> RequestError:
    """The answer to a request that does not fit, with how its budgets stand."""
    error = refused(found)
    error.lines = limit_lines(found.standings)
    if error.code == "insufficient_quota":
        error.lines += b"x-should-retry: false\r\n"
    return error


def _refused_in_line(late: TooLong, found: Refusal | None) -> RequestError:
    """The answer to a request that would wait too long, or behind too many."""
    sentence = f"The budget makes requests wait: this one would be number {late.position}, for {late.wait_s:.1f} s."
    error = RequestError("rate_limit_exceeded", sentence, retry_after_s=late.wait_s)
    error.lines = limit_lines(found.standings) if found is not None else b""
    error.lines += b"x-gpubalancer-queue-position: %d\r\n" % late.position
    return error


def _note(outcome: Outcome, terms: Terms, action: str) -> None:
    """Record what a budget did with the request, once."""
    said = (terms.owner, terms.unit, terms.per, action)
    if said not in outcome.budget_actions:
        outcome.budget_actions += (said,)


def _bill(generation: Generation, work: Work, claims: Claims, outcome: Outcome) -> _Bill:
    return _Bill(claims, _expected(generation, work, claims), label_of(outcome))


def _expected(generation: Generation, work: Work, claims: Claims) -> Spending:
    """What a request is expected to take; money and energy are reckoned only where a budget counts them."""
    if not claims.priced:
        return expected(work)
    economy, eligible = generation.judge.method.economy, generation.fleet.eligible(work)
    return expected(work, *dearest(economy, eligible, work.prompt_tokens, work.output_tokens_high))


def spending_of(outcome: Outcome) -> Spending:
    """What a request is charged: what it took, and nothing where nothing was served."""
    took = outcome.prompt_tokens or outcome.completion_tokens
    served = outcome.sent_s > 0 and not outcome.reason and outcome.status < 400
    if not took and not served:
        return NOTHING
    return Spending(
        outcome.prompt_tokens,
        outcome.cached_tokens,
        outcome.completion_tokens,
        1,
        round(outcome.usd * NANO),
        round(outcome.joules * MILLI),
    )
