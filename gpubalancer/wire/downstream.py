"""A client's connection: bytes to requests, answers to bytes, one exchange at a time.

Requests are served in the order they came. Up to `Limits.pipelined` further ones wait; a connection that sends more is
closed after the last accepted one, which HTTP allows and every client must expect (RFC 9112 section 9.6). An error of
framing is answered after the requests before it, and is the last thing answered.

A connection that must be closed while its client may still be sending lingers: our side is shut, the client's bytes are
read and dropped for a moment, so that the kernel does not reset the connection and take the answer with it
(RFC 9112 section 9.6).

What one read brings may hold 40,000 chunks, each of which takes 0.5 us. So of what is not one long piece of a body the
first `TURN_BYTES` are read, and the rest after a turn of the event loop; until then the client is not read from. Nor is
it after a long read: libuv would read 32 times in one go, 8 MB in 16 ms, from a client that sends as fast.

A client's end-of-file counts as leaving: inference clients do not shut down one direction, and a request whose client
is gone costs GPU time.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

from gpubalancer.domain.errors import RequestError
from gpubalancer.wire.body import HIGH_WATER_BYTES, InboundBody
from gpubalancer.wire.errand import Errand
from gpubalancer.wire.exchange import Exchange
from gpubalancer.wire.heads import RequestHead
from gpubalancer.wire.limits import Limits
from gpubalancer.wire.reader import RequestReader
from gpubalancer.wire.sweep import NEVER, Sweeper

TURN_BYTES = 16 * 1024
LINGER_S = 2.0
"""How long a closed connection is still drained (nginx's lingering_timeout is 5 s)."""


@dataclass(slots=True)
class Frontend:
    """What all client connections of one worker share."""

    limits: Limits
    clock: Callable[[], float]
    sweeper: Sweeper
    serve: Callable[[Exchange], Coroutine[Any, Any, None]]
    """The life of one request; runs as an errand and is cancelled when its client leaves."""
    refusal: Callable[[RequestError], tuple[bytes, bytes]]
    """Header lines and body of the answer to what could not be read as a request."""
    most_connections: int
    loop: asyncio.AbstractEventLoop
    draining: bool = False
    connections: set["Downstream"] = field(default_factory=set)

    def drain(self) -> None:
        """Finish what is being served; keep no connection alive after it."""
        self.draining = True
        for connection in list(self.connections):
            connection.drain()


class Downstream(asyncio.Protocol):
    """One client connection."""

    write: Callable[[bytes], None]
    write_pieces: Callable[[list[bytes]], None]

    def __init__(self, frontend: Frontend) -> None:
        self.deadline_s = NEVER
        self.tunnel: Callable[[bytes], None] | None = None
        """Where bytes go once the connection speaks another protocol."""
        self._frontend = frontend
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._reader = RequestReader(frontend.limits, self, self._on_request, self._on_failure)
        self._active: Exchange | None = None
        self._errand: Errand | None = None
        self._waiting: deque[Exchange] = deque()
        self._refusal: RequestError | None = None
        self._auth_memo: dict[bytes, object] = {}
        self._reading = True
        self._rest = b""
        self._turning = False
        self._lingering = False
        self._unsent_bytes = 0
        self._clogged = False

    def __repr__(self) -> str:
        state = "lingering" if self._lingering else "serving" if self._active else "idle"
        return f"<Downstream {state}, {len(self._waiting)} waiting, {'reading' if self._reading else 'paused'}>"

    # asyncio's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse it when there are too many."""
        frontend = self._frontend
        self._transport = cast("asyncio.Transport", transport)
        self.write, self.write_pieces = self._transport.write, self._transport.writelines
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        frontend.sweeper.add(self)
        frontend.connections.add(self)
        self.deadline_s = frontend.clock() + frontend.limits.head_timeout_s
        if len(frontend.connections) > frontend.most_connections:
            self._on_failure(RequestError("too_many_connections", "Too many connections.", retry_after_s=1))
            self._go_on()

    def data_received(self, data: bytes) -> None:
        """Read requests out of the bytes."""
        if self.tunnel is not None:
            self.tunnel(data)
            return
        if self._lingering:
            return
        reader, was_in_head = self._reader, self._reader.in_head
        if len(data) > TURN_BYTES:
            self._feed_much(data)
        else:
            reader.feed(data)
        self.body_progress()
        self._go_on()
        if reader.in_head and not was_in_head and self._active is None and not (self._lingering or self._clogged):
            self.deadline_s = self._frontend.clock() + self._frontend.limits.head_timeout_s

    def _feed_much(self, data: bytes) -> None:
        """Read data now if it can only be one piece of a body, else its beginning; go on a turn later."""
        reader, rest = self._reader, b""
        if not reader.in_long_body:
            data, rest = data[:TURN_BYTES], data[TURN_BYTES:]
        reader.feed(data)
        if rest and reader.in_long_body:
            reader.feed(rest)
            rest = b""
        if not self._transport.is_closing():
            if self._reading:
                self._transport.pause_reading()
            self._rest, self._turning = rest, True
            self._frontend.loop.call_soon(self._go_on_reading)

    def _go_on_reading(self) -> None:
        rest, self._rest, self._turning = self._rest, b"", False
        if self._reading and not self._transport.is_closing():
            self._transport.resume_reading()
        if rest:
            self.data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left: whatever was done for it stops."""
        self._frontend.sweeper.discard(self)
        self._frontend.connections.discard(self)
        self._reader.stop()
        self._waiting.clear()
        self._rest, self._refusal = b"", None
        exchange, self._active = self._active, None
        if exchange is not None:
            exchange.client_left = True
            if self._errand is not None and not exchange.ended:
                self._errand.cancel()

    def pause_writing(self) -> None:
        """The client takes less than we have: hold the backend back, and begin no other answer."""
        self._clogged = True
        self._await_client()
        if self._active is not None and self._active.source is not None:
            self._active.source.pause_reading()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._clogged, self._unsent_bytes = False, 0
        if self._active is not None:
            self.deadline_s = NEVER
            if self._active.source is not None:
                self._active.source.resume_reading()
        elif not self._lingering:
            self._await_request()
            self._go_on()

    def _await_client(self) -> None:
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self.deadline_s = self._frontend.clock() + self._frontend.limits.write_timeout_s

    def on_deadline(self, now_s: float) -> None:
        """Something took too long: a head, a body, a read of our answer, or the next request."""
        self.deadline_s = NEVER
        exchange, unsent_bytes = self._active, self._transport.get_write_buffer_size()
        if unsent_bytes and (unsent_bytes < self._unsent_bytes or not self._unsent_bytes):
            self._await_client()
        elif exchange is not None and not exchange.began:
            exchange.body.fail(RequestError("request_timeout", "The request's body took too long."))
        elif exchange is None and self._reader.in_head and not self._lingering and not self._clogged:
            self._on_failure(RequestError("request_timeout", "The request's head took too long."))
            self._go_on()
        else:
            self._transport.abort()

    # Requests, as the reader finds them.

    def _on_request(self, head: RequestHead, body: InboundBody) -> None:
        exchange = Exchange(self, head, body, self._frontend.clock(), self._auth_memo)
        self._waiting.append(exchange)
        if len(self._waiting) - (self._active is None) >= self._frontend.limits.pipelined:
            exchange.keep_alive = False
            self._reader.stop()

    def _on_failure(self, error: RequestError) -> None:
        self._reader.stop()
        self._refusal = error

    def _go_on(self) -> None:
        """Serve the next request, unless one is being served; never from inside the reader, which it may use."""
        if self._active is not None or self._lingering or self._clogged:
            return
        if self._waiting:
            exchange = self._active = self._waiting.popleft()
            self.deadline_s = NEVER
            if self._frontend.draining:
                exchange.keep_alive = False
            errand = Errand(self._frontend.serve(exchange), self._frontend.loop)
            if not errand.done:
                self._errand = errand
        elif self._refusal is not None:
            self._refuse()

    def _refuse(self) -> None:
        error, self._refusal = self._refusal, None
        if error is None:
            return
        lines, content = self._frontend.refusal(error)
        self.write(
            b"HTTP/1.1 %d \r\n%bcontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (error.status, lines, len(content), content)
        )
        self._linger()

    # The connection, as exchanges and bodies use it.

    def exchange_ended(self, exchange: Exchange) -> None:
        """Go on with the next request, or close."""
        self._active = self._errand = None
        if not exchange.keep_alive or not exchange.body.complete:
            self._linger()
        elif self._waiting or self._refusal is not None:
            self._frontend.loop.call_soon(self._go_on)
        elif self._frontend.draining:
            self._linger()
        else:
            self._reader.refuse_upgrade()
            self.resume_reading()
            if self._waiting:
                self._frontend.loop.call_soon(self._go_on)
            elif not self._clogged:
                self._await_request()

    def _await_request(self) -> None:
        limits = self._frontend.limits
        wait_s = limits.head_timeout_s if self._reader.in_head else limits.idle_timeout_s
        self.deadline_s = self._frontend.clock() + wait_s

    def exchange_broken(self, exchange: Exchange) -> None:
        """Close without the end of the answer's framing."""
        self._active = self._errand = None
        self._reader.stop()
        self._waiting.clear()
        # Closing flushes what was written first; without an end of the framing the client sees a broken message.
        self._transport.close() if exchange.head.version == "1.1" else self._transport.abort()

    def pause_reading(self) -> None:
        """Take no more bytes from the client; nothing it does not send meanwhile counts as slow."""
        if self._reading and not self._transport.is_closing():
            self._reading = False
            if not self._turning:
                self._transport.pause_reading()
            if self._active is not None and not self._active.began:
                self.deadline_s = NEVER

    def resume_reading(self) -> None:
        """Take bytes from the client again."""
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            if not self._turning:
                self._transport.resume_reading()

    def body_progress(self) -> None:
        """The time between two pieces of a body starts again."""
        active = self._active
        if active is not None and not active.began and self._reading:
            complete = active.body.complete
            self.deadline_s = NEVER if complete else self._frontend.clock() + self._frontend.limits.body_timeout_s

    def drain(self) -> None:
        """Close when nothing is being served, else after it."""
        if self._active is not None:
            self._active.keep_alive = False
        elif not self._lingering:
            self._transport.close()

    def cut(self) -> None:
        """Break off what is being served, or close at once if nothing is."""
        if self._errand is not None and self._active is not None and not self._active.ended:
            self._errand.cancel()
        else:
            self._transport.abort()

    def close(self) -> None:
        """Close after what is queued has been sent."""
        self._transport.close()

    def become_tunnel(self, sink: Callable[[bytes], None]) -> bytes:
        """Stop speaking HTTP; returns what has come of the other protocol so far."""
        self.tunnel = sink
        self.deadline_s = NEVER
        return self._reader.take_upgraded()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _linger(self) -> None:
        self._reader.stop()
        self._waiting.clear()
        self._lingering = True
        self.deadline_s = self._frontend.clock() + LINGER_S
        self.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        elif not self._transport.is_closing():
            self._transport.close()
