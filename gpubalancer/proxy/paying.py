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
from gpubalancer.brain.budget import BudgetPlan, expected, refused
from gpubalancer.brain.budget_headers import limit_lines
from gpubalancer.domain.budget import NOTHING, Claims, Refusal, Spending
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.outcome import Outcome
from gpubalancer.domain.work import Work

LABEL_BYTES = 512
NANO, MILLI = 1_000_000_000, 1000


@dataclass(slots=True)
class Payment:
    """One request's reservation, and how far its answer has come.

    Attributes:
        lines: header lines that tell how the tightest budgets stand.
        streamed_tokens: asked a few times a second while the answer comes.
    """

    reservation: Reservation
    lines: bytes
    streamed_tokens: Callable[[], int] | None = None


class Cashier:
    """One worker's way to the budgets."""

    def __init__(self, till: Till) -> None:
        self._till = till
        self._open: set[Reservation] = set()
        self._payments: dict[Reservation, Payment] = {}

    async def reserve(
        self, plan: BudgetPlan, work: Work, key: bytes | None, outcome: Outcome, patience_s: float
    ) -> Payment | None:
        """Reserve what a request is expected to take; None if no budget applies.

        Arguments:
            plan: the policy's budgets.
            work: the request.
            key: the SHA-256 of the key that it came with.
            outcome: its record.
            patience_s: how long a budget with `when_spent: queue` lets it wait.

        Raises:
            RequestError: `rate_limit_exceeded`, `insufficient_quota`; `overloaded` if another process holds a lock.
        """
        claims = plan.claims(work.tenant, work.model, key)
        if claims is None:
            return None
        label = f"{outcome.request_id}\n{work.tenant}\n{work.model or ''}".encode()[:LABEL_BYTES]
        while True:
            found = self._reserve_now(claims, work, label)
            if not isinstance(found, Refusal):
                payment = Payment(found, limit_lines(found.standings()))
                self._payments[found] = payment
                return payment
            wait_s = found.retry_after_s
            if found.terms.when_spent != "queue" or wait_s is None or wait_s > patience_s:
                raise self._refused(found, claims)
            patience_s -= wait_s
            await asyncio.sleep(wait_s)

    def _reserve_now(self, claims: Claims, work: Work, label: bytes) -> Reservation | Refusal:
        try:
            return self._till.reserve(claims, expected(work), self._till.now_ns(), label)
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
