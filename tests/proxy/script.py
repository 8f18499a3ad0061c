"""A backend on the worker's own loop whose answers a test writes, and bodies of streams."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.e2e.backends import STREAM_HEAD, chunk
from tests.e2e.clients import chat, request_bytes
from tests.proxy.office import Client, Office

Answering = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"


@dataclass
class Script:
    """What a backend was sent, and how it answers."""

    answering: Answering
    bodies: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer every request on a connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:-2])
                self.bodies.append(await reader.readexactly(int(fields.get("content-length", "0"))))
                await self.answering(self.bodies[-1], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def scripted(office: Office, answering: Answering) -> AsyncIterator[Script]:
    """Put a script in the place of the office's own backend."""
    script = Script(answering)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    office.backend_port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()


def streaming(*events: bytes, end: bytes = END) -> Answering:
    """Answer with these events, each in a chunk of its own."""

    async def answer(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + b"".join(map(chunk, events)) + end)

    return answer


def plain(status: str, content: bytes) -> bytes:
    """A whole answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def ask_for_stream(client: Client, path: str = "/v1/chat/completions", **more: object) -> None:
    """Send a request for a stream."""
    client.writer.write(request_bytes(path, {**chat(stream=True), "model": "a", **more}))


async def to_end(client: Client) -> bytes:
    """All that comes until the connection ends."""
    data = b""
    try:
        while piece := await client.reader.read(65536):
            data += piece
    except ConnectionResetError:
        return data
    return data


async def ended(office: Office, count: int = 1) -> None:
    """Wait until so many requests have been recorded."""
    while len(office.outcomes) < count:  # noqa: ASYNC110  outcomes are counted in batches, which nothing announces
        await asyncio.sleep(0.01)
