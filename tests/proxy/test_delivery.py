"""From backend to backend until one answers, and asking for usage on the way."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.proxy.office import Office, client, play
from tests.proxy.script import (
    DONE,
    END,
    EVENT,
    STOP,
    USAGE,
    Answering,
    ask_for_stream,
    ended,
    plain,
    scripted,
    streaming,
)

REFUSAL = b'{"error":{"message":"Unknown field: stream_options"}}'


def answers(*each: bytes) -> Answering:
    """One answer after the other; the last one again and again."""
    left = list(each)

    async def answer(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])

    return answer


STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in (EVENT, STOP, DONE))
    + END
)


def test_usage_is_asked_for_and_hidden(tmp_path: Path) -> None:
    """The backend is asked with the client's bytes as they were; the client sees no usage, the record does."""

    async def scene(office: Office) -> None:
        async with scripted(office, streaming(EVENT, STOP, USAGE, DONE)) as script, client(office) as one:
            await office.hand(office.policy("a"))
            ask_for_stream(one)
            answer = await one.answer()
            await ended(office)
        assert answer.body == EVENT + STOP + DONE
        asked = json.loads(script.bodies[0])
        assert asked.pop("stream_options") == {"include_usage": True}
        assert asked == {"model": "a", "messages": [{"role": "user", "content": "hello"}], "stream": True}
        outcome = office.outcomes[0]
        assert (outcome.prompt_tokens, outcome.completion_tokens, outcome.usage_source) == (9, 3, "reported")

    play(tmp_path, scene)


def test_a_client_that_asks_itself_sees_everything(tmp_path: Path) -> None:
    """Neither its body nor its answer is changed."""

    async def scene(office: Office) -> None:
        async with scripted(office, streaming(EVENT, STOP, USAGE, DONE)) as script, client(office) as one:
            await office.hand(office.policy("a"))
            ask_for_stream(one, stream_options={"include_usage": True})
            answer = await one.answer()
        assert answer.body == EVENT + STOP + USAGE + DONE
        assert script.bodies[0].count(b"stream_options") == 1

    play(tmp_path, scene)


@pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable Entity"])
def test_an_engine_that_refuses_to_be_asked_is_asked_once(tmp_path: Path, status: str) -> None:
    """Its refusal is answered by the request as it was, and later requests go without at once."""

    async def scene(office: Office) -> None:
        async with scripted(office, answers(plain(status, REFUSAL), STREAM)) as script, client(office) as one:
            await office.hand(office.policy("a"))
            for _ in range(2):
                ask_for_stream(one)
                answer = await one.answer()
                assert (answer.status, answer.body) == (200, EVENT + STOP + DONE)
            await ended(office, 2)
        assert [b"stream_options" in body for body in script.bodies] == [True, False, False]
        assert [outcome.attempts for outcome in office.outcomes] == [2, 1]
        assert {outcome.usage_source for outcome in office.outcomes} == {"counted"}

    play(tmp_path, scene)


def test_a_refusal_that_cannot_be_read_is_taken_for_ours(tmp_path: Path) -> None:
    """A client must not be refused for a field that it never sent: the request goes again without it."""
    packed = b"HTTP/1.1 400 Bad Request\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"

    async def scene(office: Office) -> None:
        async with scripted(office, answers(packed, STREAM)) as script, client(office) as one:
            await office.hand(office.policy("a"))
            ask_for_stream(one)
            assert (await one.answer()).status == 200
        assert [b"stream_options" in body for body in script.bodies] == [True, False]

    play(tmp_path, scene)


def test_a_refusal_for_another_reason_passes(tmp_path: Path) -> None:
    """The engine's own words come back whole, and it is asked again next time."""
    wrong = b'{"error":{"message":"max_tokens must be positive"}}'

    async def scene(office: Office) -> None:
        async with scripted(office, answers(plain("400 Bad Request", wrong))) as script, client(office) as one:
            await office.hand(office.policy("a"))
            for _ in range(2):
                ask_for_stream(one)
                answer = await one.answer()
                assert (answer.status, answer.body) == (400, wrong)
            await ended(office, 2)
        assert [b"stream_options" in body for body in script.bodies] == [True, True]
        assert [(outcome.usage_source, outcome.reason) for outcome in office.outcomes] == [("", ""), ("", "")]

    play(tmp_path, scene)


def test_an_engine_that_refuses_either_way_is_not_marked(tmp_path: Path) -> None:
    """Where the request fails without our field too, the field was not what it refused."""

    async def scene(office: Office) -> None:
        async with scripted(office, answers(plain("400 Bad Request", REFUSAL))) as script, client(office) as one:
            await office.hand(office.policy("a"))
            for _ in range(2):
                ask_for_stream(one)
                assert (await one.answer()).body == REFUSAL
        assert [b"stream_options" in body for body in script.bodies] == [True, False, True, False]

    play(tmp_path, scene)


def test_a_refusal_that_breaks_off_is_the_backends_failure(tmp_path: Path) -> None:
    """What could not be read can't be passed on: 502."""

    async def answer(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(plain("400 Bad Request", REFUSAL)[:-5])
        await writer.drain()
        writer.close()

    async def scene(office: Office) -> None:
        async with scripted(office, answer), client(office) as one:
            await office.hand(office.policy("a"))
            ask_for_stream(one)
            assert (await one.answer()).status == 502

    play(tmp_path, scene)


def test_a_client_that_leaves_unanswered_pays_its_prompt(tmp_path: Path) -> None:
    """The backend was given the prompt to read, so it is not free."""

    async def scene(office: Office) -> None:
        came = asyncio.Event()

        async def answer(body: bytes, writer: asyncio.StreamWriter) -> None:
            came.set()

        async with scripted(office, answer), client(office) as one:
            await office.hand(office.policy("a"))
            ask_for_stream(one)
            await came.wait()
            one.writer.transport.abort()
            await ended(office)
        outcome = office.outcomes[0]
        assert (outcome.reason, outcome.completion_tokens, outcome.usage_source) == ("client_left", 0, "estimated")
        assert outcome.prompt_tokens == outcome.expected_prompt_tokens > 0

    play(tmp_path, scene)


def test_a_backend_that_cannot_be_reached_is_passed_over(tmp_path: Path) -> None:
    """The next one answers, and the record counts both tries."""

    async def scene(office: Office) -> None:
        async with scripted(office, streaming(EVENT, STOP, DONE)), client(office) as one:
            dead = '  - {name: b, url: "http://127.0.0.1:1", models: [a]}\n'
            await office.hand(office.policy("a", sections=dead))
            for _ in range(4):
                ask_for_stream(one)
                answer = await one.answer()
                assert answer.values("x-gpubalancer-backend") == ["a"]
            # One of the first two equals was it; the supervisor is told once, and nobody goes there meanwhile.
            told = {"kind": "unreachable", "backend": "b"}
            await office.hear(lambda: told in office.messages)
            assert office.messages.count(told) == 1

    play(tmp_path, scene)


def no_body(status: str) -> bytes:
    """A head that says all."""
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("bad", "ejects"),
    [
        (no_body("503 Service Unavailable"), True),
        (no_body("500 Internal Server Error"), False),
        (no_body("400 Bad Request"), False),
        (STREAM[: -len(END)], True),
        (STREAM, False),
    ],
)
def test_who_fails_again_and_again_is_passed_over(tmp_path: Path, bad: bytes, ejects: bool) -> None:
    """By 503s, or by streams that break off; not by what a request may bring about: 500 and 400."""

    async def fail(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(bad)
        await writer.drain()
        if bad == STREAM[: -len(END)]:
            writer.close()

    async def scene(office: Office) -> None:
        async with scripted(office, fail) as failing:
            port = office.backend_port
            more = f'  - {{name: failing, url: "http://127.0.0.1:{port}", models: [a]}}\n'
            async with scripted(office, streaming(EVENT, STOP, DONE)) as good:
                await office.hand(office.policy("a", sections=more))
                for _ in range(40):
                    async with client(office) as one:
                        ask_for_stream(one)
                        await one.reader.read(65536)
        # Until it is ejected it has its part of the requests; then, for half a second at least, none.
        assert len(failing.bodies) + len(good.bodies) == 40
        assert (len(failing.bodies) < 10) == ejects, len(failing.bodies)

    play(tmp_path, scene)
