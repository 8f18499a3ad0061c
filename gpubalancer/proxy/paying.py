"""What a request may spend, reserved before it is served and settled when it has ended, whatever happened to it.

A reservation is taken from every budget that applies or from none, and stands in a slot of the worker's own file: if
this process dies, the supervisor settles what it had in flight from there (`treasury`). How far answers have come is
written there a few times a second, not with each chunk.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from gpubalancer.board.budget_locks import BusyError
from gpubalancer.board.budgets import Reservation, Till
from gpubalancer.brain.budget import expected, refused
from gpubalancer.brain.budget_headers import limit_lines
from gpubalancer.brain.budget_store import Held
from gpubalancer.brain.price import HOUR_S, Rates, dearest
from gpubalancer.domain.budget import MILLION, NOTHING, Claims, Refusal, Spending, Terms
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.outcome import Outcome
from gpubalancer.domain.work import Work
from gpubalancer.proxy.generation import Generation
from gpubalancer.proxy.metering import Paying

LABEL_BYTES = 512
NANO, MILLI = 1_000_000_000, 1000


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

    def begin(self, prompt_tokens: int, rates: Rates) -> None:
        """A backend that charges so much is about to get the request."""
        if self.reservation.claims.priced:
            price = rates.price.usd_per_million_tokens
            read_usd = rates.price.usd_per_hour / HOUR_S * rates.read_s
            prompt_usd = price.prompt + read_usd / max(1, prompt_tokens) * MILLION
            self.reservation.rate(prompt_usd, rates.token_usd * MILLION, rates.token_joules)
        self.reservation.sent(prompt_tokens)

    def paying(self, rates: Rates) -> Paying:
        """What pays for a stream that a budget may end."""
        return Paying(self.reservation, rates, self.now_ns)


class Cashier:
    """One worker's way to the budgets."""

    def __init__(self, till: Till) -> None:
        self._till = till
        self._payments: dict[Held, Payment] = {}

    async def reserve(self, generation: Generation, work: Work, key: bytes | None, outcome: Outcome) -> Payment | None:
        """Reserve what a request is expected to take; None if no budget applies.

        Arguments:
            generation: the policy, whose `routing.queue` says how long a budget with `when_spent: queue` may hold it.
            work: the request.
            key: the SHA-256 of the key that it came with.
            outcome: its record.

        Raises:
            RequestError: `rate_limit_exceeded`, `insufficient_quota`; `overloaded` if another process holds a lock.
        """
        claims = generation.plan.claims(work.tenant, work.model, key)
        if claims is None:
            return None
        spending = _expected(generation, work, claims)
        patience_s = generation.policy.routing.queue.timeout_s
        label = f"{outcome.request_id}\n{work.tenant}\n{work.model or ''}".encode()[:LABEL_BYTES]
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

    def _reserve_now(self, claims: Claims, spending: Spending, label: bytes) -> Reservation | Refusal:
        try:
            return self._till.reserve(claims, spending, self._till.now_ns(), label)
        except BusyError:
            raise RequestError("overloaded", "The budgets could not be read in time.", retry_after_s=1) from None
        except OSError:
            raise RequestError("overloaded", "There is no room to write a reservation.", retry_after_s=5) from None

    def _refused(self, found: Refusal, claims: Claims) -> RequestError:
        error = refused(found)
        error.lines = limit_lines(self._till.standings(claims, self._till.now_ns()))
        if error.code == "insufficient_quota":
            error.lines += b"x-should-retry: false\r\n"
        return error

    def settle(self, payment: Payment, outcome: Outcome) -> None:
        """Charge what the request took; give all back if nothing was served."""
        reservation = payment.reservation
        self._payments.pop(reservation, None)
        spending = _spending(outcome)
        if spending == NOTHING:
            reservation.release(self._till.now_ns())
        else:
            reservation.settle(spending, self._till.now_ns())

    def note_progress(self) -> None:
        """Write down how far each answer has come, and settle what a lock had put off; a few times a second."""
        for payment in self._payments.values():
            if payment.streamed_tokens is not None:
                payment.reservation.progress(payment.streamed_tokens())
        self._till.settle_late()

    @property
    def outstanding(self) -> int:
        """Requests that hold a reservation."""
        return self._till.outstanding

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


def _spending(outcome: Outcome) -> Spending:
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
