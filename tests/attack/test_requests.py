"""Every row of the request tables, sent as raw bytes: what the client gets, and what the backend saw."""

import asyncio
import hashlib
import json
from typing import Any

import pytest

from tests.attack.answers import Answer
from tests.attack.arena import Arena, send_all
from tests.attack.case import Case, Seen
from tests.attack.cases import CASES
from tests.attack.client import Exchange, connect, exchange, pacing

Exchanges = dict[str, Exchange]


@pytest.fixture(scope="module")
def exchanges(arena: Arena) -> Exchanges:
    """All rows sent, many at a time."""
    return asyncio.run(send_all(arena, CASES))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answers_are_those_of_the_table(case: Case, exchanges: Exchanges) -> None:
    """The client gets the statuses of the row in order, nothing behind them, and the close that the row asks for."""
    result = exchanges[case.name]
    assert result.verdict is None, f"{case.why}: the client was sent {result.verdict}"
    allowed = case.answers[:-1] if case.mute and len(result.answers) < len(case.answers) else case.answers
    assert len(result.answers) == len(allowed), f"{case.why}: {result.statuses} for {case.raw[:300]!r}"
    for status, answer in zip(allowed, result.answers, strict=True):
        assert answer.status in status, f"{case.why}: {result.statuses} for {case.raw[:300]!r}"
        assert answer.complete, f"{case.why}: cut off: {result.data[:300]!r}"
    if case.closes is not None:
        assert result.closed == case.closes, f"{case.why}: closed is {result.closed} after {result.statuses}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refusals_say_why_and_the_last_answer_says_so(case: Case, exchanges: Exchanges) -> None:
    """A refusal is an OpenAI-shaped error, and the answer before a close, and only that, announces it."""
    result = exchanges[case.name]
    for answer in result.answers:
        if answer.status >= 400:
            error = json.loads(answer.body)["error"]
            assert set(error) >= {"message", "type", "code", "param"}, error
            assert error["message"], error
    for answer in result.answers:
        said = [value.lower() for value in answer.values("connection")]
        assert ("close" in said) == (result.closed and answer is result.answers[-1]), answer


@pytest.mark.parametrize("case", [case for case in CASES if case.sees], ids=lambda case: case.name)
def test_backend_saw_what_was_sent(case: Case, exchanges: Exchanges) -> None:
    """Of an accepted request the backend saw the method, target, fields and body that the row says, in order."""
    accepted = [answer for answer in exchanges[case.name].answers if answer.status == 200]
    for seen, answer in zip(case.sees, accepted, strict=False):
        assert _differences(seen, answer) == [], f"{case.why}: {answer.body[:2000]!r}"


@pytest.mark.parametrize("name", ["Expect 100-continue", "Expect in odd case", "Expect with chunks"])
def test_expecting_client_may_get_one_100(name: str, exchanges: Exchanges) -> None:
    """A client that expects 100 gets at most one, before its answer."""
    assert exchanges[name].answers[0].interim in ((), (100,))


@pytest.mark.parametrize("name", ["Expect and too large a body", "Expect and two framings", "Expect something else"])
def test_refused_body_is_not_asked_for(name: str, exchanges: Exchanges) -> None:
    """Whoever is refused by the head alone is not told to send the body first."""
    assert exchanges[name].answers[0].interim == ()


def test_waiting_client_is_told_to_continue(arena: Arena) -> None:
    """A client that sends its body only after 100 gets one, and then its answer."""

    async def transcript() -> tuple[bytes, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", arena.port)
        writer.write(b"POST /x HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        interim = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        writer.write(b"hello")
        answer_head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        writer.transport.abort()
        return interim, answer_head

    interim, answer_head = asyncio.run(transcript())
    assert interim.startswith(b"HTTP/1.1 100 ")
    assert answer_head.startswith(b"HTTP/1.1 200 ")
    serial = answer_head.lower().split(b"x-serial:")[1].split(b"\r\n")[0]
    arena.claimed.add(int(serial))


@pytest.mark.parametrize("start", [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n"])
def test_client_that_leaves_in_its_body_takes_the_backend_connection_with_it(arena: Arena, start: bytes) -> None:
    """After clients have left in the middle of a body, good requests on the kept backend connections are answered."""

    async def run() -> list[tuple[int, ...]]:
        async with pacing(arena.port, arena.claimed) as pacer:
            for _ in range(10):
                wire = await connect(arena.port)
                wire.transport.write(b"POST /left HTTP/1.1\r\nHost: a.example\r\n" + start + b"x" * 500)
                await pacer.round_trip()
                wire.leave()
            good = [exchange(pacer, [b"GET /stayed HTTP/1.1\r\nHost: a.example\r\n\r\n"], wanted=1) for _ in range(10)]
            return [result.statuses for result in [await each for each in good]]

    assert asyncio.run(run()) == [(200,)] * 10


def test_nothing_uncanonical_and_nothing_smuggled_reached_the_backend(arena: Arena, exchanges: Exchanges) -> None:
    """Every byte at the backend is strict HTTP/1.1, and every request there was answered to the client that sent it."""

    async def settle() -> None:
        async with pacing(arena.port, arena.claimed) as pacer:
            await pacer.round_trip()

    asyncio.run(settle())
    assert len(exchanges) == len(CASES)
    assert arena.records.violations() == []
    assert [f"{request.method} {request.target}" for request in arena.unclaimed()] == []


def _differences(seen: Seen, answer: Answer) -> list[str]:
    if not answer.body:
        return []
    got: dict[str, Any] = json.loads(answer.body)
    fields = [(name.lower(), value) for name, value in got["fields"]]
    wrong = []
    if seen.method not in (None, got["method"]):
        wrong.append(f"method {got['method']}")
    if seen.target not in (None, got["target"]):
        wrong.append(f"target {got['target']}")
    if seen.body is not None and hashlib.sha256(seen.body).hexdigest() != got["body_sha256"]:
        wrong.append(f"body of {got['body_bytes']} bytes")
    for name, value in seen.fields.items():
        values = [field_value for field_name, field_value in fields if field_name == name]
        if len(values) != 1 or value not in ("*", values[0]):
            wrong.append(f"{name}: {values}")
    wrong += [f"{name}: {value}" for name, value in fields if seen.other_than.get(name) == value]
    return wrong + [f"{word} is there" for word in seen.absent for pair in fields if word in (pair[0], pair[1].lower())]
