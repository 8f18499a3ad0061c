"""The stub server over a real socket: what it answers, and that streams have exactly the events asked for."""

import asyncio
from collections.abc import Awaitable, Callable

import orjson
import pytest
import uvloop

from bench.backends import PAGES, serve
from bench.prompts import ANSWER_TEXT, MARKER, MODEL

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


def talk(play: Callable[[Reader, Writer], Awaitable[None]]) -> None:
    """Play one client against a stub server whose events are a hundredth of a second apart."""

    async def run() -> None:
        server = await serve(0, 0.01)
        async with server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
            await asyncio.wait_for(play(reader, writer), 10)
            writer.close()

    uvloop.run(run())


def request(path: str, body: bytes = b"", method: str = "POST") -> bytes:
    """One request's bytes."""
    return f"{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def chat(**fields: object) -> bytes:
    """A chat request with these fields."""
    return request("/v1/chat/completions", orjson.dumps({"model": MODEL, "messages": []} | fields))


async def whole_answer(reader: Reader) -> tuple[bytes, bytes]:
    """Head and body of an answer with a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(length)


async def stream(reader: Reader) -> list[bytes]:
    """The `data:` payloads of a chunked answer, to its last chunk."""
    assert b"Transfer-Encoding: chunked" in await reader.readuntil(b"\r\n\r\n")
    events = []
    while size := int(await reader.readline(), 16):
        chunk = await reader.readexactly(size + 2)
        assert chunk.startswith(b"data: ")
        assert chunk.endswith(b"\n\n\r\n")
        events.append(chunk[6:-4])
    assert await reader.readline() == b"\r\n"
    return events


def test_unary_chat_has_the_text_and_usage() -> None:
    """A realistic answer of about 600 bytes; a second request on the same connection gets the same."""

    async def play(reader: Reader, writer: Writer) -> None:
        for _ in range(2):
            writer.write(chat())
            head, body = await whole_answer(reader)
            answer = orjson.loads(body)
            assert head.startswith(b"HTTP/1.1 200 ")
            assert answer["choices"][0]["message"]["content"] == ANSWER_TEXT
            assert answer["usage"]["total_tokens"] > 0
            assert 500 < len(body) < 700

    talk(play)


def test_body_in_pieces_is_put_together() -> None:
    """A request that comes in many small pieces, and chunked, is one request."""

    async def play(reader: Reader, writer: Writer) -> None:
        body = orjson.dumps({"messages": []})
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        whole = head + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        for start in range(0, len(whole), 7):
            writer.write(whole[start : start + 7])
            await writer.drain()
        assert (await whole_answer(reader))[0].startswith(b"HTTP/1.1 200 ")

    talk(play)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("events", [1, 2, 25])
def test_stream_has_the_events_asked_for(name: str, events: int) -> None:
    """That many markers, then the finish reason, then `[DONE]`, and the connection is of use again."""

    async def play(reader: Reader, writer: Writer) -> None:
        for _ in range(2):
            writer.write(chat(stream=True, **{name: events}))
            *texts, finish, done = await stream(reader)
            assert [orjson.loads(text)["choices"][0]["delta"]["content"] for text in texts] == [MARKER] * events
            assert orjson.loads(finish)["choices"][0]["finish_reason"] == "stop"
            assert done == b"[DONE]"

    talk(play)


def test_stream_tells_usage_to_those_who_ask() -> None:
    """With `stream_options.include_usage` one more event comes, with usage and no choices."""

    async def play(reader: Reader, writer: Writer) -> None:
        writer.write(chat(stream=True, max_tokens=1, stream_options={"include_usage": True}))
        usage = orjson.loads((await stream(reader))[-2])
        assert usage["choices"] == []
        assert usage["usage"]["total_tokens"] > 0

    talk(play)


def test_event_is_of_a_realistic_size() -> None:
    """About 180 bytes, as an engine's own event is."""

    async def play(reader: Reader, writer: Writer) -> None:
        writer.write(chat(stream=True, max_tokens=3))
        assert 150 < len((await stream(reader))[1]) < 220

    talk(play)


@pytest.mark.parametrize("path", [path.decode() for path in PAGES])
def test_pages_that_routers_ask_for(path: str) -> None:
    """Each is there, with or without a query."""

    async def play(reader: Reader, writer: Writer) -> None:
        for suffix in ("", "?x=1"):
            writer.write(request(path + suffix, method="GET"))
            assert (await whole_answer(reader))[0].startswith(b"HTTP/1.1 200 ")

    talk(play)


def test_unknown_page_is_not_found() -> None:
    """Anything else is a 404, and the connection goes on."""

    async def play(reader: Reader, writer: Writer) -> None:
        writer.write(request("/nowhere", method="GET") + request("/health", method="GET"))
        assert (await whole_answer(reader))[0].startswith(b"HTTP/1.1 404 ")
        assert (await whole_answer(reader))[0].startswith(b"HTTP/1.1 200 ")

    talk(play)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"max_tokens":"many"}', b'{"stream_options":5,"stream":true}'])
def test_body_that_is_no_chat_is_refused(body: bytes) -> None:
    """A balancer that spoils bodies shows as status 400, not as a right answer."""

    async def play(reader: Reader, writer: Writer) -> None:
        writer.write(request("/v1/chat/completions", body))
        assert (await whole_answer(reader))[0].startswith(b"HTTP/1.1 400 ")

    talk(play)


def test_what_is_not_http_is_closed() -> None:
    """No answer is made up for noise."""

    async def play(reader: Reader, writer: Writer) -> None:
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert await reader.read() == b""

    talk(play)
