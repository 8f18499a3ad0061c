"""Hostile answers: what a backend sends, and what its client may make of it.

A client must always be able to tell a whole answer from a broken one: `502` is a whole refusal by the balancer, `cut`
is an answer that broke off before its end, `whole` is the backend's answer from its first byte to its last. Whatever
happens, the next answer is the next request's own.
"""

from dataclasses import dataclass
from typing import TypedDict

from tests.attack.hostile import End, Script

POISON = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"poison": 1}'
_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
_OK = _JSON + b"Content-Length: 2\r\n\r\n{}"
_TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\n{}"
_EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'

REFUSED = frozenset({"502"})
CUT = frozenset({"502", "cut"})  # after the head has gone downstream only an abnormal end is left
WHOLE = frozenset({"whole"})
SAFE = REFUSED | WHOLE  # a lenient reading with one meaning is as safe as a refusal
ANY = CUT | WHOLE


@dataclass(frozen=True, slots=True)
class Hostile:
    """One row.

    Attributes:
        name: also the backend's, the model's and the path's.
        script: what the backend does.
        outcomes: what the client may be left with.
        why: the rule.
        status: of a whole answer.
        method: of the request; `STREAM` asks for a chat completion as a stream.
        body_bytes: of the request.
        held_bytes: of that body, not sent before the answer has come, and then never.
        chunked: how the body is framed.
        must_say: what the client must find in a cut or whole answer.
        never_says: what must not reach the client.
    """

    name: str
    script: Script
    outcomes: frozenset[str]
    why: str
    status: int = 200
    method: str = "GET"
    body_bytes: int = 0
    held_bytes: int = 0
    chunked: bool = False
    must_say: bytes = b""
    never_says: bytes = b"poison"


class Body(TypedDict, total=False):
    """How a row's request carries its body."""

    body_bytes: int
    held_bytes: int
    chunked: bool


def _sends(*pieces: bytes, end: End = End.STAY, repeat: int = 1, early: bool = False) -> Script:
    return Script(pieces, end, repeat, early)


# Heads with no single reading: refused, and never passed on.
_BAD_HEADS = {
    "two-lengths": _JSON + b"Content-Length: 2\r\nContent-Length: 13\r\n\r\n{}" + POISON,
    "two-equal-lengths": _JSON + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "list-of-lengths": _JSON + b"Content-Length: 2, 13\r\n\r\n{}" + POISON,
    "length-and-chunked": _JSON + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + POISON,
    "chunked-and-length": _JSON + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n" + POISON,
    "length-minus": _JSON + b"Content-Length: -2\r\n\r\n{}",
    "length-plus": _JSON + b"Content-Length: +2\r\n\r\n{}",
    "length-hexadecimal": _JSON + b"Content-Length: 0x2\r\n\r\n{}",
    "length-word": _JSON + b"Content-Length: two\r\n\r\n{}",
    "length-overflow": _JSON + b"Content-Length: 18446744073709551618\r\n\r\n{}" + POISON,
    "length-empty": _JSON + b"Content-Length: \r\n\r\n{}",
    "coding-unknown": _JSON + b"Transfer-Encoding: cow\r\n\r\n0\r\n\r\n",
    "coding-gzip-chunked": _JSON + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding-chunked-twice": _JSON + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "coding-chunked-identity": _JSON + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "space-before-colon": _JSON + b"X-A : b\r\nContent-Length: 2\r\n\r\n{}",
    "field-without-colon": _JSON + b"X-A\r\nContent-Length: 2\r\n\r\n{}",
    "field-without-name": _JSON + b": b\r\nContent-Length: 2\r\n\r\n{}",
    "nul-in-value": _JSON + b"X-A: \x00\r\nContent-Length: 2\r\n\r\n{}",
    "bare-cr": _JSON + b"X-A: b\rX-B: c\r\nContent-Length: 2\r\n\r\n{}",
    "no-status-line": b'{"error": "not HTTP"}\r\n\r\n',
    "http-0-9": b"<html>hello</html>",
    "binary": b"\x15\x03\x01\x00\x02\x02\x0a" + bytes(60),
    "http-2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "status-of-two-digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}",
    "status-of-four-digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\n{}",
    "status-zero": b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\n{}",
    "status-999": b"HTTP/1.1 999 OK\r\nContent-Length: 2\r\n\r\n{}",
    "status-word": b"HTTP/1.1 two OK\r\nContent-Length: 2\r\n\r\n{}",
    "switching-unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + POISON,
    "a-request": b"GET /hostile HTTP/1.1\r\nHost: a\r\n\r\n",
}

# Odd heads that can be read in one way only, if they are read at all.
_ODD_HEADS = {
    "folded": _JSON + b"X-A: b\r\n c\r\nContent-Length: 2\r\n\r\n{}",
    "bare-lf": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "lower-case-version": b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "no-reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}",
    "length-leading-zero": _JSON + b"Content-Length: 02\r\n\r\n{}",
    "line-ends-first": b"\r\n\r\n" + _OK,
}

# Bodies that break after a good head; `poison` stands where a second answer would begin.
_BROKEN_BODIES = {
    "chunk-size-word": _JSON + _CHUNKED + b"2\r\n{}\r\nzz\r\n" + POISON,
    "chunk-size-minus": _JSON + _CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
    "chunk-size-overflow": _JSON + _CHUNKED + b"10000000000000002\r\n{}\r\n0\r\n\r\n",
    "chunk-too-long": _JSON + _CHUNKED + b"2\r\n{}!\r\n0\r\n\r\n",
    "chunk-without-line-end": _JSON + _CHUNKED + b"2\r\n{}0\r\n\r\n",
}

# A refusal before the request's end: how the connection ends, what the client may be left with, and the body.
_EARLY: dict[str, tuple[End, frozenset[str], Body]] = {
    "early-and-fin": (End.FIN, ANY, {"body_bytes": 900_000}),
    "early-and-stay": (End.STAY, WHOLE, {"body_bytes": 900_000}),
    "early-and-rst": (End.RST, ANY, {"body_bytes": 900_000}),
    "early-to-half-a-body": (End.STAY, WHOLE, {"body_bytes": 1000, "held_bytes": 500}),
    "early-to-half-the-chunks": (End.STAY, WHOLE, {"body_bytes": 1000, "held_bytes": 500, "chunked": True}),
}

# Streams that break after their head.
_EVENT_CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)
_CUT_STREAMS = {
    "stream-cut": (_EVENT_CHUNK, End.FIN),
    "stream-cut-in-a-chunk": (b"ff\r\n" + _EVENT, End.FIN),
    "stream-reset": (_EVENT_CHUNK, End.RST),
    "stream-bad-chunk": (_EVENT_CHUNK + b"zz\r\n", End.STAY),
}

_MANY_FIELDS = b"".join(b"X-%d: y\r\n" % number for number in range(20_000))

HOSTILE: list[Hostile] = [
    *(Hostile(name, _sends(data), REFUSED, "9112 4, 6.3") for name, data in _BAD_HEADS.items()),
    *(Hostile(name, _sends(data), SAFE, "9112 2.2, 5.2") for name, data in _ODD_HEADS.items()),
    *(Hostile(name, _sends(data), CUT, "9112 7.1") for name, data in _BROKEN_BODIES.items()),
    Hostile("fin-at-once", _sends(b"", end=End.FIN), REFUSED, "9112 8"),
    Hostile("rst-at-once", _sends(b"", end=End.RST), REFUSED, "9112 8"),
    Hostile("fin-in-head", _sends(_JSON, end=End.FIN), REFUSED, "9112 8"),
    Hostile("rst-in-head", _sends(_JSON, end=End.RST), REFUSED, "9112 8"),
    Hostile("fin-before-length", _sends(_JSON + b"Content-Length: 10\r\n\r\n{}", end=End.FIN), CUT, "9112 8"),
    Hostile(
        "fin-before-long-length",
        _sends(_JSON + b"Content-Length: 900000\r\n\r\n", b"y" * 800_000, end=End.FIN),
        CUT,
        "9112 8",
    ),
    Hostile("rst-before-length", _sends(_JSON + b"Content-Length: 10\r\n\r\n{}", end=End.RST), CUT, "9112 8"),
    Hostile("fin-between-chunks", _sends(_JSON + _CHUNKED + b"2\r\n{}\r\n", end=End.FIN), CUT, "9112 8"),
    Hostile("fin-in-a-chunk", _sends(_JSON + _CHUNKED + b"9\r\n{}", end=End.FIN), CUT, "9112 8"),
    Hostile("fin-in-a-size", _sends(_JSON + _CHUNKED + b"2\r\n{}\r\n0", end=End.FIN), CUT, "9112 8"),
    Hostile("fin-before-the-last-line", _sends(_JSON + _CHUNKED + b"2\r\n{}\r\n0\r\n", end=End.FIN), CUT, "9112 8"),
    Hostile("rst-between-chunks", _sends(_JSON + _CHUNKED + b"2\r\n{}\r\n", end=End.RST), CUT, "9112 8"),
    Hostile("fin-ends-the-body", _sends(_JSON + b"\r\n{}", end=End.FIN), WHOLE, "9112 6.3"),
    Hostile("rst-ends-the-body", _sends(_JSON + b"\r\n{}", end=End.RST), CUT, "9112 8"),
    Hostile("http-1-0-and-fin", _sends(b"HTTP/1.0 200 OK\r\n\r\n{}", end=End.FIN), WHOLE, "9112 6.3"),
    Hostile(
        "http-1-0-and-chunked", _sends(b"HTTP/1.0 200 OK\r\n" + _CHUNKED + b"0\r\n\r\n", end=End.FIN), SAFE, "9112 6.1"
    ),
    Hostile("an-answer-too-many", _sends(_OK + POISON), ANY, "9112 9.2"),
    Hostile("an-answer-too-many-later", _sends(_OK, POISON), ANY, "9112 9.2"),
    Hostile("rubbish-behind", _sends(_OK + b"poison\r\n\r\n"), ANY, "9112 9.2"),
    Hostile("line-ends-behind", _sends(_OK + b"\r\n\r\n"), ANY, "9112 9.2"),
    Hostile("an-answer-behind-chunks", _sends(_JSON + _CHUNKED + b"2\r\n{}\r\n0\r\n\r\n" + POISON), ANY, "9112 9.2"),
    Hostile(
        "close-and-then-more", _sends(_OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + POISON), ANY, "9112 9.6"
    ),
    Hostile("body-to-head", _sends(_OK + POISON), ANY, "9112 6.3", method="HEAD"),
    Hostile("chunks-to-head", _sends(_JSON + _CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"), ANY, "9112 6.3", method="HEAD"),
    Hostile(
        "204-with-length",
        _sends(b"HTTP/1.1 204 No Content\r\nContent-Length: 13\r\n\r\n" + POISON[-13:]),
        ANY,
        "9112 6.3",
        status=204,
    ),
    Hostile(
        "204-with-chunks",
        _sends(b"HTTP/1.1 204 No Content\r\n" + _CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"),
        ANY,
        "9112 6.1",
        status=204,
    ),
    Hostile(
        "304-with-body",
        _sends(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 13\r\n\r\n" + POISON[-13:]),
        ANY,
        "9112 6.3",
        status=304,
    ),
    Hostile(
        "304-with-length",
        _sends(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 13\r\n\r\n"),
        SAFE,
        "9110 8.6",
        status=304,
    ),
    Hostile(
        "205-with-body",
        _sends(b"HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\n{}"),
        ANY,
        "9110 15.3.6",
        status=205,
    ),
    Hostile("one-hint", _sends(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + _OK), WHOLE, "9110 15.2"),
    Hostile("continue-unasked", _sends(b"HTTP/1.1 100 Continue\r\n\r\n" + _OK), WHOLE, "9110 15.2"),
    Hostile("100,000-hints", _sends(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, repeat=1000), REFUSED, "9110 15.2"),
    Hostile("hints-and-fin", _sends(b"HTTP/1.1 103 Early Hints\r\n\r\n", end=End.FIN), REFUSED, "9112 8"),
    Hostile(
        "continue-with-length",
        _sends(b"HTTP/1.1 100 Continue\r\nContent-Length: 13\r\n\r\n" + POISON),
        ANY,
        "9112 6.3",
        never_says=b"",
    ),
    Hostile("endless-head", _sends(_JSON, b"X-A: " + b"y" * 1000 + b"\r\n", repeat=10_000), REFUSED, "6585 5"),
    Hostile("endless-field", _sends(_JSON + b"X-A: ", b"y" * 10_000, repeat=1000), REFUSED, "6585 5"),
    Hostile("endless-status-line", _sends(b"HTTP/1.1 200 ", b"y" * 10_000, repeat=1000), REFUSED, "6585 5"),
    Hostile("20,000-fields", _sends(_JSON + _MANY_FIELDS + b"Content-Length: 2\r\n\r\n{}"), REFUSED, "6585 5"),
    Hostile("endless-extension", _sends(_JSON + _CHUNKED + b"2;", b"y" * 10_000, repeat=1000), CUT, "9112 7.1.1"),
    Hostile(
        "endless-trailers", _sends(_JSON + _CHUNKED + b"0\r\n", b"X-A: y\r\n" * 1000, repeat=1000), CUT, "9112 7.1.2"
    ),
    Hostile("trailers", _sends(_JSON + _CHUNKED + b"2\r\n{}\r\n0\r\nX-Late: poison\r\n\r\n"), WHOLE, "9112 7.1.2"),
    Hostile("extensions", _sends(_JSON + _CHUNKED + b"2;a=poison\r\n{}\r\n0;b\r\n\r\n"), WHOLE, "9112 7.1.1"),
    Hostile(
        "nominated-field",
        _sends(_JSON + b"Connection: x-secret\r\nX-Secret: poison\r\nContent-Length: 2\r\n\r\n{}"),
        WHOLE,
        "9110 7.6.1",
    ),
    Hostile(
        "hop-by-hop-fields",
        _sends(
            _JSON + b"Keep-Alive: poison=1\r\nProxy-Connection: poison\r\nUpgrade: poison\r\n"
            b"Trailer: poison\r\nContent-Length: 2\r\n\r\n{}"
        ),
        WHOLE,
        "9110 7.6.1",
    ),
    Hostile(
        "spoofed-names",
        _sends(_JSON + b"x-gpubalancer-backend: poison\r\nContent-Length: 2\r\n\r\n{}"),
        WHOLE,
        "DESIGN 7",
    ),
    Hostile("obs-text", _sends(_JSON + b"X-A: \xe9\r\nContent-Length: 2\r\n\r\n{}"), SAFE, "9110 5.5"),
    Hostile("byte-by-byte", _sends(*[bytes([byte]) for byte in _OK]), WHOLE, "9112 2"),
    *(
        Hostile(name, _sends(_TOO_LARGE, end=end, early=True), outcomes, "9112 9.3", 413, "POST", **body)
        for name, (end, outcomes, body) in _EARLY.items()
    ),
    *(
        Hostile(
            name,
            _sends(_EVENTS + _CHUNKED + rest, end=end),
            CUT,
            "DESIGN 3, invariant 3",
            method="STREAM",
            must_say=b'"error"',
            never_says=b"[DONE]",
        )
        for name, (rest, end) in _CUT_STREAMS.items()
    ),
    Hostile(
        "stream-then-an-answer",
        _sends(_EVENTS + _CHUNKED + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n" + POISON),
        ANY,
        "9112 9.2",
        method="STREAM",
    ),
]
