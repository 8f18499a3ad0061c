"""One request of a client and the answer to it.

The coroutine that serves a request holds an `Exchange`: it reads the body from it and answers through it, either whole
(`reply`) or relayed (`begin`, then `write` ... `end` by the backend's connection, without waking the coroutine).
Whatever happens, an exchange ends once: by `reply`, `end` or `break_off`, or because the client left. One that
`holds_end` keeps the last bytes of its answer back until `release`, so that what must be true before the client has all
of it can be made true.

Framing downstream is chosen here alone: Content-Length where the length is known, chunked for HTTP/1.1, and the end of
the connection for HTTP/1.0.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

from gpubalancer.domain.errors import RequestError
from gpubalancer.wire.body import InboundBody
from gpubalancer.wire.heads import RequestHead

_LARGE_BYTES = 16 * 1024
"""Above this, a gathered write is cheaper than copying the piece between its chunk marks."""

_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_BODILESS = frozenset((204, 304))


class ClientConnection(Protocol):
    """What an exchange needs of the connection it is on."""

    write: Callable[[bytes], None]
    """Queues bytes for the client."""
    write_pieces: Callable[[list[bytes]], None]
    """Queues several pieces in one go."""

    def exchange_ended(self, exchange: "Exchange") -> None:
        """The answer is complete; go on or close, as `exchange.keep_alive` says."""

    def exchange_broken(self, exchange: "Exchange") -> None:
        """The answer is incomplete and stays so: close in a way that the client can tell from an end."""

    def pause_reading(self) -> None:
        """Take no more bytes from the client."""

    def resume_reading(self) -> None:
        """Take bytes from the client again."""

    def become_tunnel(self, sink: Callable[[bytes], None]) -> bytes:
        """Stop speaking HTTP; returns what has come of the other protocol so far."""

    def close(self) -> None:
        """Close after what is queued has been sent."""


class Source(Protocol):
    """Where a relayed answer comes from."""

    def pause_reading(self) -> None:
        """The client is slower than the backend."""

    def resume_reading(self) -> None:
        """The client has caught up."""


class Exchange:
    """A request, its body and the way back to its client."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_held",
        "_pending",
        "_silent",
        "auth_memo",
        "body",
        "client_left",
        "ended",
        "head",
        "holds_end",
        "keep_alive",
        "received_s",
        "sent_bytes",
        "source",
        "status",
    )

    def __init__(
        self,
        connection: ClientConnection,
        head: RequestHead,
        body: InboundBody,
        received_s: float,
        auth_memo: dict[bytes, object],
    ) -> None:
        self.head = head
        self.body = body
        self.received_s = received_s
        self.keep_alive = head.keep_alive
        self.auth_memo = auth_memo
        """Kept for the connection's life: what was proved on it need not be proved again."""
        self.status = 0
        self.sent_bytes = 0
        self.ended = False
        self.client_left = False
        self.holds_end = False
        """Keep the end of the answer back until `release`."""
        self.source: Source | None = None
        self._connection = connection
        self._pending = b""
        self._held: list[bytes] | None = None
        self._chunked = False
        self._silent = False

    def __repr__(self) -> str:
        state = "ended" if self.ended else "client left" if self.client_left else f"status {self.status}"
        return f"<Exchange {self.head.method} {self.head.target.path}, {state}, {self.sent_bytes} bytes sent>"

    @property
    def began(self) -> bool:
        """True once a head has gone to the client: from then on there is no other answer."""
        return self.status != 0

    def invite_body(self) -> None:
        """Tell a client that waits for `100 Continue` to go on (RFC 9110 section 10.1.1)."""
        if self.head.expects_continue and not self.body.size_bytes and not self.body.complete:
            self._connection.write(_CONTINUE)

    def hold(self, writable: bool) -> None:
        """Take no more of the request while the backend is not writable."""
        if writable:
            self._connection.resume_reading()
        else:
            self._connection.pause_reading()

    def switch_protocols(self, lines: bytes) -> ClientConnection:
        """Tell the client that its backend speaks the other protocol from here on; the tunnel takes over."""
        self.status, self.keep_alive = 101, False
        self._connection.write(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % lines)
        return self._connection

    def reply(self, status: int, lines: bytes, content: bytes) -> None:
        """Answer with a whole message of our own.

        Arguments:
            status: of the answer.
            lines: further header lines, each ended by CRLF, content type included.
            content: the body; not sent to HEAD.
        """
        self.begin(status, lines, len(content))
        self.write(content)
        self.end()

    def begin(self, status: int, lines: bytes, length: int | None) -> None:
        """Begin the answer; its head leaves with the first piece of the body, or by `flush`.

        Arguments:
            status: of the answer, 200 to 599.
            lines: header lines without framing and Connection, each ended by CRLF.
            length: of the body; None if it is not known.
        """
        self.status = status
        if not self.body.complete:
            # What is still to come of the request can't be told from the next one once nobody reads it.
            self.keep_alive = False
        self._silent = self.head.method == "HEAD" or status in _BODILESS
        framing = b""
        if status in _BODILESS:
            pass
        elif length is not None:
            framing = b"content-length: %d\r\n" % length
        elif self.head.version == "1.1":
            framing, self._chunked = b"transfer-encoding: chunked\r\n", not self._silent
        else:
            self.keep_alive = False
        line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        self._pending = b"%b%b%b%b\r\n" % (line, lines, framing, self._connection_line())

    def _connection_line(self) -> bytes:
        if not self.keep_alive:
            return b"connection: close\r\n"
        return b"connection: keep-alive\r\n" if self.head.version == "1.0" else b""

    def flush(self) -> None:
        """Send the head without waiting for the body."""
        if self._pending:
            pending, self._pending = self._pending, b""
            self._connection.write(pending)

    def write(self, piece: bytes, *, last: bool = False) -> None:
        """Send a piece of the body; with `last`, the end of its framing in the same segment."""
        if self._silent or not piece:
            if last:
                self.end()
            else:
                self.flush()
            return
        pending, self._pending = self._pending, b""
        size = len(piece)
        self.sent_bytes += size
        if not self._chunked:
            before, after = pending, b""
        elif size <= _LARGE_BYTES:
            data = b"%b%x\r\n%b%b" % (pending, size, piece, _LAST_CHUNK if last else b"\r\n")
            if last:
                self._end_with([data])
            else:
                self._connection.write(data)
            return
        else:
            before, after = b"%b%x\r\n" % (pending, size), _LAST_CHUNK if last else b"\r\n"
        if last:
            self._end_with([before, piece, after])
        else:
            self._connection.write_pieces([before, piece, after])

    def write_chunk(self, chunk: bytes, piece: bytes) -> None:
        """Send a piece that came as one chunk in canonical form, as it came where that is how it must go."""
        if self._chunked and not self._pending:
            self.sent_bytes += len(piece)
            self._connection.write(chunk)
        else:
            self.write(piece)

    def end(self) -> None:
        """The answer is complete."""
        if self.ended:
            return
        pending, self._pending = self._pending, b""
        if self._chunked:
            pending += b"0\r\n\r\n"
        self._end_with([pending] if pending else [])

    def _end_with(self, pieces: list[bytes]) -> None:
        """Send the last of the answer, now or by `release`."""
        self.ended, self.source = True, None
        self._held = pieces
        if not self.holds_end:
            self.release()

    def release(self) -> None:
        """Let the end of the answer go, if there is one that was kept back."""
        held, self._held = self._held, None
        if held is None or self.client_left:
            return
        if held:
            self._connection.write_pieces(held)
        self._connection.exchange_ended(self)

    def break_off(self, last_words: bytes) -> None:
        """End an answer that can't be completed, so that no client takes it for a whole one.

        Arguments:
            last_words: a terminal event in the answer's own format, empty where the format has none.
        """
        if self.ended:
            return
        if last_words and self._chunked:
            self.write(last_words)
        self.flush()
        self.ended, self.keep_alive, self.source = True, False, None
        self._connection.exchange_broken(self)

    def refuse(self, error: RequestError, lines: bytes, content: bytes) -> None:
        """Answer with an error, unless an answer has begun or the client has left."""
        if self.client_left or self.ended:
            return
        if self.began:
            self.break_off(b"")
        else:
            self.reply(error.status, lines, content)
