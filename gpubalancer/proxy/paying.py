"""What a request may spend, reserved before it is served, and settled and put on record when it has ended.

A reservation is taken from every budget that applies or from none, and stands in a slot of the worker's own file, as
does a request that no budget counts: if this process dies, the supervisor settles and records what it had in flight
from there (`treasury`). How far answers have come is written there a few times a second, not with each chunk.

The end has three steps: the budgets are settled, the record is written, the slot is freed. A request that died between
two of them is found in its slot, settled, and in the journal or not. So each is charged once and recorded once, and the
record has the numbers that were charged.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gpubalancer.board.budget_locks import BusyError
from gpubalancer.board.budget_reservation import Reservation
from gpubalancer.board.budgets import Till
from gpubalancer.brain.budget import expected, refused
from gpubalancer.brain.budget_headers import limit_lines
from gpubalancer.brain.budget_store import Held
from gpubalancer.brain.price import HOUR_S, Rates, dearest
from gpubalancer.domain.budget import MILLION, NOTHING, Claims, Refusal, Spending, Terms
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.outcome import Outcome
from gpubalancer.domain.work import Work
from gpubalancer.proxy.generation import Generation
from gpubalancer.proxy.label import label_of, server_of
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


class Cashier:
    """One worker's way to the budgets and to the records.

    Arguments:
        till: the worker's own.
        records: get the end of every request.
        refuses_unrecorded: refuse requests while they can't be put on record.
    """

    def __init__(self, till: Till, records: Records, *, refuses_unrecorded: bool = True) -> None:
        self._till = till
        self._records = records
        self._refuses_unrecorded = refuses_unrecorded
        self._payments: dict[Held, Payment] = {}
        self._unwritten: list[Held] = []

    async def reserve(self, generation: Generation, work: Work, key: bytes | None, outcome: Outcome) -> Payment:
        """Reserve what a request is expected to take; where no budget applies, only write down that it is here.

        Arguments:
            generation: the policy, whose `routing.queue` says how long a budget with `when_spent: queue` may hold it.
            work: the request.
            key: the SHA-256 of the key that it came with.
            outcome: its record.

        Raises:
            RequestError: `rate_limit_exceeded`, `insufficient_quota`; `overloaded` if another process holds a lock;
                `journal_full`.
        """
        if self._refuses_unrecorded and self._records.is_full:
            sentence = "There is no room to record requests."
            raise RequestError("journal_full", sentence, retry_after_s=FULL_RETRY_S)
        claims, label = generation.plan.claims(work.tenant, work.model, key), label_of(outcome)
        if claims is None:
            return self._enter(label)
        spending = _expected(generation, work, claims)
        patience_s = generation.policy.routing.queue.timeout_s
        while True:
            found = self._reserve_now(claims, spending, label)
            if not isinstance(found, Refusal):
                for terms in found.overdrawn:
                    _note(outcome, terms, "would_refuse")
                payment = Payment(found, limit_lines(found.standings()), self._till.now_ns)
                self._payments[found] = payment
                return payment
            wait_s = found.retry_after_s
            if found.terms.when_spent != "queue" or wait_s is None or wait_s > patience_s:
                _note(outcome, found.terms, "refused")
                raise self._refused(found, claims)
            _note(outcome, found.terms, "queued")
            patience_s -= wait_s
            await asyncio.sleep(wait_s)

    def _enter(self, label: bytes) -> Payment:
        try:
            reservation = self._till.enter(self._till.now_ns(), label)
        except OSError:
            raise _no_room() from None
        payment = self._payments[reservation] = Payment(reservation, b"", self._till.now_ns)
        return payment

    def _reserve_now(self, claims: Claims, spending: Spending, label: bytes) -> Reservation | Refusal:
        try:
            return self._till.reserve(claims, spending, self._till.now_ns(), label)
        except BusyError:
            raise RequestError("overloaded", "The budgets could not be read in time.", retry_after_s=1) from None
        except OSError:
            raise _no_room() from None

    def _refused(self, found: Refusal, claims: Claims) -> RequestError:
        error = refused(found)
        error.lines = limit_lines(self._till.standings(claims, self._till.now_ns()))
        if error.code == "insufficient_quota":
            error.lines += b"x-should-retry: false\r\n"
        return error

    def end(self, payment: Payment | None, outcome: Outcome) -> None:
        """Charge what a request took, all given back if nothing was served, and put it on record; once for each.

        Arguments:
            payment: what it had reserved; None if it never came so far.
            outcome: how it ended.
        """
        spending, now_ns = spending_of(outcome), self._till.now_ns()
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
        self._till.settle_late()
        if self._records.is_full and self._records.flush():
            unwritten, self._unwritten = self._unwritten, []
            for reservation in unwritten:
                reservation.forget()

    @property
    def outstanding(self) -> int:
        """Requests that hold a reservation in a budget."""
        return sum(bool(reservation.claims.terms) for reservation in self._payments) + self._till.late

    def close(self) -> None:
        """Let the budgets go."""
        self._till.close()


def _note(outcome: Outcome, terms: Terms, action: str) -> None:
    """Record what a budget did with the request, once."""
    said = (terms.owner, terms.unit, terms.per, action)
    if said not in outcome.budget_actions:
        outcome.budget_actions += (said,)


def _expected(generation: Generation, work: Work, claims: Claims) -> Spending:
    """What a request is expected to take; money and energy are reckoned only where a budget counts them."""
    if not claims.priced:
        return expected(work)
    economy, eligible = generation.judge.method.economy, generation.fleet.eligible(work)
    return expected(work, *dearest(economy, eligible, work.prompt_tokens, work.output_tokens_high))


def _no_room() -> RequestError:
    return RequestError("overloaded", "There is no room to write a reservation.", retry_after_s=5)


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
