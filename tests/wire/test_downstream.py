"""A client's connection: order, persistence and the ways it ends.

Its deadlines and bounds stand in `test_downstream_limits`.
"""

import asyncio

from gpubalancer.wire.downstream import LINGER_S, TURN_BYTES
from gpubalancer.wire.limits import Limits
from tests.wire.downstream_stage import GET, POST, Door, turns


def test_requests_are_served_one_by_one_in_order() -> None:
    """Pipelined requests begin when the one before has ended, and their answers keep the order."""

    async def run() -> None:
        door = Door()
        await door.send(GET % 1 + GET % 2, GET % 3)
        for number in (1, 2, 3):
            assert door.paths() == [f"/{each}" for each in range(1, number + 1)]
            door.exchanges[-1].reply(200, b"", b"%d" % number)
            await turns()
        assert door.line.written == b"".join(
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % number for number in (1, 2, 3)
        )
        assert (door.line.closed, door.line.eof) == ("", False)

    asyncio.run(run())


def test_too_many_waiting_requests_close_after_the_last_accepted() -> None:
    """Beyond the bound no request is read; the accepted ones are answered, then the connection closes."""

    async def run() -> None:
        door = Door(Limits(pipelined=2))
        await door.send(b"".join(GET % number for number in range(9)))
        for _ in range(3):
            door.exchanges[-1].reply(200, b"", b"")
            await turns()
        assert door.paths() == ["/0", "/1", "/2"]
        assert door.line.written.count(b"connection: close") == 1
        assert door.line.eof

    asyncio.run(run())


def test_many_chunks_are_read_in_several_turns() -> None:
    """What one read brings of a chunked body is taken in pieces, with the client held off until it is read."""

    async def run() -> None:
        door = Door()
        chunks = b"1\r\nx\r\n" * 40_000
        head = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        door.connection.data_received(head + chunks)
        body, sizes = door.exchanges[0].body, []
        assert not door.line.reading
        reading = asyncio.ensure_future(body.read())
        while not door.line.reading:
            sizes.append(body.size_bytes)
            await asyncio.sleep(0)
        assert len(set(sizes)) == len(head + chunks) // TURN_BYTES
        door.connection.data_received(b"0\r\n\r\n")
        assert await reading == b"x" * 40_000

    asyncio.run(run())


def test_a_long_body_is_read_in_one_turn() -> None:
    """Of a body with a length, what one read brings is one piece; only the next read has to wait for a turn."""

    async def run() -> None:
        door = Door()
        door.connection.data_received(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000)
        assert door.exchanges[0].body.complete
        assert await door.exchanges[0].body.read() == b"x" * 200_000

    asyncio.run(run())


def test_a_long_read_is_followed_by_a_turn() -> None:
    """A client that sends as fast as we read is not read from again before others had their turn."""

    async def run() -> None:
        door = Door()
        door.connection.data_received(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n")
        reading = asyncio.ensure_future(door.exchanges[0].body.read())
        await turns()
        for _ in range(4):
            door.connection.data_received(b"x" * 100_000)
            assert not door.line.reading
            await turns()
            assert door.line.reading
        assert await reading == b"x" * 400_000

    asyncio.run(run())


def test_a_client_may_leave_before_all_is_read() -> None:
    """What was put off is dropped with the connection."""

    async def run() -> None:
        door = Door()
        door.connection.data_received(
            b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 40_000
        )
        door.line.close()
        door.connection.connection_lost(None)
        await turns()
        assert door.cancelled == door.exchanges
        assert door.exchanges[0].body.size_bytes < TURN_BYTES

    asyncio.run(run())


def test_a_failure_is_answered_after_the_requests_before_it() -> None:
    """Bad bytes behind a good request get their answer last, and nothing behind them is served."""

    async def run() -> None:
        door = Door()
        await door.send(GET % 1 + b"BAD\x00\r\n\r\n" + GET % 2)
        assert door.line.written == b""
        door.exchanges[0].reply(200, b"", b"ok")
        await turns()
        first, last = door.line.written.split(b"HTTP/1.1 ")[1:]
        assert first.startswith(b"200")
        assert last.startswith(b"400 \r\nx-code: malformed_request\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")
        assert (door.paths(), door.line.eof) == (["/1"], True)

    asyncio.run(run())


def test_lingering() -> None:
    """After a refusal our side is shut, the client's bytes are dropped, and soon the connection is gone."""

    async def run() -> None:
        door = Door()
        await door.send(b"GET /\x00\r\n\r\n")
        assert (door.line.eof, door.line.closed) == (True, "")
        await door.send(GET % 1)
        assert door.exchanges == []
        door.sweep(LINGER_S * 0.9)
        assert door.line.closed == ""
        door.sweep(LINGER_S * 0.2)
        assert door.line.closed == "aborted"

    asyncio.run(run())


def test_an_answer_before_the_end_of_the_body_lingers() -> None:
    """What is still to come of a request is not read as the next one."""

    async def run() -> None:
        door = Door()
        await door.send(POST + b"ab")
        door.exchanges[0].reply(401, b"", b"")
        await door.send(b"cd" + GET % 1)
        assert len(door.exchanges) == 1
        assert b"connection: close" in door.line.written
        assert door.line.eof

    asyncio.run(run())


def test_connection_close_ends_the_connection() -> None:
    """A client that asks for the end gets it after its answer."""

    async def run() -> None:
        door = Door()
        await door.send(b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        door.exchanges[0].reply(200, b"", b"")
        assert door.line.eof

    asyncio.run(run())


def test_a_client_that_leaves_stops_its_request() -> None:
    """The task is cancelled and told why; those that waited never begin."""

    async def run() -> None:
        door = Door()
        await door.send(GET % 1 + GET % 2)
        door.connection.connection_lost(None)
        await turns()
        assert door.cancelled == door.exchanges
        assert door.paths() == ["/1"]
        assert door.exchanges[0].client_left
        assert (len(door.sweeper), door.frontend.connections) == (0, set())

    asyncio.run(run())


def test_leaving_after_the_answer_cancels_nothing() -> None:
    """A request that was answered did not lose its client."""

    async def run() -> None:
        door = Door()
        await door.send(GET % 1)
        door.exchanges[0].reply(200, b"", b"")
        door.connection.connection_lost(None)
        await turns()
        assert (door.cancelled, door.exchanges[0].client_left) == ([], False)

    asyncio.run(run())


def test_a_broken_answer_closes_without_an_end() -> None:
    """The connection is closed behind what was sent; nothing that waited is served."""

    async def run() -> None:
        door = Door()
        await door.send(GET % 1 + GET % 2)
        exchange = door.exchanges[0]
        exchange.begin(200, b"", None)
        exchange.write(b"a")
        exchange.break_off(b"")
        await turns()
        assert door.line.written.endswith(b"1\r\na\r\n")
        assert (door.line.closed, door.line.eof, door.paths()) == ("closed", False, ["/1"])

    asyncio.run(run())


def test_a_broken_answer_to_http_1_0_is_a_reset() -> None:
    """Where the end of the connection is the end of the body, only an abrupt one tells that it is broken."""

    async def run() -> None:
        door = Door()
        await door.send(b"GET /1 HTTP/1.0\r\n\r\n")
        door.exchanges[0].begin(200, b"", None)
        door.exchanges[0].write(b"a")
        door.exchanges[0].break_off(b"")
        assert door.line.closed == "aborted"

    asyncio.run(run())


def test_drain() -> None:
    """Idle connections close at once; one that is served says so in its answer, and closes after it."""

    async def run() -> None:
        door = Door()
        idle, _ = door.connect()
        await door.send(GET % 1)
        door.frontend.drain()
        assert (idle.closed, door.line.closed) == ("closed", "")
        door.exchanges[0].reply(200, b"", b"ok")
        assert b"connection: close" in door.line.written
        assert door.line.eof

    asyncio.run(run())


def test_cut_ends_what_is_being_served() -> None:
    """When the time for draining is over, the request is cancelled though its client has not left."""

    async def run() -> None:
        door = Door()
        await door.send(GET % 1)
        door.connection.cut()
        await turns()
        assert (door.cancelled, door.exchanges[0].client_left) == (door.exchanges, False)

    asyncio.run(run())


def test_a_tunnel_takes_the_bytes() -> None:
    """After the switch bytes go to the tunnel, those that came early first."""

    async def run() -> None:
        door = Door()
        await door.send(b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nearly")
        got: list[bytes] = []
        assert door.connection.become_tunnel(got.append) == b"early"
        await door.send(b"frame", GET % 2)
        assert got == [b"frame", GET % 2]
        assert door.paths() == ["/1"]

    asyncio.run(run())


def test_a_refused_upgrade_reads_on() -> None:
    """After an ordinary answer to an upgrade, what waited is served as HTTP."""

    async def run() -> None:
        door = Door()
        await door.send(b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + GET % 2)
        assert door.paths() == ["/1"]
        door.exchanges[0].reply(403, b"", b"")
        await turns()
        assert door.paths() == ["/1", "/2"]

    asyncio.run(run())
