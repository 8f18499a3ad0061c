"""Answers passed on to their end: how they are judged, broken off and charged."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gpubalancer.domain.outcome import Outcome
from tests.attack.answers import read_answers
from tests.e2e.backends import STREAM_HEAD, chunk, whole
from tests.proxy.office import Client, Office, client, play
from tests.proxy.script import (
    DONE,
    EVENT,
    STOP,
    USAGE,
    Answering,
    ask_for_stream,
    ended,
    scripted,
    streaming,
    to_end,
)

Talk = Callable[[Client], Awaitable[bytes]]


async def talk_to_end(one: Client) -> bytes:
    """Ask for a stream and take all that comes."""
    ask_for_stream(one)
    return await to_end(one)


async def talk_once(one: Client) -> bytes:
    """Ask for a stream and take one whole answer."""
    ask_for_stream(one)
    return (await one.answer()).body


def told(tmp_path: Path, answering: Answering, talk: Talk = talk_to_end, sections: str = "") -> tuple[bytes, Outcome]:
    """What the client got and what was recorded."""
    found: list[bytes] = []
    outcomes: list[Outcome] = []

    async def scene(office: Office) -> None:
        async with scripted(office, answering), client(office) as one:
            await office.hand(office.policy("a", sections=sections))
            found.append(await talk(one))
            await ended(office)
            outcomes.append(office.outcomes[0])

    play(tmp_path, scene)
    return found[0], outcomes[0]


def error_in(data: bytes) -> str:
    """The code in the terminal event."""
    event = data[data.rindex(b"data: ") :].split(b"\n")[0]
    return str(json.loads(event.removeprefix(b"data: "))["error"]["code"])


def test_a_good_stream_passes(tmp_path: Path) -> None:
    """Finished, reported, and charged as reported."""
    got, outcome = told(tmp_path, streaming(EVENT, EVENT, EVENT, STOP, USAGE, DONE), talk_once)
    assert got == EVENT * 3 + STOP + DONE
    assert (outcome.reason, outcome.code, outcome.usage_source, outcome.usage_doubts) == ("", 200, "reported", ())


@pytest.mark.parametrize(
    ("events", "detail"),
    [
        ((EVENT, EVENT), "without a finish reason"),
        ((), "without a finish reason"),
        ((EVENT, STOP.replace(b"stop", b"abort"), DONE), "aborted"),
    ],
)
def test_an_end_that_is_none_is_withheld(tmp_path: Path, events: tuple[bytes, ...], detail: str) -> None:
    """The client gets all that came, an error event and no end of the framing; the record says 502."""
    got, outcome = told(tmp_path, streaming(*events))
    assert got.startswith(b"HTTP/1.1 200")
    assert all(event in got for event in events)
    assert error_in(got) == "backend_failed"
    assert not read_answers(got, (), ended=True)[0].complete
    assert (outcome.status, outcome.code, outcome.reason) == (200, 502, "backend_failed")
    assert detail in outcome.detail


def test_an_engines_own_error_is_not_repeated(tmp_path: Path) -> None:
    """It is the terminal event; the answer is broken off behind it."""
    error = b'data: {"error":{"message":"out of memory","code":"oom"}}\n\n'
    got, outcome = told(tmp_path, streaming(EVENT, error))
    assert got.count(b'"error"') == 1
    assert not read_answers(got, (), ended=True)[0].complete
    assert (outcome.code, outcome.reason) == (502, "backend_failed")


def test_a_stream_without_usage_costs_what_was_counted(tmp_path: Path) -> None:
    """One token for each event with text, and the prompt as it was estimated."""
    got, outcome = told(tmp_path, streaming(EVENT, EVENT, EVENT, EVENT, STOP, DONE), talk_once)
    assert got == EVENT * 4 + STOP + DONE
    assert (outcome.completion_tokens, outcome.usage_source) == (4, "counted")
    assert outcome.prompt_tokens == outcome.expected_prompt_tokens > 0


def test_usage_that_lies_is_told(tmp_path: Path) -> None:
    """The record has our own number, the doubt's name, and a sentence for the log."""
    lie = USAGE.replace(b'"completion_tokens":3', b'"completion_tokens":-3')
    _, outcome = told(tmp_path, streaming(EVENT, EVENT, STOP, lie, DONE), talk_once)
    assert (outcome.completion_tokens, outcome.usage_source) == (2, "counted")
    assert outcome.usage_doubts == ("missing", "negative")
    assert outcome.detail == "a: usage reported was missing, negative"


def test_a_client_that_leaves_at_token_10_pays_for_10(tmp_path: Path) -> None:
    """What was streamed is settled, to the prompt and ten tokens."""

    async def answer(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        for _ in range(10):
            writer.write(chunk(EVENT))

    async def talk(one: Client) -> bytes:
        ask_for_stream(one)
        data = b""
        while data.count(EVENT) < 10:
            data += await one.reader.read(65536)
        one.writer.transport.abort()
        return data

    _, outcome = told(tmp_path, answer, talk)
    assert (outcome.code, outcome.reason, outcome.usage_source) == (499, "client_left", "counted")
    assert (outcome.completion_tokens, outcome.prompt_tokens) == (10, outcome.expected_prompt_tokens)


STALL = "routing: {timeouts: {first_byte: 200ms, between_bytes: 200ms}}\n"


def test_a_stall_in_a_stream_is_timed_out(tmp_path: Path) -> None:
    """The terminal event and the record say so; for the metrics it is a broken stream."""

    async def answer(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(EVENT) + chunk(b"data: cut"))

    got, outcome = told(tmp_path, answer, sections=STALL)
    assert error_in(got) == "timed_out"
    assert not read_answers(got, (), ended=True)[0].complete
    assert (outcome.status, outcome.code, outcome.reason) == (200, 502, "timed_out")


def test_a_stall_before_anything_was_sent_is_504(tmp_path: Path) -> None:
    """A backend that never begins is timed out, with an answer."""

    async def answer(body: bytes, writer: asyncio.StreamWriter) -> None:
        return

    async def talk(one: Client) -> bytes:
        ask_for_stream(one)
        return str((await one.answer()).status).encode()

    got, outcome = told(tmp_path, answer, talk, STALL)
    assert (got, outcome.status, outcome.code, outcome.reason) == (b"504", 504, 504, "timed_out")


def whole_answer(content: bytes, status: str = "200 OK") -> Answering:
    """An answer of known length."""

    async def answer(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(content, status))

    return answer


@pytest.mark.parametrize(
    ("content", "status", "tokens", "source", "reason"),
    [
        (b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}', "200 OK", (7, 2), "reported", ""),
        (b'{"choices":[{"message":{"content":"12345678"}}]}', "200 OK", (None, 12), "estimated", ""),
        (b'{"error":{}}', "500 Internal Server Error", (0, 0), "", ""),
        (b'{"choices":[{"finish_reason":"abort"}]}    ', "200 OK", (None, 10), "estimated", "backend_failed"),
    ],
)
def test_a_whole_answer(
    tmp_path: Path, content: bytes, status: str, tokens: tuple[int | None, int], source: str, reason: str
) -> None:
    """It passes as it is; without usage its bytes tell, an error costs nothing, and an abort is a failure."""
    got, outcome = told(tmp_path, whole_answer(content, status), talk_once)
    assert got == content
    assert (outcome.usage_source, outcome.reason, outcome.completion_tokens) == (source, reason, tokens[1])
    assert outcome.prompt_tokens == (tokens[0] if tokens[0] is not None else outcome.expected_prompt_tokens)


def test_a_stream_of_known_length_stays_whole_without_its_usage(tmp_path: Path) -> None:
    """What is hidden is missing from the length, so the client gets it in chunks."""
    body = EVENT + STOP + USAGE + DONE

    async def answer(given: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(body, content_type="text/event-stream"))

    got, outcome = told(tmp_path, answer, talk_once)
    assert (got, outcome.usage_source) == (EVENT + STOP + DONE, "reported")


def test_a_stream_of_known_length_that_has_no_end_is_told_to_be_broken(tmp_path: Path) -> None:
    """Its length may not promise an end: the client gets the error event and no end of the framing."""

    async def answer(given: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(EVENT, content_type="text/event-stream"))

    async def talk(one: Client) -> bytes:
        ask_for_stream(one, stream_options={"include_usage": True})
        return await to_end(one)

    got, outcome = told(tmp_path, answer, talk)
    assert error_in(got) == "backend_failed"
    assert (outcome.reason, outcome.code) == ("backend_failed", 502)


def test_a_connection_kept_alive_serves_on_after_a_withheld_end(tmp_path: Path) -> None:
    """The backend's connection was in order; only the client's ends."""

    async def scene(office: Office) -> None:
        async with scripted(office, streaming(EVENT)):
            await office.hand(office.policy("a"))
            for _ in range(2):
                async with client(office) as one:
                    assert error_in(await talk_to_end(one)) == "backend_failed"
            await ended(office, 2)
        assert [outcome.attempts for outcome in office.outcomes] == [1, 1]

    play(tmp_path, scene)
