"""One row of the request tables, and the few words the tables are written in.

A row says what is sent, which answers may come in order (each a set of statuses), whether the connection must be closed
after them, what the backend must have seen for the 2xx ones, and the rule it stands for. `/smuggled` is the target of
every request that is hidden in another one: it must never be answered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

CRLF = b"\r\n"
HOST = b"Host: a.example"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
BODY_LIMIT_BYTES = 1 << 20  # what the harness sets `listen.limits.body_bytes` and `upload_bytes` to
HEAD_LIMIT_BYTES = 32 << 10  # the default of `listen.limits.head_bytes`
TARGET_LIMIT_BYTES = 8 << 10
FIELDS_LIMIT = 128

OK, BAD = frozenset({200}), frozenset({400})
# Legal but odd: refusing is as safe as serving, as long as what is passed on is canonical.
EITHER = OK | BAD


@dataclass(frozen=True, slots=True)
class Seen:
    """What the backend must have seen of one accepted request; None means: any.

    Attributes:
        fields: each once, with this value ("*": any).
        other_than: no field of that name has this value.
        absent: no field of that name, and none of these words in any value.
    """

    method: str | None = None
    target: str | None = None
    body: bytes | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    other_than: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One row.

    Attributes:
        answers: the statuses that each answer may have, in order.
        why: the rule, with the section of its RFC.
        closes: the connection must end after the answers (None: either way).
        mute: closing without the last answer is as good: what was sent there is not HTTP.
        methods: of the requests in order, where HEAD makes a difference.
    """

    name: str
    raw: bytes
    answers: tuple[frozenset[int], ...]
    why: str
    closes: bool | None = None
    mute: bool = False
    sees: tuple[Seen, ...] = ()
    methods: tuple[str, ...] = ()


def head(start: bytes, *lines: bytes) -> bytes:
    """A start line and field lines as they are, and the empty line."""
    return CRLF.join((start, *lines, b"", b""))


def get(*lines: bytes, target: bytes = b"/x", host: bytes = HOST) -> bytes:
    """A GET with these field lines after its Host."""
    return head(b"GET " + target + b" HTTP/1.1", host, *lines)


def post(*lines: bytes, body: bytes = b"", target: bytes = b"/x") -> bytes:
    """A POST with exactly these field lines after its Host, then these bytes."""
    return head(b"POST " + target + b" HTTP/1.1", HOST, *lines) + body


def sized(body: bytes, *lines: bytes, target: bytes = b"/x") -> bytes:
    """A POST with a plain Content-Length."""
    return post(b"Content-Length: %d" % len(body), *lines, body=body, target=target)


def chunked(body: bytes, *lines: bytes, target: bytes = b"/x") -> bytes:
    """A POST whose chunked body is exactly these bytes."""
    return post(CHUNKED, *lines, body=body, target=target)


def refused(name: str, raw: bytes, why: str, *statuses: int, mute: bool = False) -> Case:
    """Exactly one answer, 400 unless told, and the connection ends."""
    return Case(name, raw, (frozenset(statuses) or BAD,), why, closes=True, mute=mute)


def served(name: str, raw: bytes, why: str, *sees: Seen, closes: bool | None = False) -> Case:
    """A 200 for each request, and the backend saw these."""
    return Case(name, raw, (OK,) * max(1, len(sees)), why, closes=closes, sees=sees)


def either(name: str, raw: bytes, why: str, *sees: Seen, also: tuple[int, ...] = ()) -> Case:
    """200 or a refusal; what the backend saw holds only for a 200."""
    return Case(name, raw, (EITHER | frozenset(also),), why, sees=sees)
