"""One budget as a number that is spent: what it counts, what is left, and when more comes.

Three kinds. A *bucket* refills steadily: `limit` in each period, at most `burst` saved up. A *window* is a calendar
day, week or month that begins anew. A *gauge* holds what is in use now (concurrent requests). Each is arithmetic on a
state of five whole numbers, so nothing drifts: tokens and requests count as they are, usd in nano-dollars, joules in
millijoules, time in nanoseconds since 1970.

A request *takes* its estimate before it is served and *settles* for the fact after. What it took beyond its estimate is
debited in full, and what is left may become negative: that is debt. A bucket refills out of its debt. A window hands to
the next one what over-runs took beyond its limit, and each window pays as much of it as its limit; a limit that was
lowered in a reload makes no debt.

Time never runs backwards: a state remembers the latest instant it has seen, and an earlier one changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

Unit = Literal["tokens", "prompt_tokens", "completion_tokens", "requests", "usd", "joules", "concurrent"]
WhenSpent = Literal["refuse", "queue", "downgrade"]

SCALE: dict[Unit, int] = {
    "tokens": 1,
    "prompt_tokens": 1,
    "completion_tokens": 1,
    "requests": 1,
    "usd": 1_000_000_000,
    "joules": 1000,
    "concurrent": 1,
}
"""How many of the numbers below make one of the unit."""

MOST = 1 << 60
"""The greatest limit, in those numbers: far enough below 2**63 that no sum on the board overflows."""
MILLION = 1_000_000
SECOND_NS = 1_000_000_000
GAUGE_RETRY_S = 1.0
"""When to ask again for a place that another request gives back: nobody can know."""

State: TypeAlias = tuple[int, int, int, int, int]
"""Used (with what is reserved), reserved, as of when (a window: its start), and two numbers of the kind: a bucket's
remainder of a division; a window's debt from before, and what over-runs took beyond its limit."""
NEW: State = (0, 0, 0, 0, 0)


class Spending(NamedTuple):
    """What one request takes, expected or in fact. Whole numbers, none negative."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt's tokens, those that the engine had already."""
    completion_tokens: int = 0
    requests: int = 0
    nano_usd: int = 0
    millijoules: int = 0


NOTHING = Spending()


class Calendar(Protocol):
    """Days, weeks or months on somebody's clock."""

    def window(self, now_ns: int) -> tuple[int, int]:
        """The start of the window that holds an instant, and the start of the next one."""

    def number(self, start_ns: int) -> int:
        """The number of the window that starts then; the next one's is higher by one."""


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What was agreed for one budget.

    Attributes:
        id: 16 bytes that stay the same while limit, burst and behaviour change.
        owner: the tenant whose budget it is.
        per: the period in the policy's words; empty for a gauge.
        limit: in the unit times its `SCALE`.
        capacity: the most that there can be: a bucket's burst, otherwise the limit.
        cached_millionths: weight of a cached prompt token.
        shadow: it counts, and refuses nobody.
    """

    id: bytes
    owner: str
    unit: Unit
    per: str
    limit: int
    capacity: int
    cached_millionths: int = MILLION
    when_spent: WhenSpent = "refuse"
    stops: bool = False
    shadow: bool = False

    @property
    def keep_ns(self) -> int:
        """So long after its last change (and once it is full), a state without reservations is as good as new."""
        return 60 * SECOND_NS

    @property
    def refill(self) -> tuple[int, int]:
        """How much comes in how many nanoseconds; 1 and 0 where nothing does."""
        return 1, 0

    def charge(self, spending: Spending) -> int:
        """How much a request's spending is here, rounded up."""
        unit = self.unit
        if unit == "tokens" or unit == "prompt_tokens":
            tokens = spending.prompt_tokens
            if spending.cached_tokens and self.cached_millionths != MILLION:
                spared = spending.cached_tokens * (MILLION - self.cached_millionths) // MILLION
                tokens = max(0, tokens - spared)
            return tokens + spending.completion_tokens if unit == "tokens" else tokens
        return _PLAIN[unit](spending)

    need = charge
    """How much a request must reserve; another number than its charge only for places."""

    def at(self, state: State, now_ns: int) -> State:
        """The state as time has changed it. An instant before the state's own changes nothing."""
        return state

    def remaining(self, state: State) -> int:
        """What is left; negative is debt. Of a state that is `at` now."""
        return self.capacity - state[0]

    def take(self, state: State, need: int) -> State:
        """Reserve, whether or not it fits."""
        used, reserved, stamp, first, second = state
        return used + need, reserved + need, stamp, first, second

    def settle(self, state: State, held: int, actual: int) -> State:
        """Put the fact in the place of what was reserved."""
        used, reserved, stamp, first, second = state
        return min(max(0, used + actual - held), 2 * MOST), max(0, reserved - held), stamp, first, second

    def wait_ns(self, state: State, need: int, now_ns: int) -> int | None:
        """How long until `need` may fit; 0 if it does, None if it never can. Of a state that is `at` now."""
        return 0 if need <= self.remaining(state) else None

    def reset_ns(self, state: State, now_ns: int) -> int:
        """How long until all of the capacity is there again, if nobody takes more."""
        return 0


_PLAIN: dict[Unit, Callable[[Spending], int]] = {
    "completion_tokens": lambda spending: spending.completion_tokens,
    "requests": lambda spending: spending.requests,
    "usd": lambda spending: spending.nano_usd,
    "joules": lambda spending: spending.millijoules,
    "concurrent": lambda spending: 0,
}


@dataclass(frozen=True, slots=True, eq=False)
class Bucket(Terms):
    """A limit in each period of `period_ns`, refilled steadily."""

    period_ns: int = SECOND_NS

    @property
    def refill(self) -> tuple[int, int]:
        """The limit and its period."""
        return self.limit, self.period_ns

    def at(self, state: State, now_ns: int) -> State:
        """Refilled by what the time since its last change is worth, to the last fraction."""
        used, reserved, stamp, carry, _ = state
        if used <= 0:
            return 0, reserved, max(now_ns, stamp), 0, 0
        if now_ns <= stamp:
            return state
        gained, carry = divmod((now_ns - stamp) * self.limit + carry, self.period_ns)
        return (0, reserved, now_ns, 0, 0) if gained >= used else (used - gained, reserved, now_ns, carry, 0)

    def wait_ns(self, state: State, need: int, now_ns: int) -> int | None:
        """Until enough has been refilled."""
        if need > self.capacity:
            return None
        return self._refill_ns(state, state[0] + need - self.capacity) + max(0, state[2] - now_ns)

    def reset_ns(self, state: State, now_ns: int) -> int:
        """Until it is full."""
        return self._refill_ns(state, state[0]) + max(0, state[2] - now_ns)

    def _refill_ns(self, state: State, missing: int) -> int:
        return max(0, -((state[3] - missing * self.period_ns) // self.limit))


@dataclass(frozen=True, slots=True, eq=False)
class Window(Terms):
    """A limit in each window of a calendar. What is in flight when a window ends is spent in the next one."""

    calendar: Calendar | None = None

    @property
    def keep_ns(self) -> int:
        """Longer than any month."""
        return 35 * 86_400 * SECOND_NS

    def at(self, state: State, now_ns: int) -> State:
        """In the window of now, with the debt of the windows before."""
        used, reserved, began_ns, debt, overrun = state
        window = self._window(now_ns)
        if window[0] <= began_ns:
            return state
        debt = min(debt + overrun, max(0, debt + used - reserved - self.limit))
        passed_ns = self._window(began_ns)[1]
        while debt and passed_ns < window[0]:
            debt, passed_ns = max(0, debt - self.limit), self._window(passed_ns)[1]
        return reserved, reserved, window[0], debt, 0

    def remaining(self, state: State) -> int:
        """What is left of this window's limit after the debt."""
        return self.capacity - state[3] - state[0]

    def settle(self, state: State, held: int, actual: int) -> State:
        """Put the fact in the place of what was reserved; what no longer fits is debt, unless it only counts."""
        used, reserved, began_ns, debt, overrun = state
        used, reserved = min(max(0, used + actual - held), 2 * MOST), max(0, reserved - held)
        beyond = min(actual - held, debt + used - self.limit)
        if beyond > 0 and not self.shadow:
            overrun += beyond
        return used, reserved, began_ns, debt, overrun

    def wait_ns(self, state: State, need: int, now_ns: int) -> int | None:
        """Until the next window begins."""
        if need > self.capacity:
            return None
        return 0 if need <= self.remaining(state) else self.reset_ns(state, now_ns)

    def reset_ns(self, state: State, now_ns: int) -> int:
        """Until the next window begins."""
        return max(0, self._window(max(now_ns, state[2]))[1] - now_ns)

    def _window(self, now_ns: int) -> tuple[int, int]:
        if self.calendar is None:
            raise ValueError("a window without a calendar")
        return self.calendar.window(now_ns)


@dataclass(frozen=True, slots=True, eq=False)
class Gauge(Terms):
    """A limit on requests at one time."""

    def need(self, expected: Spending) -> int:
        """One place for each request."""
        return 1

    def at(self, state: State, now_ns: int) -> State:
        """Only what is reserved is used."""
        return state[1], state[1], max(now_ns, state[2]), 0, 0

    def wait_ns(self, state: State, need: int, now_ns: int) -> int | None:
        """Nobody knows when a request ends."""
        return 0 if need <= self.remaining(state) else int(GAUGE_RETRY_S * SECOND_NS)


@dataclass(frozen=True, slots=True)
class Standing:
    """How one budget stands, in its own unit: usd and joules with their fractions.

    Attributes:
        reset_s: seconds until it is whole again.
    """

    terms: Terms
    limit: float
    remaining: float
    reset_s: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that does not fit, and the budget that takes longest to heal.

    Attributes:
        retry_after_s: None if it can never fit.
        standings: how all of the request's budgets stand, those that only count left out.
    """

    standing: Standing
    retry_after_s: float | None
    standings: tuple[Standing, ...] = ()

    @property
    def terms(self) -> Terms:
        """The budget that refuses."""
        return self.standing.terms


@dataclass(frozen=True, slots=True, eq=False)
class Claims:
    """All budgets that a request counts in; made once for each payer and model, and known by its identity.

    Attributes:
        terms: the tenant's own first, then its ancestors'.
        stops: one of them ends an answer that it can no longer pay.
        priced: one of them counts money or energy.
    """

    terms: tuple[Terms, ...]
    stops: bool
    priced: bool = False


CLAIMS_LIMIT = 16
"""Most budgets that one request may count in."""


def standing(terms: Terms, state: State, now_ns: int) -> Standing:
    """How a budget stands, of a state that is `at` now."""
    scale = SCALE[terms.unit]
    remaining, reset_s = terms.remaining(state), terms.reset_ns(state, now_ns) / SECOND_NS
    if scale == 1:
        return Standing(terms, terms.capacity, remaining, reset_s)
    return Standing(terms, terms.capacity / scale, remaining / scale, reset_s)


def refusal(claims: Claims, states: list[State], needs: list[int], now_ns: int) -> Refusal | None:
    """The refusal of a request, None if it fits everywhere. Of several, the one that takes longest to heal."""
    found: tuple[int | None, int] | None = None
    for index, terms in enumerate(claims.terms):
        if needs[index] <= terms.remaining(states[index]) or terms.shadow:
            continue
        wait_ns = terms.wait_ns(states[index], needs[index], now_ns)
        if found is None or (found[0] is not None and (wait_ns is None or wait_ns > found[0])):
            found = wait_ns, index
    if found is None:
        return None
    wait_ns, index = found
    pairs = zip(claims.terms, states, strict=True)
    every = tuple(standing(terms, state, now_ns) for terms, state in pairs if not terms.shadow)
    stands = standing(claims.terms[index], states[index], now_ns)
    return Refusal(stands, None if wait_ns is None else wait_ns / SECOND_NS, every)
