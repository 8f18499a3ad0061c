"""A strict second opinion on HTTP/1.1 requests, byte by byte, for what arrives at a backend (RFC 9112, RFC 9110).

It accepts only what leaves no room for two readings: origin-form target, exactly one valid Host, one framing, plain
chunks without extensions or trailers, no folding, no control characters, no `_` in names. A proxy that writes its own
requests has no reason to send anything else. Bytes are read from the front: each request that is whole is returned, the
rest must at least be the beginning of a canonical request, and anything else raises `NotCanonical`.
"""

import re
from dataclasses import dataclass

Fields = tuple[tuple[str, str], ...]

_TCHAR = rb"[!#$%&'*+\-.^`|~0-9A-Za-z]"  # RFC 9110 5.6.2 without "_", which many backends read as "-"
_PCHAR = rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})"  # RFC 3986 3.3
_TARGET = re.compile(rb"(?:/" + _PCHAR + rb"*)+(?:\?(?:" + _PCHAR + rb"|[/?])*)?")
_REG_NAME = rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*"
_HOST = re.compile(rb"(?:" + _REG_NAME + rb"|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_REQUEST_LINE = re.compile(rb"(" + _TCHAR + rb"+) ([^ ]+) HTTP/1\.1")
_FIELD = re.compile(rb"(" + _TCHAR + rb"+): ?((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,18}")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
_LINE_SO_FAR = re.compile(rb"[\t -~\x80-\xff]*\r?")
_CHUNK_SIZE_SO_FAR = re.compile(rb"[0-9A-Fa-f]{0,16}\r?")

# Fields that a proxy must take off (RFC 9110 7.6.1, 10.1.1) and those that it trusts only from itself.
_NEVER_FORWARDED = {"te", "trailer", "upgrade", "keep-alive", "proxy-connection", "http2-settings", "expect"}
_OWN_PREFIX = "x-gpubalancer-"
CONNECTION_OPTIONS = {"close", "keep-alive"}


class NotCanonical(Exception):  # noqa: N818 - a verdict on bytes, not an error of the program
    """The bytes are not strict HTTP/1.1.

    Arguments:
        reason: which rule is broken.
        data: the bytes that break it, cut at 200.
    """

    def __init__(self, reason: str, data: bytes) -> None:
        super().__init__(f"{reason}: {data[:200]!r}")
        self.reason = reason
        self.data = data[:200]


class Incomplete(Exception):  # noqa: N818
    """Canonical so far, but more bytes must come."""


@dataclass(frozen=True, slots=True)
class Request:
    """One whole request; text is latin-1, so that every byte is seen as it came."""

    method: str
    target: str
    fields: Fields
    body: bytes
    size_bytes: int

    def values(self, name: str) -> list[str]:
        """The values of every field of this name, in order."""
        return values(self.fields, name)


def values(fields: Fields, name: str) -> list[str]:
    """The values of every field called `name` (any case), in order."""
    return [value for key, value in fields if key.lower() == name.lower()]


def read_requests(data: bytes) -> tuple[list[Request], bytes]:
    """Read one connection's bytes: the whole requests, and the beginning of a next one.

    Raises:
        NotCanonical: at the first byte sequence that is not strict, also in an unfinished rest.
    """
    requests: list[Request] = []
    start = 0
    while start < len(data):
        if requests and "close" in options(requests[-1].fields):
            raise NotCanonical("bytes after a request with Connection: close", data[start:])
        try:
            request = read_request(data, start)
        except Incomplete:
            break
        requests.append(request)
        start += request.size_bytes
    return requests, data[start:]


def read_request(data: bytes, start: int = 0) -> Request:
    """Read the request that begins at `start`.

    Raises:
        Incomplete: canonical so far.
        NotCanonical: not strict HTTP/1.1.
    """
    lines, body_start, whole = head_lines(data, start)
    if not lines:
        raise Incomplete
    line = _REQUEST_LINE.fullmatch(lines[0])
    if line is None:
        raise NotCanonical("request line", lines[0])
    if _TARGET.fullmatch(line[2]) is None:
        raise NotCanonical("target", lines[0])
    fields = read_fields(lines[1:])
    if not whole:
        raise Incomplete
    hosts = values(fields, "host")
    if len(hosts) != 1 or _HOST.fullmatch(hosts[0].encode("latin-1")) is None:
        raise NotCanonical("Host", data[start:body_start])
    body, end = _read_body(data, body_start, framing(fields, data[start:body_start]))
    return Request(line[1].decode(), line[2].decode(), fields, body, end - start)


def head_lines(data: bytes, start: int) -> tuple[list[bytes], int, bool]:
    """Split a head at its CRLFs.

    Returns:
        The lines that are whole, where the body begins, and whether the head is whole.

    Raises:
        NotCanonical: a bare CR or LF, or a control character.
    """
    end = data.find(b"\r\n\r\n", start)
    whole = end >= 0
    lines = data[start : end if whole else len(data)].split(b"\r\n")
    for line in lines if whole else lines[:-1]:
        if _LINE_SO_FAR.fullmatch(line) is None or line.endswith(b"\r"):
            raise NotCanonical("control character, bare CR or bare LF", line)
        if not line:
            raise NotCanonical("empty line before a head", data[start:])
    if not whole and _LINE_SO_FAR.fullmatch(lines.pop()) is None:
        raise NotCanonical("control character, bare CR or bare LF", data[start:])
    return lines, end + 4, whole


def read_fields(lines: list[bytes]) -> Fields:
    """Read field lines (RFC 9112 5): token, colon, at most one space, value without space around it.

    Raises:
        NotCanonical: at the first line that is anything else.
    """
    fields = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise NotCanonical("field line", line)
        fields.append((match[1].decode("latin-1"), match[2].decode("latin-1")))
    return tuple(fields)


def framing(fields: Fields, head: bytes) -> int | None:
    """The body's length in bytes, None for chunked, 0 where nothing says (RFC 9112 6.3).

    Raises:
        NotCanonical: more than one framing, or one that is not plain.
    """
    lengths, codings = values(fields, "content-length"), values(fields, "transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise NotCanonical("more than one framing", head)
    if codings:
        if codings[0].lower() != "chunked":
            raise NotCanonical("Transfer-Encoding", head)
        return None
    if lengths and _LENGTH.fullmatch(lengths[0].encode("latin-1")) is None:
        raise NotCanonical("Content-Length", head)
    return int(lengths[0]) if lengths else 0


def _read_body(data: bytes, start: int, length_bytes: int | None) -> tuple[bytes, int]:
    if length_bytes is None:
        return read_chunked(data, start)
    end = start + length_bytes
    if len(data) < end:
        raise Incomplete
    return data[start:end], end


def read_chunked(data: bytes, start: int) -> tuple[bytes, int]:
    """Read a chunked body without extensions or trailers (RFC 9112 7.1).

    Returns:
        The body, and where the next message begins.

    Raises:
        Incomplete: canonical so far.
        NotCanonical: anything else than size, CRLF, data, CRLF, and `0 CRLF CRLF` at the end.
    """
    body = bytearray()
    while True:
        line_end = data.find(b"\r\n", start)
        if line_end < 0:
            if _CHUNK_SIZE_SO_FAR.fullmatch(data, start) is None:
                raise NotCanonical("chunk size", data[start:])
            raise Incomplete
        if _CHUNK_SIZE.fullmatch(data, start, line_end) is None:
            raise NotCanonical("chunk size", data[start : line_end + 2])
        size_bytes = int(data[start:line_end], 16)
        start = line_end + 2
        body += data[start : start + size_bytes]
        start += size_bytes
        closing = data[start : start + 2]
        if not b"\r\n".startswith(closing):
            raise NotCanonical("CRLF after chunk data" if size_bytes else "trailer", data[start : start + 40])
        if len(closing) < 2:
            raise Incomplete
        start += 2
        if size_bytes == 0:
            return bytes(body), start


def options(fields: Fields) -> set[str]:
    """What the Connection fields name, in lower case (RFC 9110 7.6.1)."""
    named = ",".join(values(fields, "connection")).split(",")
    return {option.strip().lower() for option in named} - {""}


def leaks(request: Request) -> list[str]:
    """Fields of a forwarded request that should have ended at the proxy: hop-by-hop, Expect, and its own names."""
    names = {name.lower() for name, _ in request.fields}
    own = {name for name in names if name.startswith(_OWN_PREFIX)}
    nominated = {f"connection: {option}" for option in options(request.fields) - CONNECTION_OPTIONS}
    return sorted((names & _NEVER_FORWARDED) | own | nominated)
