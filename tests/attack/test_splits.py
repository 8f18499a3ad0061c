"""Where TCP cuts a stream of bytes means nothing: any cut gives what no cut gives."""

import asyncio
import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.attack.arena import Arena
from tests.attack.case import CHUNKED, HOST, SMUGGLED, chunked, get, head, post, sized
from tests.attack.cases import CASES
from tests.attack.client import Exchange, exchange, pacing

_CHUNKS = b"5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-Late: 1\r\n\r\n"
_CHAT = json.dumps({"model": "m", "messages": [{"role": "user", "content": "grüß"}]}, ensure_ascii=False).encode()

# Requests, and how many answers they get.
GOOD: dict[str, tuple[bytes, int]] = {
    "get": (get(b"X-Note: caf\xc3\xa9"), 1),
    "length": (sized(b"hello"), 1),
    "chunks": (chunked(_CHUNKS), 1),
    "chat": (sized(_CHAT, b"Content-Type: application/json", target=b"/v1/chat/completions"), 1),
    "body like a request": (sized(SMUGGLED), 1),
    "expect": (sized(b"hello", b"Expect: 100-continue"), 1),
    "close": (get(b"Connection: close"), 1),
    "HTTP/1.0": (head(b"GET /x HTTP/1.0", HOST), 1),
    "two gets": (get(target=b"/a") + get(target=b"/b"), 2),
    "length, then chunks": (sized(b"hello", target=b"/a") + chunked(_CHUNKS, target=b"/b"), 2),
    "chunks, get, length": (chunked(_CHUNKS, target=b"/a") + get(target=b"/b") + sized(SMUGGLED, target=b"/c"), 3),
    "good, then bad": (sized(b"hello") + get(b"X A: b"), 2),
    "good, then two framings": (get() + post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n"), 2),
}
# Refusals must not depend on cuts either. Unfinished and huge rows are left out: they only cost time.
BAD: dict[str, tuple[bytes, int]] = {
    case.name: (case.raw, len(case.answers))
    for case in CASES
    if case.closes and not case.mute and len(case.raw) < 2000 and all(408 not in statuses for statuses in case.answers)
}
_FRAMING = {"content-length", "transfer-encoding"}  # a body may be passed on in either


def _facts(result: Exchange) -> list[tuple[int, dict[str, Any]]]:
    """What came of it, without what differs each time: serial numbers, ids, dates."""
    facts = []
    for answer in result.answers:
        assert answer.complete, result.data
        body = json.loads(answer.body) if answer.body else {}
        told = {key: body.get(key) for key in ("method", "target", "body_sha256", "body_bytes")}
        told["code"] = body.get("error", {}).get("code")
        told["names"] = sorted({name.lower() for name, _ in body.get("fields", ())} - _FRAMING)
        facts.append((answer.status, told))
    return facts


def _send(arena: Arena, segments: list[bytes], answers: int) -> Exchange:
    async def run() -> Exchange:
        async with pacing(arena.port, arena.claimed) as pacer:
            return await exchange(pacer, segments, wanted=answers)

    return asyncio.run(run())


def _pieces(raw: bytes, cuts: set[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(raw)]
    return [raw[start:end] for start, end in pairwise(edges)]


@st.composite
def _split(draw: st.DrawFn, rows: dict[str, tuple[bytes, int]]) -> tuple[str, set[int]]:
    name = draw(st.sampled_from(sorted(rows)))
    return name, draw(st.sets(st.integers(1, len(rows[name][0]) - 1), min_size=1, max_size=6))


_SETTINGS = settings(max_examples=150, deadline=None)


def _assert_same_when_cut(arena: Arena, row: tuple[bytes, int], cuts: set[int]) -> None:
    raw, answers = row
    assert _facts(_send(arena, _pieces(raw, cuts), answers)) == _facts(_send(arena, [raw], answers))


@_SETTINGS
@given(split=_split(GOOD))
def test_good_requests_are_the_same_however_they_are_cut(arena: Arena, split: tuple[str, set[int]]) -> None:
    """Backend and client see the same of a good request in one segment and in many."""
    name, cuts = split
    _assert_same_when_cut(arena, GOOD[name], cuts)


@_SETTINGS
@given(split=_split(BAD))
def test_refusals_are_the_same_however_they_are_cut(arena: Arena, split: tuple[str, set[int]]) -> None:
    """A bad request is refused with the same status and code in one segment and in many."""
    name, cuts = split
    _assert_same_when_cut(arena, BAD[name], cuts)


def test_byte_by_byte(arena: Arena) -> None:
    """Every good request in segments of one byte is what it is in one piece."""
    for row in (GOOD["length, then chunks"], GOOD["chat"]):
        _assert_same_when_cut(arena, row, set(range(1, len(row[0]))))


def test_nothing_uncanonical_came_of_cutting(arena: Arena) -> None:
    """After all cuts the backend has seen only strict requests, each answered to the one who sent it."""
    _send(arena, [get()], 1)
    assert arena.records.violations() == []
    assert [f"{request.method} {request.target}" for request in arena.unclaimed()] == []


def test_pieces_are_what_was_cut() -> None:
    """Segments joined are the request again."""
    assert _pieces(b"0123456789", {1, 5, 9}) == [b"0", b"1234", b"5678", b"9"]
