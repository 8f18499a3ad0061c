"""An answer on its way from a backend to a client, observed as it passes.

Nothing is parsed per piece. The relay notes when pieces came and keeps the last few, because what decides how an answer
ended stands at its end: the token counts (`usage`), the finish reason, and whether a stream's last event is whole.

A stream of events passes a `Watch` as well. Nearly every piece of one is exactly one event that carries a token; those
are recognised by three searches at memory speed, counted, and go on as they came. The rest is the watch's to look at:
it may hold bytes back, take an event out, and at the end it says whether the answer is complete. The end of the framing
goes on with the last bytes if it is, and is withheld if it is not.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from gpubalancer.wire.exchange import Exchange

TAIL_PIECES = 4


class Relay:
    """The sink of a backend's connection, in front of an exchange."""

    __slots__ = ("_exchange", "_keep", "_on_first", "_tail", "_write_chunk", "first_s", "last_s")

    def __init__(
        self, exchange: Exchange, on_first: Callable[[], None] | None = None, tail: deque[bytes] | None = None
    ) -> None:
        """`on_first` is called when the first piece has come."""
        self._on_first = on_first
        self.first_s = 0.0
        """When the first piece of the body came; 0.0 if none did."""
        self.last_s = 0.0
        self._exchange = exchange
        self._write_chunk = exchange.write_chunk
        self._tail: deque[bytes] = deque(maxlen=TAIL_PIECES) if tail is None else tail
        self._keep = self._tail.append

    def write(self, piece: bytes, now_s: float, *, last: bool) -> None:
        """Pass a piece on."""
        if piece:
            if not self.first_s:
                self._begin(now_s)
            self.last_s = now_s
            self._keep(piece)
        self._exchange.write(piece, last=last)

    def write_chunk(self, chunk: bytes, piece: bytes, now_s: float) -> None:
        """Pass a piece on in the chunk that it came in, if the answer is sent in chunks."""
        if not self.first_s:
            self._begin(now_s)
        self.last_s = now_s
        self._keep(piece)
        self._write_chunk(chunk, piece)

    def _begin(self, now_s: float) -> None:
        self.first_s = now_s
        if self._on_first is not None:
            self._on_first()

    def tail(self, most_bytes: int) -> bytes:
        """The end of what has come, at most so many bytes of it."""
        return b"".join(self._tail)[-most_bytes:]


class Watch(Protocol):
    """Looks at a stream of events on its way."""

    newlines: int
    """How many there are in a piece that is one event; -1 while an event has begun and not ended."""
    boundary: bytes
    """How such a piece ends."""
    mark: bytes
    """Stands in every event that carries a token, and in none that must be looked at."""
    marked: int
    """How many of those have passed."""
    tail: deque[bytes]
    """The last pieces, each whole events."""

    def look(self, piece: bytes) -> bytes:
        """Take a piece that is not plainly one event with a mark; returns what may go on now."""

    def close(self) -> bytes:
        """No more will come; returns what may still go on."""

    def complete(self) -> bool:
        """True if the answer has ended as it should."""


class WatchedRelay(Relay):
    """The same, for a stream of events."""

    __slots__ = ("_watch", "withheld")

    def __init__(self, exchange: Exchange, watch: Watch, on_first: Callable[[], None] | None = None) -> None:
        super().__init__(exchange, on_first, watch.tail)
        self.withheld = False
        """The backend ended an answer that is not complete; the end has not gone on."""
        self._watch = watch

    def write(self, piece: bytes, now_s: float, *, last: bool) -> None:
        """Pass on what may go on of a piece, and the end if the answer is complete."""
        watch = self._watch
        if piece:
            if not self.first_s:
                self._begin(now_s)
            self.last_s = now_s
            if (
                piece.count(b"\n") != watch.newlines
                or piece.rfind(watch.mark) < 0
                or not piece.endswith(watch.boundary)
            ):
                piece = watch.look(piece)
            else:
                watch.marked += 1
                self._keep(piece)
        if last:
            piece += watch.close()
            self.withheld = not watch.complete()
        self._exchange.write(piece, last=last and not self.withheld)

    def write_chunk(self, chunk: bytes, piece: bytes, now_s: float) -> None:
        """Pass a piece on in the chunk that it came in, or what may go on of it."""
        watch = self._watch
        self.last_s = now_s
        if piece.count(b"\n") != watch.newlines or piece.rfind(watch.mark) < 0 or not piece.endswith(watch.boundary):
            if not self.first_s:
                # A watch takes no piece for plain before the first event, so that a first piece always comes here.
                self._begin(now_s)
            passed = watch.look(piece)
            if passed is not piece:
                self._exchange.write(passed)
                return
        else:
            watch.marked += 1
            self._keep(piece)
        self._write_chunk(chunk, piece)
