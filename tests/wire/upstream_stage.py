"""A backend's connection on a stage: the test plays the backend, a sink takes the body."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gpubalancer.wire.heads import ResponseHead
from gpubalancer.wire.sweep import Sweeper
from gpubalancer.wire.upstream import Upstream
from gpubalancer.wire.upstream_error import UpstreamError
from tests.wire.fakes import Clock, Transport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Sink:
    """Takes a body and its end."""

    pieces: list[bytes] = field(default_factory=list)
    ends: int = 0

    def write(self, piece: bytes, now_s: float, *, last: bool) -> None:
        """Record a piece."""
        self.pieces.append(piece)
        self.ends += last

    def write_chunk(self, chunk: bytes, piece: bytes, now_s: float) -> None:
        """Record a piece that came as one chunk."""
        self.pieces.append(piece)

    @property
    def content(self) -> bytes:
        """All that came."""
        return b"".join(self.pieces)


class Wire:
    """A connection to a backend that the test plays."""

    def __init__(self) -> None:
        self.clock, self.transport, self.lost = Clock(), Transport(), 0
        self.sweeper = Sweeper(self.clock)
        self.upstream = Upstream(self.clock, self.sweeper, self._on_lost)
        self.upstream.connection_made(self.transport)
        self.sink = Sink()

    def _on_lost(self, upstream: Upstream) -> None:
        self.lost += 1

    def ask(self, *, silent: bool = False, upgrade: bool = False) -> None:
        """Send a request."""
        self.sink = Sink()
        self.upstream.send(b"request", wait_s=5.0, between_s=2.0, silent=silent, upgrade=upgrade)

    def head(self) -> ResponseHead:
        """The head, which has come."""
        return self.upstream.answer.result()

    def error(self) -> UpstreamError:
        """Why there is no head."""
        error = self.upstream.answer.exception()
        assert isinstance(error, UpstreamError)
        return error

    def relay(self) -> "asyncio.Future[None] | None":
        """Pass the body to the sink."""
        return self.upstream.relay(self.sink)

    def body_error(self, done: "asyncio.Future[None] | None") -> UpstreamError:
        """Why the body has no end."""
        assert done is not None
        error = done.exception()
        assert isinstance(error, UpstreamError)
        return error

    def answer(self, *pieces: bytes, silent: bool = False) -> None:
        """Ask, and get this answer."""
        self.ask(silent=silent)
        for piece in pieces:
            self.upstream.data_received(piece)


def playing(test: Callable[[Wire], None]) -> Callable[[], None]:
    """Give a test its connection, inside an event loop."""

    def run() -> None:
        async def scene() -> None:
            test(Wire())

        asyncio.run(scene())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def play(scene: Callable[[Wire], None]) -> None:
    """Run a scene with its connection, inside an event loop."""
    playing(scene)()
