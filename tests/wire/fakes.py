"""The edges of the wire, recorded: a transport, a client's connection, and requests as they come out of bytes."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from gpubalancer.domain.errors import RequestError
from gpubalancer.wire.body import InboundBody
from gpubalancer.wire.exchange import Exchange
from gpubalancer.wire.heads import RequestHead
from gpubalancer.wire.limits import Limits
from gpubalancer.wire.reader import RequestReader


class Clock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Flow:
    """What a body asks of its connection, recorded."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        """Record the call."""
        self.calls.append("pause")

    def resume_reading(self) -> None:
        """Record the call."""
        self.calls.append("resume")

    def body_progress(self) -> None:
        """Progress is of no interest here."""


class Transport(asyncio.Transport):
    """A connection that goes nowhere: it records what is written and how it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unsent_bytes = 0
        self.reading = True
        self.closed = ""

    def write(self, data: Any) -> None:
        """Record bytes."""
        self.written += bytes(data)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Record bytes."""
        self.written += b"".join(map(bytes, list_of_data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered."""

    def get_write_buffer_size(self) -> int:
        """What the test says is still to be sent."""
        return self.unsent_bytes

    def pause_reading(self) -> None:
        """Take no more."""
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        """Take again."""
        assert not self.reading, "resumed twice"
        self.reading = True

    def is_closing(self) -> bool:
        """True after `close` or `abort`."""
        return bool(self.closed)

    def close(self) -> None:
        """Record the gentle end."""
        self.closed = self.closed or "closed"

    def abort(self) -> None:
        """Record the abrupt end."""
        self.closed = "aborted"


class Client:
    """The connection of an exchange, recorded."""

    def __init__(self) -> None:
        self.sent = b""
        self.writes = 0
        self.calls: list[str] = []
        self.tunnel: Callable[[bytes], None] | None = None
        self.write: Callable[[bytes], None] = self._write
        self.write_pieces: Callable[[list[bytes]], None] = lambda pieces: self._write(b"".join(pieces))

    def _write(self, data: bytes) -> None:
        self.sent += data
        self.writes += 1

    def exchange_ended(self, exchange: Exchange) -> None:
        """Record the end."""
        self.calls.append("ended")

    def exchange_broken(self, exchange: Exchange) -> None:
        """Record the break."""
        self.calls.append("broken")

    def pause_reading(self) -> None:
        """Record the call."""
        self.calls.append("pause")

    def resume_reading(self) -> None:
        """Record the call."""
        self.calls.append("resume")

    def become_tunnel(self, sink: Callable[[bytes], None]) -> bytes:
        """Take the sink; some bytes came early."""
        self.tunnel = sink
        return b"early"

    def close(self) -> None:
        """Record the call."""
        self.calls.append("close")


@dataclass
class Seen:
    """What came out of a reader."""

    flow: Flow = field(default_factory=Flow)
    heads: list[RequestHead] = field(default_factory=list)
    bodies: list[InboundBody] = field(default_factory=list)
    failures: list[RequestError] = field(default_factory=list)

    def reader(self, limits: Limits | None = None) -> RequestReader:
        """A reader that records here."""

        def on_request(head: RequestHead, body: InboundBody) -> None:
            self.heads.append(head)
            self.bodies.append(body)

        return RequestReader(limits or Limits(), self.flow, on_request, self.failures.append)

    def contents(self) -> list[bytes]:
        """All bodies that are complete."""
        return [asyncio.run(body.read()) for body in self.bodies if body.complete]

    def codes(self) -> list[str]:
        """Every failure: of a head, or of the body that it cut off."""
        cut = [body._error.code for body in self.bodies if body._error is not None]
        return [error.code for error in self.failures] + cut


def read(*pieces: bytes, limits: Limits | None = None) -> Seen:
    """Feed pieces to a fresh reader."""
    seen = Seen()
    reader = seen.reader(limits)
    for piece in pieces:
        reader.feed(piece)
    return seen


def request_head(raw: bytes) -> RequestHead:
    """The head of one request that is fine."""
    seen = read(raw)
    assert not seen.failures, seen.failures[0].message
    return seen.heads[0]


def exchange_of(raw: bytes) -> tuple[Exchange, Client]:
    """An exchange for one request, and the client that it answers."""
    seen, client = read(raw), Client()
    assert not seen.failures, seen.failures[0].message
    return Exchange(client, seen.heads[0], seen.bodies[0], 100.0, {}), client
