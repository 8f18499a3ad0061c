"""How long a client's connection waits, how many there may be, and how a slow one is treated."""

import asyncio

import pytest

from gpubalancer.domain.errors import RequestError
from gpubalancer.wire.limits import Limits
from tests.wire.downstream_stage import GET, POST, Door, turns
from tests.wire.fakes import Flow


@pytest.mark.parametrize("piece", [b"", b"GET /"])
def test_a_head_that_takes_too_long(piece: bytes) -> None:
    """A client that sends no whole head in time is dropped, with 408 if it had begun."""

    async def run() -> None:
        door = Door(Limits(head_timeout_s=10.0))
        if piece:
            await door.send(piece)
        for _ in range(9):
            door.sweep(1.0)
        assert (door.line.written, door.line.closed) == (b"", "")
        door.sweep(1.1)
        if piece:
            assert door.line.written.startswith(b"HTTP/1.1 408 ")
        else:
            assert door.line.closed == "aborted"

    asyncio.run(run())


def test_bytes_do_not_prolong_a_head() -> None:
    """The time for a head counts from its first byte, however often a byte comes."""

    async def run() -> None:
        door = Door(Limits(head_timeout_s=10.0))
        for byte in b"GET /aaaaaaaaaaa":
            await door.send(bytes((byte,)))
            door.sweep(1.0)
        assert door.line.written.startswith(b"HTTP/1.1 408 ")

    asyncio.run(run())


def test_a_body_that_stalls() -> None:
    """Each piece gives more time; a longer silence fails the body."""

    async def run() -> None:
        door = Door(Limits(body_timeout_s=5.0))
        await door.send(POST)
        reading = asyncio.ensure_future(door.exchanges[0].body.read())
        await turns()
        for _ in range(3):
            door.sweep(4.0)
            await door.send(b"a")
        assert not reading.done()
        door.sweep(5.1)
        with pytest.raises(RequestError) as caught:
            await reading
        assert caught.value.code == "request_timeout"

    asyncio.run(run())


def test_an_idle_connection_is_closed() -> None:
    """Between two requests the idle time counts, not the time for a head."""

    async def run() -> None:
        door = Door(Limits(head_timeout_s=10.0, idle_timeout_s=300.0))
        await door.send(GET % 1)
        door.sweep(1000.0)
        assert door.line.closed == ""
        door.exchanges[0].reply(200, b"", b"")
        door.sweep(299.0)
        assert door.line.closed == ""
        door.sweep(2.0)
        assert door.line.closed == "aborted"

    asyncio.run(run())


def test_a_slow_client_holds_its_backend_back() -> None:
    """When the client takes less than comes, the backend is paused; when it has caught up, resumed."""

    async def run() -> None:
        door, source = Door(), Flow()
        await door.send(GET % 1)
        exchange = door.exchanges[0]
        exchange.source = source
        exchange.begin(200, b"", None)
        exchange.write(b"a")
        door.connection.pause_writing()
        door.connection.resume_writing()
        assert source.calls == ["pause", "resume"]

    asyncio.run(run())


def test_a_client_that_takes_nothing_is_dropped() -> None:
    """Any progress gives more time; none for `write_timeout` ends the connection."""

    async def run() -> None:
        door = Door(Limits(write_timeout_s=30.0))
        await door.send(GET % 1)
        door.exchanges[0].begin(200, b"", None)
        door.exchanges[0].write(b"a")
        door.line.unsent_bytes = 100
        door.connection.pause_writing()
        door.line.unsent_bytes = 50
        door.sweep(30.1)
        assert door.line.closed == ""
        door.sweep(30.1)
        assert door.line.closed == "aborted"

    asyncio.run(run())


def test_too_many_connections() -> None:
    """One connection too many gets 503 and is closed; the others go on."""

    async def run() -> None:
        door = Door(most_connections=1)
        line, _ = door.connect()
        assert line.written.startswith(b"HTTP/1.1 503 \r\nx-code: too_many_connections\r\n")
        assert line.eof
        await door.send(GET % 1)
        assert door.paths() == ["/1"]

    asyncio.run(run())


def test_no_other_answer_begins_while_the_client_takes_none() -> None:
    """What a client has asked for besides waits until it has taken what it was sent."""

    async def run() -> None:
        door = Door(Limits(write_timeout_s=30.0))
        await door.send(GET % 1 + GET % 2)
        first = door.exchanges[0]
        first.begin(200, b"", 1)
        door.line.unsent_bytes = 100
        door.connection.pause_writing()
        first.write(b"a", last=True)
        await turns()
        assert first.ended
        assert door.paths() == ["/1"]
        door.sweep(20.0)
        door.connection.resume_writing()
        await turns()
        assert door.paths() == ["/1", "/2"]
        assert door.line.closed == ""

    asyncio.run(run())


def test_a_client_that_takes_no_answer_is_dropped_between_two_requests() -> None:
    """An answer that has ended here and is not taken there ends the connection after `write_timeout`."""

    async def run() -> None:
        door = Door(Limits(write_timeout_s=30.0, idle_timeout_s=300.0))
        await door.send(GET % 1)
        door.line.unsent_bytes = 100
        door.connection.pause_writing()
        door.exchanges[0].reply(200, b"", b"a")
        await door.send(GET % 2)
        door.sweep(30.1)
        assert door.paths() == ["/1"]
        assert door.line.closed == "aborted"

    asyncio.run(run())
