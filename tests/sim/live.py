"""A simulated server and a client in one event loop, on real sockets of 127.0.0.1."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import uvloop

from gpubalancer.sim.calls import Settings
from gpubalancer.sim.hardware import HARDWARE
from gpubalancer.sim.server import EngineServer, running

FAST = Settings(models=("m", "also-m"), hardware=HARDWARE["h100"], name="e1", speedup=float("inf"))
DEADLINE_S = 10.0


class Live:
    """The server under test and a client of it."""

    def __init__(self, server: EngineServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Status and JSON (or text) of a GET."""
        async with self.session.get(self.server.url + path, headers=headers) as answer:
            return answer.status, _decoded(await answer.read())

    async def post(self, path: str, body: object, **headers: str) -> tuple[int, Any]:
        """Status and JSON of a POST; bytes are sent as they are."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        async with self.session.post(self.server.url + path, data=data, headers=headers) as answer:
            return answer.status, _decoded(await answer.read())

    async def stream(self, path: str, body: object) -> list[bytes]:
        """The lines of a streamed answer, empty ones left out."""
        async with self.session.post(self.server.url + path, data=orjson.dumps(body)) as answer:
            assert answer.status == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            return [line for line in (await answer.read()).split(b"\n") if line]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, with a deadline."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110 - the server tells nobody when it changes
                await asyncio.sleep(0.001)


def _decoded(data: bytes) -> Any:
    if data[:1] in (b"{", b"["):
        return orjson.loads(data)
    return data.decode()


def chunks(lines: list[bytes]) -> list[Any]:
    """The JSON of every `data:` line but the end mark."""
    prefix = b"data: "
    return [orjson.loads(line[len(prefix) :]) for line in lines if line.startswith(b"data: {")]


@asynccontextmanager
async def _live(settings: Settings) -> AsyncIterator[Live]:
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    async with running(settings) as server, aiohttp.ClientSession(timeout=timeout) as session:
        yield Live(server, session)


def with_server(story: Callable[[Live], Awaitable[None]], **changes: Any) -> None:
    """Run a test's story against a server with the `FAST` settings and these changes."""

    async def play() -> None:
        async with _live(replace(FAST, **changes)) as live:
            await story(live)

    uvloop.run(play())
