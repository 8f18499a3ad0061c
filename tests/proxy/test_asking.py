"""Who is asked for usage, and how a refusal is read."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gpubalancer.brain.document import read_document
from gpubalancer.brain.routes import find_route
from gpubalancer.domain.work import Work
from gpubalancer.proxy.asking import MOST_REFUSAL_BYTES, Asking, hides_usage, names_field, read_refusal
from gpubalancer.proxy.intake import Asked
from gpubalancer.wire.forward import Origin
from gpubalancer.wire.pool import Endpoint, Pool
from gpubalancer.wire.sweep import Sweeper
from gpubalancer.wire.upstream import Upstream
from gpubalancer.wire.upstream_error import UpstreamError
from tests.wire.fakes import Clock, Transport

STREAM = b'{"model":"a","stream":true}'


def asked(content: bytes = STREAM, path: str = "/v1/chat/completions") -> Asked:
    """A request with this body."""
    route = find_route(path)
    assert route is not None
    return Asked(Work(route.api, "a", 0, True, float("inf")), read_document(content, route))


def pool() -> Pool:
    """A pool that connects to nothing."""
    endpoint = Endpoint("127.0.0.1", 1, Origin(b"backend", "", b""), None, None, 5.0, lambda address: True)
    return Pool(endpoint, Clock(), Sweeper(Clock()))


@pytest.mark.parametrize(
    ("request_", "hidden"),
    [
        (asked(), True),
        (asked(path="/v1/completions"), True),
        (asked(b'{"model":"a","stream":true,"stream_options":{"include_usage":false}}'), True),
        (asked(b'{"model":"a","stream":true,"stream_options":{"include_usage":true}}'), False),
        (asked(b'{"model":"a"}'), False),
        (asked(path="/v1/messages"), False),
        (asked(path="/v1/responses"), False),
        (asked(path="/api/chat"), False),
        (Asked(Work("audio", "a", 0, False, float("inf")), None), False),
    ],
)
def test_who_is_asked(request_: Asked, hidden: bool) -> None:
    """Streams of OpenAI's two older APIs whose client does not ask itself."""
    assert hides_usage(request_) is hidden
    assert Asking().asks(pool(), request_) is hidden


def test_a_refuser_is_asked_no_more() -> None:
    """Others are, and memory of a refuser goes with its pool."""
    asking, strict, other = Asking(), pool(), pool()
    asking.refused(strict)
    assert (asking.asks(strict, asked()), asking.asks(other, asked())) == (False, True)
    assert repr(asking) == "<Asking all but 1>"
    del strict
    gc.collect()
    assert repr(asking) == "<Asking all but 0>"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b'{"error":{"message":"Unrecognized request argument supplied: stream_options"}}', True),
        (b'{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"]}]}', True),
        (b'{"detail":[{"loc":["body","stream_options","include_usage"]}]}', True),
        (b'{"error":{"message":"max_tokens must be at least 1"}}', False),
        (b"", False),
    ],
)
def test_what_a_refusal_is_for(content: bytes, named: bool) -> None:
    """It names the field, in whatever shape."""
    assert names_field(content) is named


def reading(scene: Callable[[Upstream, "asyncio.Task[bytes]"], Coroutine[Any, Any, None]], head: bytes) -> None:
    """Run a scene in which an answer with this head has come and its body is being read."""

    async def run() -> None:
        upstream = Upstream(Clock(), Sweeper(Clock()), lambda gone: None)
        upstream.connection_made(Transport())
        upstream.send(b"x", wait_s=9.0, between_s=9.0)
        upstream.data_received(head)
        await upstream.answer
        task = asyncio.ensure_future(read_refusal(upstream))
        await asyncio.sleep(0)
        await scene(upstream, task)

    asyncio.run(run())


CHUNKED = b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_refusal_is_read_to_its_end() -> None:
    """In however many pieces it comes; the connection may serve again."""

    async def scene(upstream: Upstream, task: "asyncio.Task[bytes]") -> None:
        for piece in (b"3\r\nabc\r\n", b"3\r\nd", b"ef\r\n", b"0\r\n\r\n"):
            upstream.data_received(piece)
        assert await task == b"abcdef"
        assert upstream.reusable

    reading(scene, CHUNKED)


def test_a_refusal_may_have_come_whole() -> None:
    """Nothing is left to wait for."""

    async def scene(upstream: Upstream, task: "asyncio.Task[bytes]") -> None:
        assert await task == b"no"

    reading(scene, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")


def test_an_endless_refusal_is_given_up() -> None:
    """Memory is bounded."""

    async def scene(upstream: Upstream, task: "asyncio.Task[bytes]") -> None:
        piece = b"%x\r\n%b\r\n" % (1 << 20, b"a" * (1 << 20))
        for _ in range(MOST_REFUSAL_BYTES // (1 << 20) + 2):
            upstream.data_received(piece)
        with pytest.raises(UpstreamError, match="endless"):
            await task

    reading(scene, CHUNKED)


def test_a_refusal_that_breaks_off_is_none() -> None:
    """The connection's failure is passed on."""

    async def scene(upstream: Upstream, task: "asyncio.Task[bytes]") -> None:
        upstream.connection_lost(ConnectionResetError())
        with pytest.raises(UpstreamError):
            await task

    reading(scene, CHUNKED)
