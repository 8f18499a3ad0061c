"""The request target, read once and refused when it could be read in two ways (RFC 9112 section 3.2).

Only origin-form and absolute-form are accepted. Path and query may hold RFC 3986 characters and valid percent-escapes
only. A path that a backend could normalise into another one (dot segments, empty segments, escaped separators) is
refused instead of normalised: the path that was checked is the path that is sent.

Targets repeat, so results are cached by their bytes.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qs

from gpubalancer.domain.errors import RequestError

_TARGET = re.compile(rb"(/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*)(?:\?([A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*))?")
_ABSOLUTE = re.compile(rb"https?://([^/?]+)(/.*|\?.*)?", re.IGNORECASE | re.DOTALL)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# What a server behind us might decode or normalise: escaped `.` `/` `\` NUL CR LF, dot segments (`..;` to some).
_AMBIGUOUS_PATH = re.compile(rb"%(?:2[ef]|5c|00|0[ad])|//|/\.{1,2}(?:[/;]|$)", re.IGNORECASE)
_REG_NAME = re.compile(rb"(?:[A-Za-z0-9\-._~]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Target:
    """A checked request target."""

    path: str
    query: str | None
    """Without its question mark; None if there is none, empty if there is nothing behind it."""
    authority: bytes | None
    """The authority of an absolute-form target, which overrides Host (RFC 9112 section 3.2.2)."""

    @property
    def origin_form(self) -> str:
        """What is sent upstream: path and query as they came."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    def parameter(self, name: str) -> str | None:
        """The first value of a query parameter."""
        values = parse_qs(self.query).get(name) if self.query else None
        return values[0] if values else None


@lru_cache(maxsize=1024)
def read_target(raw: bytes) -> Target:
    """Check a request target and split it.

    Raises:
        RequestError: `invalid_target`.
    """
    authority, origin = None, raw
    if not raw.startswith(b"/"):
        absolute = _ABSOLUTE.fullmatch(raw)
        if absolute is None:
            raise RequestError("invalid_target", "The request target must be a path or an http(s) URL.")
        authority, origin = absolute[1], absolute[2] or b"/"
        check_host(authority)
        if origin.startswith(b"?"):
            origin = b"/" + origin
    match = _TARGET.fullmatch(origin)
    if match is None or _BAD_ESCAPE.search(origin):
        raise RequestError("invalid_target", "The request target has characters that RFC 3986 does not allow.")
    if _AMBIGUOUS_PATH.search(match[1]):
        raise RequestError("invalid_target", "The path has dot segments, empty segments or escaped separators.")
    return Target(match[1].decode(), match[2].decode() if match[2] is not None else None, authority)


@lru_cache(maxsize=256)
def check_host(raw: bytes) -> None:
    """Check the value of Host: a name or address with an optional port (RFC 9112 section 3.2).

    Raises:
        RequestError: `invalid_host`.
    """
    if not _REG_NAME.fullmatch(raw):
        raise RequestError("invalid_host", "Host must be a name or an address with an optional port.")
