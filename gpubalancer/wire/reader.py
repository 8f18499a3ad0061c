"""Bytes of one client connection in, requests out. No sockets, no clock.

llhttp does the grammar, `wire.heads` the meaning. A request is handed over as soon as its head is complete, and its
body follows through `InboundBody`; a connection that can't be understood ends with one `on_failure`, after which every
byte is ignored: nothing behind an error can be trusted to start a request.

llhttp bounds nothing, so sizes are counted here. A head's size is exact at its end; while it is incomplete only whole
pieces inside it count, so no split into TCP segments changes what is refused. Fields and trailers are counted as they
come, because one read may bring 50,000 of them.

llhttp takes RTSP for HTTP and does not tell, so the request line's own bytes are looked at. Where it stands is known if
data begins with it, as from every client that waits for its answers. Of a pipelined request it is not: there the name
of the protocol must not occur in the data that its head came in.
"""

from collections.abc import Callable
from typing import NoReturn

import httptools

from gpubalancer.domain.errors import RequestError
from gpubalancer.wire.body import HIGH_WATER_BYTES, Flow, InboundBody
from gpubalancer.wire.heads import ACTED_ON, Headers, RequestHead, read_request_head
from gpubalancer.wire.limits import KIB, Limits

_CHUNK_OVERHEAD_BYTES = 64 * KIB
_CHUNK_OVERHEAD_RATIO = 8
"""Chunk sizes, extensions and trailers may take 64 KiB and 8 bytes per byte of body (a 1-byte chunk takes 5)."""
_RTSP = b" RTSP/"


class RequestReader:
    """Parses one connection's bytes; also the callbacks that httptools wants."""

    def __init__(
        self,
        limits: Limits,
        flow: Flow,
        on_request: Callable[[RequestHead, InboundBody], None],
        on_failure: Callable[[RequestError], None],
    ) -> None:
        self._limits = limits
        self._flow = flow
        self._on_request = on_request
        self._on_failure = on_failure
        self._body: InboundBody | None = None
        self._failure: RequestError | None = None
        self._stopped = False
        self._held: bytearray | None = None
        self._start_over()

    def _start_over(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self.in_head = False
        self._line: bytes | None = b""
        self._looked_at = self._pipelined = self._rtsp = False
        self._data = b""
        self._clear_head()

    def _clear_head(self) -> None:
        self._target = b""
        self._headers: Headers = []
        self._head_bytes = 0
        self._segment_bytes = 0
        self._trailers = 0
        self._in_body = self._chunked = False

    # The connection's side.

    def feed(self, data: bytes) -> None:
        """Take bytes as they came from the socket."""
        if self._held is not None:
            self._hold(data)
            return
        if self._stopped:
            return
        was_in_head, was_in_body = self.in_head, self._in_body
        self._look(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # The message asked for another protocol; what follows it waits until that is decided.
            self._hold(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            if not self._stopped:
                self._fail(self._failure or _explain(error, in_body=self._in_body))
            return
        if self.in_head and was_in_head:
            self._check_open_head(len(data))
        elif self._in_body and was_in_body:
            self._check_chunk_overhead(len(data))
        if not self.in_head:
            self._data = b""
            if not self._in_body:
                self._line = b""  # the next data begins with a request line

    def _hold(self, data: bytes) -> None:
        """Keep what may be of another protocol until that is decided; no more than one read beyond the high water."""
        held = self._held = self._held or bytearray()
        held += data
        if len(held) > HIGH_WATER_BYTES:
            self._flow.pause_reading()

    @property
    def in_long_body(self) -> bool:
        """True inside a body of a known length: what comes of it is one piece, however much it is."""
        return self._in_body and not self._chunked

    def stop(self) -> None:
        """Ignore whatever else comes."""
        self._stopped = True
        self._held = None

    def refuse_upgrade(self) -> None:
        """No other protocol will be spoken: read on as HTTP."""
        held, self._held = self._held, None
        if held is not None and not self._stopped:
            self._start_over()
            if held:
                self.feed(bytes(held))

    def take_upgraded(self) -> bytes:
        """The other protocol begins: give up what came of it so far, and read no more."""
        held, self._held = bytes(self._held or b""), None
        self._stopped = True
        self._flow.resume_reading()
        return held

    def _look(self, data: bytes) -> None:
        """Look for another protocol in the request line that data begins with, or goes on with."""
        begun = self._line
        if begun is not None:
            # RFC 9112 section 2.2 allows empty lines before a request.
            line = begun + data if begun else data.lstrip(b"\r\n")
            end = line.find(b"\n")
            self._line = line if end < 0 else None
            self._looked_at, self._pipelined = not self.in_head, False
            self._rtsp = line.find(_RTSP, 0, end) >= 0
        elif self._pipelined and self.in_head:
            data = self._data + data
            self._rtsp = _RTSP in data
        self._data = data

    def _check_open_head(self, fed_bytes: int) -> None:
        self._segment_bytes += fed_bytes
        if self._segment_bytes > self._limits.head_bytes:
            self._fail(self._too_large_head())

    def _check_chunk_overhead(self, fed_bytes: int) -> None:
        self._segment_bytes += fed_bytes
        body = self._body
        if body is None or self._segment_bytes - body.size_bytes <= _CHUNK_OVERHEAD_BYTES:
            return
        if self._segment_bytes - body.size_bytes > _CHUNK_OVERHEAD_BYTES + _CHUNK_OVERHEAD_RATIO * body.size_bytes:
            self._fail(RequestError("body_too_large", "Chunk extensions or trailers are too long."))

    def _too_large_head(self) -> RequestError:
        if len(self._target) > self._limits.target_bytes or not (self._headers or self._target):
            return RequestError("target_too_long", f"The target is longer than {self._limits.target_bytes} bytes.")
        return RequestError("head_too_large", f"The head is larger than {self._limits.head_bytes} bytes.")

    def _fail(self, error: RequestError) -> None:
        self._stopped = True
        if self._body is not None:
            self._body.fail(error)
            self._body = None
        else:
            self._on_failure(error)

    def _refuse(self, error: RequestError) -> NoReturn:
        self._failure = error
        raise error

    # httptools' callbacks.

    def on_message_begin(self) -> None:
        """Begin a head."""
        if self._stopped:
            self._refuse(RequestError("malformed_request", "Nothing more is read of this connection."))
        self._clear_head()
        self.in_head = True
        if self._looked_at:
            self._looked_at = False
        else:
            self._pipelined, self._rtsp = True, _RTSP in self._data

    def on_url(self, piece: bytes) -> None:
        """Take a piece of the target."""
        self._target += piece
        if len(self._target) > self._limits.target_bytes:
            self._refuse(self._too_large_head())

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field; one after the head is a trailer, and dropped (RFC 9110 section 6.5.1)."""
        if self._in_body:
            self._trailers += 1
            if self._trailers > self._limits.header_count:
                self._refuse(RequestError("body_too_large", f"More than {self._limits.header_count} trailers."))
            return
        name = name.lower()
        if b"_" in name:
            self._refuse(RequestError("invalid_header", "Field names with an underscore are not accepted."))
        if not value.isascii() and name in ACTED_ON:
            self._refuse(RequestError("invalid_header", f"{name.decode()} must be plain ASCII."))
        self._head_bytes += len(name) + len(value) + 4
        self._headers.append((name, value.rstrip(b" \t")))
        if len(self._headers) > self._limits.header_count:
            self._refuse(RequestError("head_too_large", f"More than {self._limits.header_count} header fields."))

    def on_headers_complete(self) -> None:
        """Check the head and hand the request over."""
        limits, parser = self._limits, self._parser
        if self._rtsp:
            self._refuse(RequestError("unsupported_version", _ONLY_HTTP))
        if self._head_bytes + len(self._target) > limits.head_bytes:
            self._refuse(self._too_large_head())
        try:
            head = read_request_head(
                parser.get_method().decode(), self._target, parser.get_http_version(), self._headers
            )
        except RequestError as error:
            self._refuse(error)
        self.in_head, self._in_body, self._chunked, self._segment_bytes = False, True, head.chunked, 0
        self._body = body = InboundBody(self._flow, limits.body_bytes)
        self._on_request(head, body)

    def on_body(self, piece: bytes) -> None:
        """Pass a piece of the body on."""
        if self._body is not None:
            self._body.feed(piece)

    def on_message_complete(self) -> None:
        """End the body."""
        body, self._body, self._in_body = self._body, None, False
        if body is not None:
            body.finish()


_ONLY_HTTP = "Only HTTP/1.1 and HTTP/1.0 are spoken here."
_EXPLANATIONS = {
    "Data after `Connection: close`": "Bytes came after a request that was the last one.",
    "Transfer-Encoding": "The message's framing can be read in two ways.",
    "Content-Length": "The message's framing can be read in two ways.",
    "Invalid HTTP version": _ONLY_HTTP,
    "PRI": "HTTP/2 is not spoken here.",
}


def _explain(error: httptools.HttpParserError, *, in_body: bool) -> RequestError:
    text = str(error)
    if isinstance(error, httptools.HttpParserInvalidURLError):
        return RequestError("invalid_target", "The request target is malformed.")
    for key, sentence in _EXPLANATIONS.items():
        if key in text:
            code = "unsupported_version" if "spoken" in sentence else "ambiguous_framing"
            return RequestError(code, sentence)
    where = "body's framing" if in_body else "request"
    return RequestError("malformed_request", f"The {where} is malformed: {text}.")
