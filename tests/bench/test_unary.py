"""Open-loop load against servers that answer well and badly: every request ends in exactly one count."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from bench.backends import UNARY, StubConnection, Ticker
from bench.plan import Plan, Result
from bench.unary import UnaryRun, arrival_times_s

REQUESTS = len(arrival_times_s(200, 0.2, 3))


def play(server: Callable[[], asyncio.Protocol]) -> Result:
    """A fifth of a second of load on a server in the same loop."""

    async def run() -> Result:
        listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        async with listening:
            ports = (listening.sockets[0].getsockname()[1],)
            plan = Plan("unary", ports, "k", 64, 0.2, 4, rate_per_s=200, seed=3)
            return await UnaryRun(plan).play()

    return uvloop.run(run())


class Every(StubConnection):
    """A stub connection that says something else to every third request of the server, or hangs up."""

    count = 0

    def __init__(self, answer: bytes, *, close: bool = False) -> None:
        super().__init__(Ticker(1.0))
        self._other, self._close = answer, close

    def on_message_complete(self) -> None:
        """Answer, or not."""
        Every.count += 1
        if Every.count % 3:
            super().on_message_complete()
            return
        if self._other:
            self._transport.write(self._other)
        if self._close:
            self._transport.close()


@given(st.floats(1, 5000), st.floats(0.01, 1), st.integers(0, 5))
def test_arrivals_are_in_order_and_inside(rate_per_s: float, seconds: float, seed: int) -> None:
    """Times rise, lie inside the plan, and are the same for the same seed."""
    times = arrival_times_s(rate_per_s, seconds, seed)
    assert times == sorted(times) == arrival_times_s(rate_per_s, seconds, seed)
    assert times[0] == 0
    assert times[-1] < seconds


def test_arrivals_come_at_the_asked_rate() -> None:
    """Over a long plan the mean is the rate (a Poisson count of 10,000 has a deviation of 100)."""
    assert abs(len(arrival_times_s(1000, 10, 1)) - 10_000) < 600


def test_right_answers_are_all_counted() -> None:
    """Every planned request is done, none failed, and latencies are there."""
    result = play(lambda: StubConnection(Ticker(1.0)))
    assert (result.done, result.units, result.errors) == (REQUESTS, REQUESTS, {})
    assert result.p50_ms is not None
    assert result.p99_ms is not None
    assert 0 < result.p50_ms <= result.p99_ms


def test_statuses_are_counted_as_errors() -> None:
    """A 503 is one failed request under its own name; the rest is done."""
    Every.count = 0
    result = play(lambda: Every(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"))
    assert result.errors == {"status 503": REQUESTS // 3}
    assert result.done == result.units == REQUESTS - REQUESTS // 3


def test_wrong_bodies_are_counted_as_errors() -> None:
    """Status 200 alone is not enough."""
    Every.count = 0
    result = play(lambda: Every(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
    assert result.errors == {"wrong body": REQUESTS // 3}


def test_hang_ups_are_counted_and_connections_replaced() -> None:
    """A connection lost in the middle is one failed request; the others still find connections."""
    Every.count = 0
    result = play(lambda: Every(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", close=True))
    assert result.errors == {"connection lost": REQUESTS // 3}
    assert result.done + result.failed == REQUESTS


def test_closing_after_an_answer_is_no_error() -> None:
    """`Connection: close` costs a connection, not a request."""
    Every.count = 0
    closing = UNARY.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    result = play(lambda: Every(closing, close=True))
    assert (result.done, result.errors) == (REQUESTS, {})


def test_noise_is_counted_as_such() -> None:
    """What is no HTTP answer is a failure with that name."""
    Every.count = 0
    result = play(lambda: Every(b"\x00\x01 nothing of the kind\r\n\r\n"))
    assert result.errors == {"not HTTP": REQUESTS // 3}


def test_silence_is_counted_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that nobody answers end as "no answer" once the patience is over."""
    monkeypatch.setattr("bench.unary.PATIENCE_S", 0.1)
    result = play(asyncio.Protocol)
    assert result.errors == {"no answer": REQUESTS}
    assert (result.done, result.p50_ms) == (0, None)
