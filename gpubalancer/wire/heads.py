"""Heads of requests and responses: what was sent, checked once, in the one form that everything else reads.

llhttp has already refused what is not HTTP (bare CR and LF, obs-fold, white space before a colon, control characters,
two lengths, signs). Here stands what a gateway must refuse beyond that: whatever two servers could read differently.
The rules are tables: `ONCE` for fields that may not repeat, `ACTED_ON` for fields whose bytes must be plain ASCII,
`NEVER_NOMINATED` for fields that `Connection` may not remove.

Field names are lower case from here on.
"""

from dataclasses import dataclass

from gpubalancer.domain.errors import RequestError
from gpubalancer.wire.target import Target, check_host, read_target

Headers = list[tuple[bytes, bytes]]

ONCE = frozenset(
    b"host content-length transfer-encoding content-type authorization x-api-key api-key expect upgrade x-request-id"
    b" x-gpubalancer-tier x-gpubalancer-priority x-gpubalancer-deadline x-session-id content-encoding".split()
)
"""Fields with one meaning: a second one is an attempt to be read in two ways."""

ACTED_ON = ONCE | frozenset((b"accept", b"connection", b"via", b"te", b"trailer", b"keep-alive", b"proxy-connection"))
"""Fields that decide something here: bytes above 0x7f are refused in them."""

NEVER_NOMINATED = frozenset(
    b"host authorization x-api-key api-key content-length content-type transfer-encoding cache-control via"
    b" x-request-id".split()
)
"""RFC 9110 section 7.6.1: end-to-end fields that `Connection` must not name."""

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""All that an inference API uses; the rest (CONNECT, TRACE, WebDAV) is refused before anything looks at it."""

HOP_BY_HOP = frozenset(b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade".split())
"""RFC 9110 section 7.6.1: never forwarded, in either direction."""

_BODILESS_BY_TOKEN = frozenset((b"h2c",))


@dataclass(slots=True)
class RequestHead:
    """A request's head after every check."""

    method: str
    target: Target
    headers: Headers
    fields: dict[bytes, bytes]
    """The last value of each field; exact for those in `ONCE`."""
    version: str
    """`1.0` or `1.1`."""
    length: int | None
    """Content-Length; None where there is none, or where the body is chunked."""
    chunked: bool
    keep_alive: bool
    nominated: frozenset[bytes]
    """Fields that `Connection` names: hop-by-hop, too."""
    expects_continue: bool
    upgrade: bytes | None
    """The protocol asked for, where `Connection` names Upgrade."""

    @property
    def has_body(self) -> bool:
        """True if bytes follow the head."""
        return self.chunked or bool(self.length)


def read_request_head(method: str, raw_target: bytes, version: str, headers: Headers) -> RequestHead:
    """Check a request's head and give it its one meaning.

    Arguments:
        method: as sent; llhttp knows all of them.
        raw_target: the second word of the request line.
        version: `1.0` or `1.1`.
        headers: names in lower case, values without surrounding white space, in the order sent.

    Raises:
        RequestError: with a status in the 400s or 501, 505; the connection must be closed after it.
    """
    if method not in METHODS:
        raise RequestError("method_not_allowed", f"{method} is not served here.")
    if version not in ("1.1", "1.0"):
        raise RequestError("unsupported_version", "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    fields = dict(headers)
    if len(fields) != len(headers):
        _refuse_repeats(headers)
    target = read_target(raw_target)
    _check_authority(fields, version)
    nominated = _nominated(headers, fields)
    length, chunked = _framing(fields, version)
    keep_alive = b"close" not in nominated and (version == "1.1" or b"keep-alive" in nominated)
    return RequestHead(
        method=method,
        target=target,
        headers=headers,
        fields=fields,
        version=version,
        length=length,
        chunked=chunked,
        keep_alive=keep_alive,
        nominated=nominated,
        expects_continue=b"expect" in fields and _expects_continue(fields[b"expect"], version),
        upgrade=_upgrade(fields, nominated, has_body=chunked or bool(length)) if b"upgrade" in fields else None,
    )


def _refuse_repeats(headers: Headers) -> None:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and name in ONCE:
            code = "invalid_host" if name == b"host" else "ambiguous_framing"
            raise RequestError(code, f"{name.decode()} must not be sent twice.")
        seen.add(name)


def _check_authority(fields: dict[bytes, bytes], version: str) -> None:
    host = fields.get(b"host")
    if host is not None:
        check_host(host)
    elif version == "1.1":
        raise RequestError("invalid_host", "HTTP/1.1 requires a Host field.")


_PLAIN_CONNECTION = {b"keep-alive": frozenset((b"keep-alive",)), b"close": frozenset((b"close",))}
_NOTHING: frozenset[bytes] = frozenset()


def _nominated(headers: Headers, fields: dict[bytes, bytes]) -> frozenset[bytes]:
    """The tokens of all Connection fields, lower case."""
    value = fields.get(b"connection")
    if value is None:
        return _NOTHING
    plain = _PLAIN_CONNECTION.get(value)
    if plain is not None and len(fields) == len(headers):
        return plain
    values = [value for name, value in headers if name == b"connection"]
    tokens = frozenset(token.strip().lower() for value in values for token in value.split(b","))
    if tokens & NEVER_NOMINATED:
        raise RequestError("invalid_header", "Connection names a field that is not hop-by-hop.")
    return tokens


def _framing(fields: dict[bytes, bytes], version: str) -> tuple[int | None, bool]:
    """Length and chunkedness of the body (RFC 9112 section 6)."""
    encoding, raw_length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if encoding is not None:
        if raw_length is not None:
            raise RequestError("ambiguous_framing", "Content-Length and Transfer-Encoding exclude one another.")
        if version == "1.0":
            raise RequestError("ambiguous_framing", "HTTP/1.0 has no Transfer-Encoding.")
        if encoding.lower() != b"chunked":
            raise RequestError("unsupported_transfer_encoding", "The only transfer coding served is chunked.")
        return None, True
    if raw_length is None:
        return None, False
    # 18 digits are below 2**63: no reader behind us can overflow.
    if not raw_length.isdigit() or len(raw_length) > 18 or (raw_length[:1] == b"0" and raw_length != b"0"):
        raise RequestError("ambiguous_framing", "Content-Length must be a plain decimal number.")
    return int(raw_length), False


def _expects_continue(value: bytes, version: str) -> bool:
    if value.lower() != b"100-continue":
        raise RequestError("expectation_failed", "The only expectation served is 100-continue.")
    # RFC 9110 section 10.1.1: a 1.0 client's expectation is ignored.
    return version == "1.1"


def _upgrade(fields: dict[bytes, bytes], nominated: frozenset[bytes], *, has_body: bool) -> bytes | None:
    if b"upgrade" not in nominated:
        return None
    protocol = fields[b"upgrade"].lower()
    # llhttp ends such a message at its head, so a body would be read as the next request.
    if has_body or protocol in _BODILESS_BY_TOKEN:
        raise RequestError("malformed_request", "This upgrade is not possible.")
    return protocol


@dataclass(slots=True)
class ResponseHead:
    """The head of a backend's answer."""

    status: int
    headers: Headers
    length: int | None
    chunked: bool
    keep_alive: bool
    nominated: frozenset[bytes]

    def field(self, name: bytes) -> bytes | None:
        """The first value of a field."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class BadResponse(Exception):  # noqa: N818  the wire's word for it
    """A backend's head that no gateway may forward; the text says why."""


def read_response_head(status: int, version: str, headers: Headers) -> ResponseHead:
    """Check the head of a backend's answer.

    Raises:
        BadResponse: the backend's framing could be read in two ways.
    """
    length: int | None = None
    chunked = close = keep = False
    nominated = _NOTHING
    for name, value in headers:
        if name == b"content-length":
            if length is not None or not value.isdigit() or len(value) > 18:
                raise BadResponse("Content-Length is repeated or no number")
            length = int(value)
        elif name == b"transfer-encoding":
            if chunked or value.lower() != b"chunked":
                raise BadResponse("Transfer-Encoding is not chunked")
            chunked = True
        elif name == b"connection":
            tokens = frozenset(token.strip().lower() for token in value.split(b","))
            nominated |= tokens
            close, keep = close or b"close" in tokens, keep or b"keep-alive" in tokens
    if version not in ("1.0", "1.1"):
        raise BadResponse(f"HTTP/{version} was not asked for")
    if chunked and length is not None:
        raise BadResponse("Content-Length and Transfer-Encoding together")
    if chunked and version == "1.0":
        raise BadResponse("Transfer-Encoding in HTTP/1.0")
    return ResponseHead(status, headers, length, chunked, not close and (version == "1.1" or keep), nominated)
