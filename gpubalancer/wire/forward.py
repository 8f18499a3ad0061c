"""What a gateway changes in a head on its way, in both directions (RFC 9110 section 7.6).

Requests: hop-by-hop fields and all that `Connection` names go, so do credentials, cookies, our own `x-gpubalancer-*`
and what claims to know the client's address; Host, Via, framing and the backend's own credential come. Responses:
hop-by-hop fields go, Via and our own headers come.
"""

from dataclasses import dataclass

from gpubalancer.wire.heads import HOP_BY_HOP, Headers, RequestHead, ResponseHead

CREDENTIALS = frozenset(b"authorization x-api-key api-key x-goog-api-key proxy-authorization cookie".split())
"""The client's secrets are ours to check, and nobody else's to see."""

_SPOOFABLE = frozenset(b"forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip".split())
"""Fields by which a client could claim another address: no proxy stands before us that would set them."""

_REPLACED = frozenset(b"host content-length expect via x-request-id".split())
_OWN_PREFIX = b"x-gpubalancer-"

_DROPPED_FROM_REQUESTS = HOP_BY_HOP | CREDENTIALS | _SPOOFABLE | _REPLACED
_DROPPED_FROM_RESPONSES = HOP_BY_HOP | frozenset((b"content-length", b"via", b"x-request-id", b"proxy-authenticate"))


@dataclass(frozen=True, slots=True)
class Origin:
    """One backend as heads need it."""

    authority: bytes
    """The value of Host."""
    path_prefix: str
    """The path of the backend's URL, without a slash at its end."""
    credential_lines: bytes
    """Header lines that prove us to the backend, each ended by CRLF; empty where it wants none."""

    def path(self, target: str) -> str:
        """The target at this backend; an equal prefix of the client's path is not doubled."""
        prefix = self.path_prefix
        if prefix and not (target.startswith(prefix) and target[len(prefix) : len(prefix) + 1] in ("", "/", "?")):
            return prefix + target
        return target


def request_lines(
    head: RequestHead,
    origin: Origin,
    *,
    via: bytes,
    request_id: bytes,
    length: int | None,
    upgrade: bool = False,
    plain: bool = False,
) -> bytes:
    """The head that a backend gets, complete with its blank line.

    Arguments:
        head: the client's.
        origin: the backend.
        via: our name in Via.
        request_id: sent as x-request-id.
        length: of the body; None to send it chunked, or not at all if the client's request has none.
        upgrade: pass the client's wish for another protocol on.
        plain: ask for an answer that is not compressed, because its usage and its end are read here.
    """
    nominated = head.nominated
    lines = [
        b"%b %b HTTP/1.1\r\nhost: %b\r\n"
        % (head.method.encode(), origin.path(head.target.origin_form).encode(), origin.authority)
    ]
    for name, value in head.headers:
        if name in _DROPPED_FROM_REQUESTS or name in nominated or name.startswith(_OWN_PREFIX):
            continue
        if plain and name == b"accept-encoding":
            continue
        lines.append(b"%b: %b\r\n" % (name, value))
    passed = via
    if b"via" in head.fields:
        passed = b", ".join([*(value for name, value in head.headers if name == b"via"), via])
    lines.append(b"via: %b\r\nx-request-id: %b\r\n" % (passed, request_id))
    lines.append(origin.credential_lines)
    if plain:
        lines.append(b"accept-encoding: identity\r\n")
    if length is not None:
        lines.append(b"content-length: %d\r\n" % length)
    elif head.chunked:
        lines.append(b"transfer-encoding: chunked\r\n")
    lines.append(b"connection: upgrade\r\nupgrade: %b\r\n\r\n" % head.upgrade if upgrade and head.upgrade else b"\r\n")
    return b"".join(lines)


def response_lines(head: ResponseHead, own_lines: bytes, via: bytes) -> bytes:
    """The header lines that the client gets, without framing."""
    nominated = head.nominated
    lines = [
        b"%b: %b\r\n" % (name, value)
        for name, value in head.headers
        if name not in _DROPPED_FROM_RESPONSES and name not in nominated and not name.startswith(_OWN_PREFIX)
    ]
    lines.append(b"via: %b\r\n" % via)
    lines.append(own_lines)
    return b"".join(lines)


def names_us(headers: Headers, via: bytes) -> bool:
    """True if Via shows that this request has passed here before."""
    passed = (each.strip() for name, value in headers if name == b"via" for each in value.split(b","))
    return any(each.split(b" ", 1)[-1] == via.split(b" ", 1)[-1] for each in passed)
