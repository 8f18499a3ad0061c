"""Connections to one backend, with a real server on loopback."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gpubalancer.wire.forward import Origin
from gpubalancer.wire.pool import IDLE_S, Endpoint, Pool
from gpubalancer.wire.sweep import Sweeper
from gpubalancer.wire.upstream import Upstream
from gpubalancer.wire.upstream_error import UpstreamError
from tests.wire.fakes import Clock

DEADLINE_S = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Sink:
    """Drops a body."""

    def write(self, piece: bytes, now_s: float, *, last: bool) -> None:
        """Take it."""

    def write_chunk(self, chunk: bytes, piece: bytes, now_s: float) -> None:
        """Take it."""


class Backend:
    """A server that answers every request the same, and its pool."""

    def __init__(self) -> None:
        self.clock, self.accepted = Clock(), 0
        self.sweeper = Sweeper(self.clock)
        self.server: asyncio.Server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        while await reader.read(1000):
            writer.write(OK)
        writer.close()

    def pool(self, port: int | None = None, *, admits: bool = True) -> Pool:
        """A pool of connections to this server."""
        port = port or self.server.sockets[0].getsockname()[1]
        origin = Origin(b"backend", "", b"")
        endpoint = Endpoint("127.0.0.1", port, origin, None, None, 5.0, lambda address: admits)
        return Pool(endpoint, self.clock, self.sweeper)


def play(scene: Callable[[Backend], Awaitable[None]]) -> None:
    """Run a scene beside its server."""

    async def run() -> None:
        backend = Backend()
        backend.server = await asyncio.start_server(backend._serve, "127.0.0.1", 0)
        async with asyncio.timeout(DEADLINE_S):
            await scene(backend)
            backend.server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                await asyncio.wait(others)

    asyncio.run(run())


async def serve_once(upstream: Upstream) -> None:
    """One whole exchange."""
    upstream.send(b"request", wait_s=5.0, between_s=5.0)
    await upstream.answer
    done = upstream.relay(Sink())
    if done is not None:
        await done


def test_a_connection_is_kept_for_the_next_request() -> None:
    """What was given back after a whole answer is taken again, and nothing is connected anew."""

    async def scene(backend: Backend) -> None:
        pool = backend.pool()
        assert pool.take_nowait() is None
        first = await pool.connect()
        await serve_once(first)
        pool.give_back(first)
        again = pool.take_nowait()
        assert again is first
        assert pool.take_nowait() is None
        await serve_once(again)
        assert (again.served, backend.accepted) == (2, 1)
        pool.give_back(again)
        pool.close()

    play(scene)


def test_the_one_used_last_is_taken_first() -> None:
    """Connections that are not needed grow old at the bottom, and are closed after their time."""

    async def scene(backend: Backend) -> None:
        pool = backend.pool()
        first, second = await pool.connect(), await pool.connect()
        for upstream in (first, second):
            await serve_once(upstream)
        pool.give_back(first)
        backend.clock.now_s += IDLE_S / 2
        pool.give_back(second)
        assert pool.take_nowait() is second
        pool.give_back(second)
        backend.clock.now_s += IDLE_S / 2 + 1
        backend.sweeper.sweep()
        assert (first.reusable, second.reusable) == (False, True)
        assert pool.take_nowait() is second
        assert pool.take_nowait() is None
        second.abort()

    play(scene)


def test_a_connection_in_doubt_is_closed() -> None:
    """One that is given back before its answer has come whole serves nobody again."""

    async def scene(backend: Backend) -> None:
        pool = backend.pool()
        upstream = await pool.connect()
        upstream.send(b"request", wait_s=5.0, between_s=5.0)
        pool.give_back(upstream)
        assert upstream.state == "closed"
        assert pool.take_nowait() is None

    play(scene)


def test_nobody_listens() -> None:
    """A refused connection is a failure in phase `connect`."""

    async def scene(backend: Backend) -> None:
        gone = await asyncio.start_server(backend._serve, "127.0.0.1", 0)
        port = gone.sockets[0].getsockname()[1]
        gone.close()
        await gone.wait_closed()
        with pytest.raises(UpstreamError) as caught:
            await backend.pool(port).connect()
        assert (caught.value.phase, caught.value.reused) == ("connect", False)

    play(scene)


def test_an_address_outside_the_clearance_gets_nothing() -> None:
    """A connection whose peer may not see the tier is closed before a byte is sent."""

    async def scene(backend: Backend) -> None:
        pool = backend.pool(admits=False)
        with pytest.raises(UpstreamError) as caught:
            await pool.connect()
        assert caught.value.phase == "connect"
        assert "127.0.0.1" in str(caught.value)

    play(scene)


def test_close_ends_idle_ones_now_and_busy_ones_later() -> None:
    """A pool that closes drops what is idle; what is in use finishes and is then dropped."""

    async def scene(backend: Backend) -> None:
        pool = backend.pool()
        idle, busy = await pool.connect(), await pool.connect()
        await serve_once(idle)
        pool.give_back(idle)
        pool.close()
        assert idle.state == "closed"
        await serve_once(busy)
        pool.give_back(busy)
        assert busy.state == "closed"
        assert pool.take_nowait() is None

    play(scene)


def test_the_print_counts() -> None:
    """The repr counts open and idle connections."""

    async def scene(backend: Backend) -> None:
        pool = backend.pool()
        upstream = await pool.connect()
        await serve_once(upstream)
        assert repr(pool) == "<Pool backend: 1 open, 0 idle>"
        pool.give_back(upstream)
        assert repr(pool) == "<Pool backend: 1 open, 1 idle>"
        pool.close()

    play(scene)
