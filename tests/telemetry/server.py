"""A real HTTP server on a loopback socket that answers what a test says."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web


@dataclass
class Answers:
    """What each path is answered: a status and, if any, a JSON body; 404 for all others. Requests are kept."""

    pages: dict[str, tuple[int, Any]]
    headers: Mapping[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and `Authorization` of each request."""
    url: str = ""
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def asked_again(self, times: int = 1) -> None:
        """Wait for so many more requests."""
        wanted = len(self.asked) + times
        while len(self.asked) < wanted:
            self.came.clear()
            await self.came.wait()

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request."""
        self.asked.append((request.path, request.headers.get("Authorization")))
        self.came.set()
        status, content = self.pages.get(request.path, (404, None))
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        return web.Response(status=status, body=body, headers=self.headers)


@asynccontextmanager
async def serving(
    pages: dict[str, tuple[int, Any]], headers: Mapping[str, str] | None = None
) -> AsyncIterator[Answers]:
    """Serve pages until the end of the block."""
    answers = Answers(pages, headers or {})
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answers.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    answers.url = f"http://{host}:{port}"
    try:
        yield answers
    finally:
        await runner.cleanup()
