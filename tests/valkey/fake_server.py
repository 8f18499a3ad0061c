"""A server whose every reply a test decides: it speaks the protocol and knows nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import hiredis

from gpubalancer.policy.valkey_url import Address

Handler = Callable[[list[bytes]], bytes | None]
"""From a command to the bytes of its reply; None for one that comes too late, as all behind it do."""
LATE_S = 0.12


def bulk(text: bytes) -> bytes:
    """A reply that is a string."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


@dataclass
class Fake:
    """A running server.

    Attributes:
        handler: asked for what is no greeting and no beat.
        steps: commands that the handler was asked for, without what every step of the script has.
        peers: what a beat tells.
    """

    handler: Handler = lambda step: b"+OK\r\n"
    port: int = 0
    steps: list[list[bytes]] = field(default_factory=list)
    greetings: list[list[bytes]] = field(default_factory=list)
    peers: int = 3
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def address(self) -> Address:
        """Where it is."""
        return Address((("127.0.0.1", self.port),))

    def cut(self) -> None:
        """All connections break."""
        for writer in self.writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer every command on a connection."""
        self.writers.append(writer)
        parser = hiredis.Reader()
        while data := await _read(reader):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                reply = self._reply(command)
                if reply is None:
                    await asyncio.sleep(LATE_S)
                    reply = bulk(b"2 1700000000000000 0")
                writer.write(reply)

    def _reply(self, command: list[bytes]) -> bytes | None:
        if command[0] not in (b"EVALSHA", b"EVAL"):
            self.greetings.append(command)
            return self.handler(command) if command[0] == b"SENTINEL" else b"+OK\r\n"
        if command[4] == b"beat":
            return bulk(b"1700000000000000 %d 0" % self.peers)
        step = [command[0], command[4], *command[6:]]
        self.steps.append(step)
        return self.handler(step)


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except (ConnectionError, asyncio.CancelledError):
        return b""


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Fake]:
    """Serve for the time of a block."""
    fake = Fake(handler)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        fake.cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scene that must end."""

    async def bounded() -> None:
        async with asyncio.timeout(15):
            await scene()

    asyncio.run(bounded())


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition comes true; the scene's own deadline ends it."""
    while not condition():  # noqa: ASYNC110  what is waited for is not ours to announce
        await asyncio.sleep(0.005)
