"""Two connections joined: bytes both ways, each side holding the other back."""

import asyncio

import pytest

from gpubalancer.wire.sweep import Sweeper
from gpubalancer.wire.tunnel import Tunnel
from gpubalancer.wire.upstream import Upstream
from tests.wire.fakes import Client, Clock, Transport

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


async def joined() -> tuple["asyncio.Task[None]", Tunnel, Client, Upstream, Transport]:
    """A tunnel that has just begun, each side having sent something early."""
    clock, client, transport = Clock(), Client(), Transport()
    upstream = Upstream(clock, Sweeper(clock), lambda lost: None)
    upstream.connection_made(transport)
    upstream.send(b"", wait_s=5.0, between_s=5.0, upgrade=True)
    upstream.data_received(SWITCH + b"hello")
    tunnel = Tunnel(client, upstream)
    task = asyncio.ensure_future(tunnel.run())
    await asyncio.sleep(0)
    return task, tunnel, client, upstream, transport


def test_bytes_pass_both_ways() -> None:
    """What came early comes first, and both directions are counted."""

    async def run() -> None:
        task, tunnel, client, upstream, transport = await joined()
        assert client.tunnel is not None
        client.tunnel(b"-up")
        upstream.data_received(b"-down")
        assert (transport.written, client.sent) == (b"early-up", b"hello-down")
        assert (tunnel.received_bytes, tunnel.sent_bytes) == (8, 10)
        upstream.connection_lost(None)
        await task

    asyncio.run(run())


def test_a_backend_that_goes_closes_the_client() -> None:
    """The tunnel is over when the backend's connection is lost."""

    async def run() -> None:
        task, _, client, upstream, _ = await joined()
        upstream.connection_lost(ConnectionResetError("reset"))
        await task
        assert client.calls == ["close"]

    asyncio.run(run())


def test_a_client_that_goes_closes_the_backend() -> None:
    """A tunnel that is cancelled takes the backend's connection along."""

    async def run() -> None:
        task, _, _, _, transport = await joined()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.closed == "aborted"

    asyncio.run(run())


def test_each_side_holds_the_other_back() -> None:
    """A slow backend pauses the client, a slow client the backend."""

    async def run() -> None:
        task, tunnel, client, upstream, transport = await joined()
        upstream.pause_writing()
        upstream.resume_writing()
        assert client.calls == ["pause", "resume"]
        tunnel.pause_reading()
        assert not transport.reading
        tunnel.resume_reading()
        assert transport.reading
        upstream.connection_lost(None)
        await task

    asyncio.run(run())
