"""A Valkey or Redis server of the system's packages, and a proxy before it that does what networks do."""

import asyncio
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.e2e.processes import eventually, free_port

NAMES = ("valkey-server", "redis-server")


@dataclass
class Server:
    """A running server."""

    program: str
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """For `state.budgets`."""
        return f"valkey://127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        """It hangs: connections stay, and nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers again."""
        self.process.send_signal(signal.SIGCONT)

    def ask(self, *words: str) -> str:
        """What the server's own client prints for a command."""
        client = shutil.which("valkey-cli") or shutil.which("redis-cli")
        assert client is not None
        command = [client, "-h", "127.0.0.1", "-p", str(self.port), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()

    def kill(self) -> None:
        """It is gone, and what it knew."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Another one, on the same port."""
        self.process = _start(self.program, self.port)


def _start(program: str, port: int) -> "subprocess.Popen[bytes]":
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually(lambda: is_up(port), f"{program} to listen")
    return process


def is_up(port: int) -> bool:
    """True if somebody listens there."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def running() -> Iterator[Server]:
    """Run a server for the time of a block."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    assert program is not None, "neither valkey-server nor redis-server is installed; `make test-real` installs one"
    port = free_port()
    server = Server(program, port, _start(program, port))
    try:
        yield server
    finally:
        server.go_on()
        server.kill()


@dataclass
class Faults:
    """What happens to what passes; changed while it runs.

    Attributes:
        delay_s: each piece is held for up to so long; pieces of one connection stay in order, and connections overtake
            one another.
        cut: connections are cut after so many pieces; None for never.
        deaf: nothing passes.
    """

    delay_s: float = 0.0
    cut: int | None = None
    deaf: bool = False


@dataclass
class Proxy:
    """A TCP proxy with faults, on a loop and a thread of its own."""

    target: int
    port: int = 0
    faults: Faults = field(default_factory=Faults)
    connections: int = 0
    _random: Random = field(default_factory=lambda: Random(5))

    @property
    def url(self) -> str:
        """For `state.budgets`."""
        return f"valkey://127.0.0.1:{self.port}/0"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a connection on."""
        self.connections += 1
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        both = [asyncio.ensure_future(self._pass(reader, forth)), asyncio.ensure_future(self._pass(back, writer))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in both:
                each.cancel()
            writer.transport.abort()
            forth.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        with suppress(OSError):
            while piece := await reader.read(65536):
                await until(lambda: not self.faults.deaf, "the network", 60.0)
                if self.faults.delay_s:
                    await asyncio.sleep(self._random.uniform(0, self.faults.delay_s))
                passed += 1
                if self.faults.cut is not None and passed > self.faults.cut:
                    return
                writer.write(piece)


@contextmanager
def between(server: Server) -> Iterator[Proxy]:
    """A proxy before a server, for the time of a block."""
    proxy, loop = Proxy(server.port), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(proxy.serve, "127.0.0.1", 0)

    listening = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    proxy.port = listening.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(_end(listening), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _end(listening: asyncio.Server) -> None:
    listening.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)


async def until(condition: Callable[[], Any], what: str, within_s: float = 10.0) -> None:
    """Wait until a condition comes true."""
    until_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until_s, f"waited {within_s} s for {what}"
        await asyncio.sleep(0.01)


def play(scene: Coroutine[Any, Any, None], within_s: float = 60.0) -> None:
    """Run a scene that must end."""

    async def bounded() -> None:
        async with asyncio.timeout(within_s):
            await scene

    asyncio.run(bounded())


def slots_in(folder: Path) -> list[str]:
    """The files of slots in a state folder."""
    return sorted(path.name for path in folder.glob("shared.*"))
