"""Sends raw bytes and reads raw answers, without a sleep anywhere.

"Nothing more will come" and "those bytes have been read" are both proved by round trips: the balancer's worker is one
event loop, so when a `Pacer` on another connection has its answer, whatever was sent before has been read too, and what
it caused has had its turn. A busy machine makes the round trips slower and the proof no weaker.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.attack.answers import Answer, read_answers
from tests.attack.grammar import NotCanonical
from tests.attack.recorder import SERIAL

DEADLINE_S = 10.0
PACE = b"GET /pace HTTP/1.1\r\nHost: pace.example\r\n\r\n"
QUIET_TRIPS = 10  # read, connect to the backend, pass on, read there, pass back: each in a turn of its own, doubled


class Wire(asyncio.Protocol):
    """One client connection: what came, and whether it ended."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.data = bytearray()
        self.closed = False
        self.changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to write on."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep what came."""
        self.data += data
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closed or reset; bytes that came before it are kept."""
        self.closed = True
        self.changed.set()

    def leave(self) -> None:
        """End the connection at once, if it has not ended."""
        if not self.closed:
            self.transport.abort()

    async def wait_change(self) -> None:
        """Wait until bytes came or the connection ended since the last call."""
        await self.changed.wait()
        self.changed.clear()


async def connect(port: int) -> Wire:
    """Open a connection to 127.0.0.1."""
    _, wire = await asyncio.get_running_loop().create_connection(Wire, "127.0.0.1", port)
    return wire


class Pacer:
    """A connection of good requests, kept open, whose round trips tell time in the balancer's own steps."""

    def __init__(self, port: int, claimed: set[int], request: bytes = PACE) -> None:
        self.port = port
        self.claimed = claimed
        self.request = request
        self.wire: Wire | None = None
        self.trips = 0

    async def round_trip(self) -> None:
        """One request and its answer.

        Raises:
            AssertionError: the answer is not a whole 200.
            TimeoutError: none came.
        """
        if self.wire is None or self.wire.closed:
            self.wire = await connect(self.port)
        self.wire.transport.write(self.request)
        async with asyncio.timeout(DEADLINE_S):
            while not (answers := read_answers(bytes(self.wire.data), (), ended=False)) or not answers[0].complete:
                assert not self.wire.closed, f"a good request was cut off after {bytes(self.wire.data)!r}"
                await self.wire.wait_change()
        assert answers[0].status == 200, answers[0]
        self.claimed.update(serials(answers))
        self.wire.data.clear()
        self.trips += 1

    def close(self) -> None:
        """End the connection."""
        if self.wire is not None:
            self.wire.leave()


@asynccontextmanager
async def pacing(port: int, claimed: set[int]) -> AsyncIterator[Pacer]:
    """A pacer for the time of a block."""
    pacer = Pacer(port, claimed)
    try:
        yield pacer
    finally:
        pacer.close()


@dataclass(frozen=True, slots=True)
class Exchange:
    """What came back on one connection.

    Attributes:
        answers: in order; the last may be incomplete.
        closed: the server ended the connection.
        verdict: the bytes were no strict responses.
        data: every byte.
    """

    answers: list[Answer]
    closed: bool
    verdict: NotCanonical | None
    data: bytes

    @property
    def statuses(self) -> tuple[int, ...]:
        """The final statuses; 0 stands for a head that broke off."""
        return tuple(answer.status for answer in self.answers)


def serials(answers: Sequence[Answer]) -> set[int]:
    """The recorder's serial numbers in these answers."""
    return {int(serial) for answer in answers for serial in answer.values(SERIAL)}


async def exchange(
    pacer: Pacer,
    segments: Sequence[bytes],
    *,
    methods: Sequence[str] = (),
    wanted: int = 0,
    closes: bool = False,
) -> Exchange:
    """Send segments, each read by the balancer before the next is sent, and read what comes back.

    Ends when the server closes; unless `closes`, also when at least `wanted` answers are whole and nothing more comes.
    After `DEADLINE_S` it ends with what there is. The serials of the answers are added to the pacer's claims.
    """
    wire = await _open_and_send(pacer, segments)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await _wait_end(wire, pacer, methods, None if closes else wanted)
    except TimeoutError:
        pass
    finally:
        wire.leave()
    result = judge(wire, methods)
    pacer.claimed.update(serials(result.answers))
    return result


def judge(wire: Wire, methods: Sequence[str]) -> Exchange:
    """Read what has come on a connection until now."""
    data = bytes(wire.data)
    try:
        return Exchange(read_answers(data, methods, ended=wire.closed), wire.closed, None, data)
    except NotCanonical as verdict:
        return Exchange([], wire.closed, verdict, data)


async def _wait_end(wire: Wire, pacer: Pacer, methods: Sequence[str], wanted: int | None) -> None:
    while not wire.closed:
        seen = len(wire.data)
        if wanted is None or sum(answer.complete for answer in judge(wire, methods).answers) < wanted:
            await wire.wait_change()
            continue
        for _ in range(QUIET_TRIPS):
            await pacer.round_trip()
        if len(wire.data) == seen:
            return


async def exchange_all(pacer: Pacer, requests: Sequence[Sequence[bytes]], seen: Callable[[], int]) -> list[Exchange]:
    """Send many requests of which nobody knows how many answers they get, each on a connection of its own.

    No connection is left before all are quiet: nothing has come on any of them, or to the backend, for several round
    trips. Otherwise a client that leaves early would make an honest request look smuggled.

    Arguments:
        pacer: on the same balancer.
        requests: the segments of each.
        seen: how many requests the backend has seen.
    """
    wires = [await _open_and_send(pacer, segments) for segments in requests]
    try:
        async with asyncio.timeout(DEADLINE_S):
            before = -1
            while before != (now := sum(len(wire.data) + wire.closed for wire in wires) + seen() - pacer.trips):
                before = now
                for _ in range(QUIET_TRIPS):
                    await pacer.round_trip()
    finally:
        for wire in wires:
            wire.leave()
    results = [judge(wire, ()) for wire in wires]
    pacer.claimed.update(*(serials(result.answers) for result in results))
    return results


async def _open_and_send(pacer: Pacer, segments: Sequence[bytes]) -> Wire:
    wire = await connect(pacer.port)
    for number, segment in enumerate(segments):
        if number:
            await pacer.round_trip()
        if not wire.closed:
            wire.transport.write(segment)
    return wire
