"""A connection to a backend: one request at a time out, its answer parsed and passed on.

The coroutine that uses a connection waits twice: for the head of the answer and for its end. Between the two, bytes go
from `data_received` to the relay without waking it. A connection serves again only if nothing about it is in doubt:
complete answer, known framing, every byte of the request sent, and no byte too many received.

The states, as `state` and `repr` show them::

    idle -> waiting -> relaying -> idle        an answer with known framing
               |          |
               +----------+------> closed      anything else
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from gpubalancer.wire.body import HIGH_WATER_BYTES
from gpubalancer.wire.chunks import only_chunk
from gpubalancer.wire.errand import Promise
from gpubalancer.wire.heads import BadResponse, Headers, ResponseHead, read_response_head
from gpubalancer.wire.limits import KIB
from gpubalancer.wire.sweep import NEVER, Sweeper
from gpubalancer.wire.upstream_error import Phase, UpstreamError

MOST_HEAD_BYTES = 64 * KIB
CHUNK_OVERHEAD_RATIO = 8
"""Bytes of chunk sizes, extensions and trailers that may come for each byte of body, beyond `MOST_HEAD_BYTES`."""
MOST_INTERIM = 8
"""Interim (1xx) answers before the final one; they are dropped (RFC 9110 section 15.2 bounds nothing)."""

_BODILESS = frozenset((204, 304))


class Sink(Protocol):
    """Where the body of an answer goes."""

    def write(self, piece: bytes, now_s: float, *, last: bool) -> None:
        """Take a piece, which is the last one if `last`."""

    def write_chunk(self, chunk: bytes, piece: bytes, now_s: float) -> None:
        """Take a piece together with the chunk that it came in, which may go on as it is."""


class Upstream(asyncio.Protocol):
    """One connection to one backend."""

    def __init__(self, clock: Callable[[], float], sweeper: Sweeper, on_lost: Callable[["Upstream"], None]) -> None:
        self.state = "idle"
        self.served = 0
        """Answers completed on this connection."""
        self.deadline_s = NEVER
        self.tunnel: Callable[[bytes], None] | None = None
        self.tunnel_lost: Callable[[], None] | None = None
        self._clock = clock
        self._sweeper = sweeper
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Promise[ResponseHead] = Promise(loop=self._loop)
        self._done: Promise[None] = Promise(loop=self._loop)
        self._on_writable: Callable[[bool], None] | None = None
        self._paused = False
        self._between_s = NEVER
        self._begin(silent=False, upgrade=False)

    def _begin(self, *, silent: bool, upgrade: bool) -> None:
        self._silent = silent
        self._upgrade = upgrade
        self._interim = 0
        self._request_open = False
        self._head: ResponseHead | None = None
        self._head_bytes = 0
        self._headers: Headers = []
        self._heard = False
        self._complete = False
        self._finished = False
        self._excess = False
        self._chunks_closed = self._between_chunks = False
        self._fed_bytes = self._body_bytes = 0
        self._pieces: list[bytes] = []
        self._sink: Sink | None = None
        self._failure: BadResponse | None = None
        self.leftover = b""

    def __repr__(self) -> str:
        return f"<Upstream {self.state}, {self.served} served{', paused' if self._paused else ''}>"

    # The request's side.

    def send(
        self,
        data: bytes,
        *,
        wait_s: float,
        between_s: float,
        more: bool = False,
        silent: bool = False,
        upgrade: bool = False,
    ) -> None:
        """Send a request, or the head of one whose body follows through `write` and ends with `end_request`.

        Arguments:
            data: head, and body if it is at hand.
            more: the body follows; an answer that comes before its end closes the connection.
            wait_s: seconds within which an answer must begin.
            between_s: seconds that may pass between two pieces of the answer.
            silent: the answer has no body (HEAD).
            upgrade: the backend may change the protocol.
        """
        self._begin(silent=silent, upgrade=upgrade)
        self._request_open = more
        self._answer, self._done = Promise(loop=self._loop), Promise(loop=self._loop)
        self.state = "waiting"
        self._between_s = between_s
        self.deadline_s = self._clock() + wait_s
        self._transport.write(data)

    def write(self, piece: bytes) -> None:
        """Send a further piece of a request that `send` began."""
        if self.state == "waiting":
            self._transport.write(piece)

    def end_request(self, last: bytes) -> None:
        """Send the end of a request that `send` began; after an early answer there is nobody to send it to."""
        if self.state == "waiting":
            self._request_open = False
            self._transport.write(last)

    def throttle(self, on_writable: Callable[[bool], None] | None) -> None:
        """Call `on_writable(False)` while the backend takes no more, `on_writable(True)` when it does again."""
        self._on_writable = on_writable

    @property
    def answer(self) -> Promise[ResponseHead]:
        """The head of the answer; fails with `UpstreamError`."""
        return self._answer

    def relay(self, sink: Sink) -> Promise[None] | None:
        """Pass the body on to `sink`; returns what to wait for, None if the answer is complete already."""
        self._sink = sink
        self.resume_reading()
        self._pass_on(self._clock())
        return None if self._finished else self._done

    @property
    def reusable(self) -> bool:
        """True if another request may be sent on this connection."""
        return self.state == "idle" and not self._transport.is_closing()

    def abort(self) -> None:
        """Close at once: the backend sees the connection go and stops its work."""
        if self.state != "closed":
            self.state = "closed"
            self._transport.abort()

    def rest(self, until_s: float) -> None:
        """Wait for the next request, at most until the given instant."""
        self.deadline_s = until_s
        self._sink = self._on_writable = None

    def send_raw(self, data: bytes) -> None:
        """Send bytes of the protocol that the connection was upgraded to."""
        self._transport.write(data)

    # asyncio's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self._sweeper.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse what the backend sent and pass bodies on."""
        if self.tunnel is not None:
            self.tunnel(data)
            return
        if self.state == "idle":
            # Nobody asked: an answer too many would be taken for the next one.
            self.abort()
            return
        self._heard = True
        now_s = self._clock()
        self.deadline_s = now_s + self._between_s
        if self._between_chunks and self._sink is not None:
            piece = only_chunk(data)
            if piece:
                self._sink.write_chunk(data, piece, now_s)
                return
        why_broken = self._parse(data)
        if why_broken:
            self._break(why_broken, now_s)
        elif self._sink is not None:
            self._pass_on(now_s)
        else:
            self._hand_over_head()
            if self._sink is None and sum(map(len, self._pieces)) > HIGH_WATER_BYTES:
                self.pause_reading()

    def _parse(self, data: bytes) -> str:
        """Have the parser take the data; returns what is wrong with it, empty if nothing is."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.leftover = bytes(data[upgrade.args[0] :])
            return ""
        except httptools.HttpParserError as error:
            if not self._complete:
                return str(self._failure or error)
            self._excess = True
        self._between_chunks = self._chunks_closed and data.endswith(b"\n") and not self._complete
        return self._endless(len(data))

    def _hand_over_head(self) -> None:
        """Let whoever waits for the answer go on; when this returns, all of it may have been relayed."""
        if self._head is not None and not self._answer.done():
            self._answer.set_result(self._head)

    def _endless(self, fed_bytes: int) -> str:
        """What of the answer goes on for too long, empty if nothing does."""
        if self._head is None:
            self._head_bytes += fed_bytes
            return "the head of the answer is endless" if self._head_bytes > MOST_HEAD_BYTES else ""
        self._fed_bytes += fed_bytes
        body_bytes = self._body_bytes
        if self._fed_bytes - body_bytes > MOST_HEAD_BYTES + CHUNK_OVERHEAD_RATIO * body_bytes:
            return "chunk extensions or trailers are endless"
        return ""

    def _break(self, why: str, now_s: float) -> None:
        """Pass on what was good, and give up."""
        self._hand_over_head()
        self._pass_on(now_s)
        self._fail(why)

    def _pass_on(self, now_s: float) -> None:
        """Give the sink what has been parsed, the end included."""
        sink, pieces = self._sink, self._pieces
        if sink is None:
            return
        complete = self._complete and not self._finished
        if pieces or complete:
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._pieces = []
            sink.write(piece, now_s, last=complete)
        if complete:
            self._finish()

    def _finish(self) -> None:
        """The answer is complete: rest or close."""
        self._finished = True
        self.served += 1
        self.deadline_s = NEVER
        head, unsent_bytes = self._head, self._transport.get_write_buffer_size()
        framed = head is not None and (head.chunked or head.length is not None or head.status in _BODILESS)
        unsent = self._request_open or unsent_bytes or self.state == "closed"
        if head is None or not head.keep_alive or not framed or unsent or self._silent or self._excess:
            self.abort()
        else:
            self.state = "idle"
            self.resume_reading()
        if not self._done.done():
            self._done.set_result(None)

    def _fail(self, message: str, *, timed_out: bool = False) -> None:
        """Tell the waiting request, and close."""
        phase: Phase = "head" if self._head is None else "body"
        error = UpstreamError(message, phase, reused=self.served > 0, silent=not self._heard, timed_out=timed_out)
        waiting = self._answer if not self._answer.done() else self._done
        self.abort()
        if not waiting.done():
            waiting.set_exception(error)
            # The request may have been cancelled at this very moment; then nobody asks.
            waiting.exception()

    def eof_received(self) -> None:
        """The backend sends no more; what ends with the connection is complete now."""
        self._end_of_stream()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._sweeper.discard(self)
        if exc is None:
            self._end_of_stream()
        if self.state in ("waiting", "relaying") and not self._complete:
            self._fail("the backend closed the connection" if exc is None else f"the connection broke: {exc}")
        self.state = "closed"
        self._on_lost(self)
        if self.tunnel_lost is not None:
            self.tunnel_lost()

    def _end_of_stream(self) -> None:
        head = self._head
        unframed = head is not None and head.length is None and not head.chunked
        if self.state == "relaying" and unframed and not self._complete and self.tunnel is None:
            self._complete = True
            self._pass_on(self._clock())

    def pause_writing(self) -> None:
        """The backend takes less than the client sends."""
        if self._on_writable is not None:
            self._on_writable(False)

    def resume_writing(self) -> None:
        """The backend has caught up."""
        if self._on_writable is not None:
            self._on_writable(True)

    def pause_reading(self) -> None:
        """Take no more of the answer for now."""
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take the answer again."""
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self.deadline_s = self._clock() + self._between_s if self.state == "relaying" else self.deadline_s
            self._transport.resume_reading()

    def on_deadline(self, now_s: float) -> None:
        """Nothing came for too long; a backend that we hold back is not late."""
        if self.state == "idle":
            self.abort()
        elif self._paused:
            self.deadline_s = now_s + self._between_s
        else:
            self._fail("the backend did not answer in time", timed_out=True)

    # httptools' callbacks.

    def on_message_begin(self) -> None:
        """Begin a head; after a complete answer nothing may."""
        if self._complete:
            self._excess = True
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field; one after the head is a trailer, and dropped."""
        if self._head is not None:
            return
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MOST_HEAD_BYTES:
            self._refuse("the head of the answer is too large")
        self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Hand over the head of the final answer."""
        if self._complete:
            return
        status = self._parser.get_status_code()
        if not 100 <= status <= 599:
            self._refuse(f"{status} is no status")
        if status < 200 and not (status == 101 and self._upgrade):
            self._interim += 1
            if status == 101 or self._interim > MOST_INTERIM:
                self._refuse("a protocol nobody asked for" if status == 101 else "too many interim answers")
            return
        try:
            self._head = read_response_head(status, self._parser.get_http_version(), self._headers)
        except BadResponse as error:
            self._failure = error
            raise
        self.state = "relaying"
        self._chunks_closed = self._head.chunked
        if self._silent or status in _BODILESS or self._head.length == 0:
            self._complete = True

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body; a message without one that has one all the same is in excess."""
        if self._complete:
            self._excess = True
        else:
            self._body_bytes += len(piece)
            self._pieces.append(piece)

    def on_chunk_header(self) -> None:
        """A chunk has begun; the last one is never seen as closed."""
        self._chunks_closed = False

    def on_chunk_complete(self) -> None:
        """The chunk's own CRLF has come."""
        self._chunks_closed = True

    def on_message_complete(self) -> None:
        """The framing says that this was all."""
        if self._head is not None and self._head.status != 101:
            self._complete = True

    def _refuse(self, why: str) -> None:
        self._failure = BadResponse(why)
        raise self._failure
