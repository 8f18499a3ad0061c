"""One try: what goes out, when, and what is known when it fails."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gpubalancer.brain.retry import Attempted
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Work
from gpubalancer.policy.routing import Timeouts
from gpubalancer.proxy.attempt import Attempt
from gpubalancer.wire.exchange import Exchange
from gpubalancer.wire.forward import Origin
from gpubalancer.wire.heads import ResponseHead
from gpubalancer.wire.pool import Endpoint, Pool
from gpubalancer.wire.sweep import Sweeper
from gpubalancer.wire.upstream import Upstream
from gpubalancer.wire.upstream_error import UpstreamError
from tests.wire.fakes import Clock, Seen, Transport, exchange_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
JSON = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
CHUNKED = b"POST /v1/audio/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class Stage:
    """A pool with one idle connection, whose backend the test plays."""

    def __init__(self) -> None:
        self.clock, self.transport = Clock(), Transport()
        sweeper = Sweeper(self.clock)
        endpoint = Endpoint("127.0.0.1", 1, Origin(b"backend", "", b""), None, None, 5.0, lambda address: True)
        self.pool = Pool(endpoint, self.clock, sweeper)
        self.upstream = Upstream(self.clock, sweeper, self.pool._forget)
        self.upstream.connection_made(self.transport)
        self.pool.give_back(self.upstream)
        self.attempt = Attempt(self.pool, self.clock)

    async def begin(self, exchange: Exchange, content: tuple[bytes, ...] | None) -> "asyncio.Task[ResponseHead]":
        """Run the attempt until it waits."""
        work = Work("completions", "llama", 0, False, float("inf"))
        running = self.attempt.run(exchange, work, content, b"1.1 us", b"id", Timeouts())
        task = asyncio.ensure_future(running)
        await turns()
        return task

    @property
    def sent_body(self) -> bytes:
        """What was sent behind the head."""
        return self.transport.written.partition(b"\r\n\r\n")[2]


async def turns() -> None:
    """Let whatever can go on go on."""
    for _ in range(6):
        await asyncio.sleep(0)


def play(scene: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    """Run a scene in an event loop."""

    async def run() -> None:
        await scene(Stage())

    asyncio.run(run())


def test_what_was_read_goes_out_in_one_piece() -> None:
    """Head and body are one request with the body's own length; an answer not taken whole closes its connection."""

    async def scene(stage: Stage) -> None:
        exchange, _ = exchange_of(JSON)
        task = await stage.begin(exchange, (b"longer body",))
        assert stage.sent_body == b"longer body"
        assert b"content-length: 11\r\n" in stage.transport.written
        assert stage.attempt.sent_s == stage.clock()
        stage.upstream.data_received(OK)
        assert (await task).status == 200
        stage.attempt.finish()
        assert stage.upstream.state == "closed"

    play(scene)


def test_a_large_body_goes_out_in_pieces() -> None:
    """Each when the backend takes it; the length is that of all, and the connection serves again."""

    async def scene(stage: Stage) -> None:
        exchange, _ = exchange_of(JSON)
        task = await stage.begin(exchange, (b"ab",) * 30)
        stage.upstream.pause_writing()
        assert b"content-length: 60\r\n" in stage.transport.written
        held = stage.sent_body
        await turns()
        assert stage.sent_body == held
        stage.upstream.resume_writing()
        for _ in range(10):
            await turns()
        assert stage.sent_body == b"ab" * 30
        assert len(held) < 60
        stage.upstream.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert (await task).status == 200

    play(scene)


def test_an_upload_is_passed_on_as_it_comes() -> None:
    """Pieces go out while they come, as chunks where the client's were, with one end."""

    async def scene(stage: Stage) -> None:
        seen = Seen()
        reader = seen.reader()
        reader.feed(CHUNKED)
        exchange, client = exchange_of(CHUNKED)
        exchange = Exchange(client, seen.heads[0], seen.bodies[0], 100.0, {})
        task = await stage.begin(exchange, None)
        reader.feed(b"3\r\nabc\r\n")
        assert stage.sent_body == b"3\r\nabc\r\n"
        reader.feed(b"0\r\n\r\n")
        await turns()
        assert stage.sent_body == b"3\r\nabc\r\n0\r\n\r\n"
        stage.upstream.data_received(OK)
        assert (await task).status == 200

    play(scene)


def test_an_upload_may_be_answered_before_its_end() -> None:
    """A backend that refuses early is heard at once, and its connection serves nobody else."""

    async def scene(stage: Stage) -> None:
        exchange, _ = exchange_of(CHUNKED + b"3\r\nabc\r\n")
        task = await stage.begin(exchange, None)
        stage.upstream.data_received(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        assert (await task).status == 413
        stage.attempt.finish()
        assert stage.upstream.state == "closed"
        assert stage.pool.take_nowait() is None

    play(scene)


def test_a_client_that_fails_its_upload_ends_the_try() -> None:
    """The body's failure is the request's, not the backend's; no end of the body is sent."""

    async def scene(stage: Stage) -> None:
        exchange, _ = exchange_of(CHUNKED + b"3\r\nabc\r\n")
        task = await stage.begin(exchange, None)
        exchange.body.fail(RequestError("request_timeout", "too slow"))
        with pytest.raises(RequestError):
            await task
        stage.attempt.finish()
        assert stage.sent_body == b"3\r\nabc\r\n"
        assert stage.transport.closed == "aborted"

    play(scene)


@pytest.mark.parametrize(
    ("raw", "content", "spent"),
    [(JSON, (b"body",), False), (JSON, (b"bo", b"dy"), False), (CHUNKED + b"1\r\na\r\n", None, True)],
)
def test_what_is_known_of_a_failure(raw: bytes, content: tuple[bytes, ...] | None, spent: bool) -> None:
    """A body that was passed on is spent; one that is kept is not."""

    async def scene(stage: Stage) -> None:
        exchange, _ = exchange_of(raw)
        task = await stage.begin(exchange, content)
        stage.upstream.connection_lost(None)
        with pytest.raises(UpstreamError) as caught:
            await task
        known = stage.attempt.failed(caught.value)
        assert known == Attempted(connected=True, reused=False, silent=True, timed_out=False, body_spent=spent)

    play(scene)
