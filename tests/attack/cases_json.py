"""Bodies that decide where a request goes: what two JSON readers could read in two ways is refused (RFC 8259)."""

from tests.attack.case import CHUNKED, OK, Case, Seen, either, head, post, refused, served, sized

_CHAT = b"/v1/chat/completions"
_TYPE = b"Content-Type: application/json"
_GOOD = '{"model": "m", "messages": [{"role": "user", "content": "grüß 😀"}], "unknown_field": [1, null]}'.encode()

# Refused by us, as the client's fault; the connection may go on, since nobody doubts where the body ended.
_REFUSED = frozenset({400, 404, 422})

_BAD_BODIES = {
    "empty": b"",
    "not JSON": b"model=m",
    "cut off": _GOOD[:-1],
    "two documents": _GOOD + _GOOD,
    "an array": b'[{"model": "m"}]',
    "a string": b'"m"',
    "no model": b'{"messages": []}',
    "model null": b'{"model": null, "messages": []}',
    "model a number": b'{"model": 1, "messages": []}',
    "model a list": b'{"model": ["m"], "messages": []}',
    "model empty": b'{"model": "", "messages": []}',
    "model unknown": b'{"model": "other", "messages": []}',
    "model with a space": b'{"model": "m ", "messages": []}',
    "model in capitals": b'{"model": "M", "messages": []}',
    "model with NUL": b'{"model": "m\\u0000", "messages": []}',
    "model twice": b'{"model": "m", "model": "other", "messages": []}',
    "model twice, the good one last": b'{"model": "other", "model": "m", "messages": []}',
    "model twice, one escaped": b'{"model": "m", "\\u006dodel": "other", "messages": []}',
    "not UTF-8": b'{"model": "m", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
    "a lone surrogate": b'{"model": "\\ud800", "messages": []}',
    "byte order mark": b"\xef\xbb\xbf" + _GOOD,
    "UTF-16": _GOOD.decode().encode("utf-16"),
    "NaN": b'{"model": "m", "messages": [], "temperature": NaN}',
    "a comment": b'{"model": "m", /* "model": "other", */ "messages": []}',
    "a trailing comma": b'{"model": "m", "messages": [],}',
    "single quotes": b"{'model': 'm', 'messages': []}",
    "100,000 brackets": b'{"model": "m", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NUL behind": _GOOD + b"\x00",
}


def _bad(name: str, raw: bytes) -> Case:
    return Case(f"json {name}", raw, (_REFUSED,), "8259, DESIGN 7")


CASES: list[Case] = [
    served(
        "json",
        sized(_GOOD, _TYPE, target=_CHAT),
        "DESIGN 7: bodies cross unchanged",
        Seen(target=_CHAT.decode(), body=_GOOD),
    ),
    served(
        "json in chunks",
        post(CHUNKED, _TYPE, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(_GOOD), _GOOD), target=_CHAT),
        "DESIGN 7: bodies cross unchanged",
        Seen(target=_CHAT.decode(), body=_GOOD),
    ),
    served(
        "json with spaces around",
        sized(b" \r\n" + _GOOD + b"\n ", _TYPE, target=_CHAT),
        "8259 2",
        Seen(body=b" \r\n" + _GOOD + b"\n "),
    ),
    served(
        "json expecting 100",
        sized(_GOOD, _TYPE, b"Expect: 100-continue", target=_CHAT),
        "9110 10.1.1",
        Seen(body=_GOOD),
    ),
    either(
        "json of another type",
        sized(_GOOD, b"Content-Type: text/plain", target=_CHAT),
        "9110 8.3",
        Seen(body=_GOOD),
        also=(415,),
    ),
    *(_bad(name, sized(body, _TYPE, target=_CHAT)) for name, body in _BAD_BODIES.items()),
    refused(
        "json cut by its length",
        post(b"Content-Length: %d" % (len(_GOOD) + 5), _TYPE, body=_GOOD, target=_CHAT),
        "9112 8",
        408,
    ),
    Case(
        "models are listed here", head(b"GET /v1/models HTTP/1.1", b"Host: a.example"), (OK,), "DESIGN 7", closes=False
    ),
    Case(
        "two bad bodies, then a good one",
        sized(b"{", target=_CHAT) * 2 + sized(_GOOD, target=_CHAT),
        (_REFUSED, _REFUSED, OK),
        "9112 9.3",
        closes=False,
    ),
]
