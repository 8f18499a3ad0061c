"""Pays for a stream as it comes, where a budget says that it must end when there is no more to spend.

What was reserved pays for so many tokens. Beyond that more is reserved, `STEP_TOKENS` at a time, and fewer where so
many no longer fit, down to one: a stream ends at the last token that its budgets hold, and they at nothing left. Events
that carry nothing (the role at the beginning, the finish reason) cost nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gpubalancer.brain.budget_store import Held
from gpubalancer.brain.price import Rates
from gpubalancer.domain.budget import SCALE, Claims, Spending
from gpubalancer.domain.outcome import Outcome
from gpubalancer.proxy.early_end import Cut, early_end
from gpubalancer.proxy.stream_usage import StreamWatch

STEP_TOKENS = 64
"""About a second of a stream: a second reservation each second costs what one request does."""


@dataclass(frozen=True, slots=True)
class Paying:
    """What a meter needs of the request.

    Attributes:
        held: its reservation.
        rates: what the backend charges it.
        now_ns: the store's clock.
    """

    held: Held
    rates: Rates
    now_ns: Callable[[], int]


def note_stop(outcome: Outcome, claims: Claims) -> None:
    """Record that a budget ended the stream; of several that may have, the first is named."""
    terms = next(terms for terms in claims.terms if terms.stops)
    outcome.stopped = True
    outcome.budget_actions += ((terms.owner, terms.unit, terms.per, "stopped"),)


class BudgetMeter:
    """The `Meter` of one stream.

    Attributes:
        paid: how many events with a mark may pass.
        go_on: called when a store that needed time has answered.
    """

    def __init__(self, paying: Paying, watch: StreamWatch, api: str, cut: Callable[[], Cut]) -> None:
        """`cut` tells where the stream ends, if it ends here."""
        self.paid = paying.held.covered_tokens
        self.go_on: Callable[[], None] = lambda: None
        self._paying = paying
        self._watch = watch
        self._api = api
        self._cut = cut
        self._step = STEP_TOKENS
        self._refused = False

    def ask(self, event: bytes) -> bool | None:
        """True if the event may pass; it has been paid for."""
        watch, held = self._watch, self._paying.held
        wanted = watch.marked + event.count(watch.mark)
        if not watch.carries(event):
            self.paid = max(self.paid, wanted)
            return True
        empty = watch.marked - watch.counted_tokens()
        while held.covered_tokens + empty < wanted:
            if self._refused:
                return False
            fits = self._extend()
            if fits is None:
                return None
            self._answered(fits)
        self.paid = held.covered_tokens + empty
        return True

    def last_words(self) -> bytes:
        """The end of the stream in its API's shape."""
        words = early_end(self._api, self._cut())
        return self._watch.boundary + words if self._watch.in_event else words

    def _extend(self) -> bool | None:
        rates, step = self._paying.rates, self._step
        nano_usd = round(rates.token_usd * step * SCALE["usd"])
        millijoules = round(rates.token_joules * step * SCALE["joules"])
        more = Spending(0, 0, step, 0, nano_usd, millijoules)
        return self._paying.held.extend(more, self._paying.now_ns(), self._later)

    def _answered(self, fits: bool) -> None:
        if not fits:
            self._refused, self._step = self._step == 1, max(1, self._step // 2)

    def _later(self, fits: bool) -> None:
        self._answered(fits)
        self.go_on()
