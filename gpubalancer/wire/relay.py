"""An answer on its way from a backend to a client, observed as it passes.

Nothing is parsed per piece. The relay notes when pieces came and keeps the last few, because what decides how an answer
ended stands at its end: the token counts (`usage`), the finish reason, and whether a stream's last event is whole.
"""

from collections import deque

from gpubalancer.wire.exchange import Exchange

_TAIL_PIECES = 4


class Relay:
    """The sink of a backend's connection, in front of an exchange."""

    __slots__ = ("_exchange", "_tail", "first_s", "last_s", "received_bytes")

    def __init__(self, exchange: Exchange) -> None:
        self.first_s = 0.0
        """When the first piece of the body came; 0.0 if none did."""
        self.last_s = 0.0
        self.received_bytes = 0
        self._exchange = exchange
        self._tail: deque[bytes] = deque(maxlen=_TAIL_PIECES)

    def write(self, piece: bytes, now_s: float, *, last: bool) -> None:
        """Pass a piece on."""
        if piece:
            if not self.first_s:
                self.first_s = now_s
            self.last_s = now_s
            self.received_bytes += len(piece)
            self._tail.append(piece)
        self._exchange.write(piece, last=last)

    def write_chunk(self, chunk: bytes, piece: bytes, now_s: float) -> None:
        """Pass a piece on in the chunk that it came in, if the answer is sent in chunks."""
        if not self.first_s:
            self.first_s = now_s
        self.last_s = now_s
        self.received_bytes += len(piece)
        self._tail.append(piece)
        self._exchange.write_chunk(chunk, piece)

    def tail(self, most_bytes: int) -> bytes:
        """The end of what has passed, at most so many bytes of it."""
        return b"".join(self._tail)[-most_bytes:]
