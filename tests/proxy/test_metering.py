"""A stream that is paid for as it comes."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from gpubalancer.brain.price import Rates
from gpubalancer.domain.budget import Claims, Spending, Standing, Terms
from gpubalancer.policy.backends import Price
from gpubalancer.proxy.early_end import Cut
from gpubalancer.proxy.metering import STEP_TOKENS, BudgetMeter, Paying
from gpubalancer.proxy.stream_usage import StreamWatch
from tests.proxy.script import EVENT, STOP

ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'


@dataclass
class Held:
    """A reservation in a budget with so much left, or in one whose store needs time."""

    left: int
    covered_tokens: int = 0
    slow: bool = False
    asked: list[Spending] = field(default_factory=list)
    claims: Claims = field(default_factory=lambda: Claims((), True))
    overdrawn: tuple[Terms, ...] = ()
    then: Callable[[bool], None] = lambda fits: None

    def extend(self, more: Spending, now_ns: int, then: Callable[[bool], None]) -> bool | None:
        """Reserve more of what is left."""
        self.asked.append(more)
        self.then = then
        return None if self.slow else self.take(more.completion_tokens)

    def take(self, tokens: int) -> bool:
        """True if it fits."""
        if tokens > self.left:
            return False
        self.left -= tokens
        self.covered_tokens += tokens
        return True

    def sent(self, prompt_tokens: int, server: bytes) -> None:
        """Nothing."""

    def progress(self, completion_tokens: int) -> None:
        """Nothing."""

    def rate(self, prompt_usd: float, completion_usd: float, joules: float) -> None:
        """Nothing."""

    def settle(self, spending: Spending, now_ns: int, *, keep: bool = False) -> None:
        """Nothing."""

    def release(self, now_ns: int) -> None:
        """Nothing."""

    def forget(self) -> None:
        """Nothing."""

    def standings(self) -> list[Standing]:
        """Nothing."""
        return []


def meter(held: Held, price: Price | None = None) -> tuple[BudgetMeter, StreamWatch]:
    """The meter of a chat."""
    watch = StreamWatch("chat")
    paying = Paying(held, Rates(price or Price(), 100.0, 0.0, 0.5), lambda: 7)
    return BudgetMeter(paying, watch, "chat", lambda: Cut("/v1/chat/completions", (), "r", "m", 1, 1, 1, False)), watch


def streamed(held: Held, events: int = 10_000) -> int:
    """How many tokens pass before the stream is ended, or all have."""
    own, watch = meter(held)
    passed = 0
    for event in (ROLE, *[EVENT] * events, STOP):
        if watch.marked + 1 > own.paid and not own.ask(event):
            break
        watch.look(event)
        passed += event == EVENT
    return passed


@pytest.mark.parametrize("left", [0, 1, 5, STEP_TOKENS, 100, 1000])
def test_a_stream_ends_at_the_last_token_that_its_budgets_hold(left: int) -> None:
    """Nothing is left of them, and nothing is owed."""
    held = Held(left, covered_tokens=20)
    assert streamed(held) == 20 + left
    assert held.left == 0


def test_a_stream_that_ends_by_itself_is_not_ended() -> None:
    """The role and the finish reason cost nothing, so that an answer of just what is reserved passes whole."""
    held = Held(0, covered_tokens=20)
    assert streamed(held, 20) == 20
    assert held.asked == []


def test_each_token_has_its_price() -> None:
    """Money and energy are reserved with the tokens."""
    held = Held(1000)
    own, watch = meter(held, Price.model_validate({"usd_per_million_tokens": {"prompt": 1, "completion": 10}}))
    assert own.ask(EVENT)
    assert held.asked == [Spending(0, 0, STEP_TOKENS, 0, STEP_TOKENS * 10_000, STEP_TOKENS * 50_000)]
    assert own.paid == STEP_TOKENS
    assert watch.marked == 0


@pytest.mark.parametrize("fits", [True, False])
def test_a_store_that_needs_time_is_waited_for(fits: bool) -> None:
    """The meter says that it does not know; when it does, it says so, and is asked again."""
    held = Held(1000, slow=True)
    own, _ = meter(held)
    told: list[str] = []
    own.go_on = lambda: told.append("go on")
    assert own.ask(EVENT) is None
    if fits:
        held.take(held.asked[-1].completion_tokens)
    held.then(fits)
    assert told == ["go on"]
    assert own.ask(EVENT) is (True if fits else None)
    while not fits and held.asked[-1].completion_tokens > 1:
        held.then(False)
        own.ask(EVENT)
    if not fits:
        held.then(False)
        assert own.ask(EVENT) is False


def test_the_last_words_begin_a_new_event() -> None:
    """Where the client has been sent a part of one, that is ended first."""
    own, watch = meter(Held(0))
    assert own.last_words().startswith(b"data: ")
    watch.look(b"data: half an ev")
    assert own.last_words().startswith(b"\n\ndata: ")
