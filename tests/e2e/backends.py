"""A backend whose every byte a test decides: a small asyncio server on a thread of its own.

A request that is no health probe goes to the test's handler, which writes whatever it likes. What arrived is kept.
"""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

PROBES = ("GET /v1/models ", "GET /health ")
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Bytes as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(body: bytes, status: str = "200 OK", content_type: str = "application/json") -> bytes:
    """A whole answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass(slots=True)
class Call:
    """One request as it arrived, and the connection that it came on."""

    line: str
    head: bytes
    fields: dict[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    content: bytes = b""

    async def body(self) -> bytes:
        """The whole body; its length must be given."""
        self.content = await self.reader.readexactly(int(self.fields.get("content-length", "0")))
        return self.content

    async def send(self, data: bytes) -> None:
        """Write, and wait until most of it has gone."""
        self.writer.write(data)
        await self.writer.drain()


Handler = Callable[[Call], Awaitable[None]]


@dataclass(slots=True)
class Backend:
    """A running server: what it does, where it listens, and all requests that it got."""

    handler: Handler
    port: int = 0
    calls: list[Call] = field(default_factory=list)
    scheme: str = "http"

    def settings(self, name: str = "backend", **more: Any) -> dict[str, Any]:
        """The backend's part of a policy file."""
        return {
            "name": name,
            "url": f"{self.scheme}://127.0.0.1:{self.port}",
            "kind": "gpu",
            "engine": "openai",
            "models": ["m"],
            "slots": 64,
            **more,
        }


@contextmanager
def backend(handler: Handler, tls: ssl.SSLContext | None = None) -> Iterator[Backend]:
    """Serve with a handler for the time of a block."""
    found = Backend(handler, scheme="https" if tls else "http")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (call := await _next_call(reader, writer)) is not None:
                if call.line.startswith(PROBES):
                    await call.send(whole(b'{"object": "list", "data": []}'))
                else:
                    found.calls.append(call)
                    await found.handler(call)
        except (OSError, asyncio.IncompleteReadError):
            return  # the balancer has left
        finally:
            writer.close()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1024, ssl=tls, limit=1 << 16)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _next_call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *rest = head.decode("latin-1").strip().split("\r\n")
    pairs = (text.partition(":") for text in rest)
    return Call(line, head, {name.lower(): value.strip() for name, _, value in pairs}, reader, writer)


async def _stop(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)  # closed transports let go of their sockets in the loop's next turn


async def answer_ok(call: Call) -> None:
    """Read the body and answer with a small JSON object."""
    await call.body()
    await call.send(whole(b'{"ok": true}'))
