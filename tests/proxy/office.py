"""A worker on a stage: a real board and channel, real clients and a real backend; the test plays its supervisor."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import uvloop

from gpubalancer.board.board import Board
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.domain.outcome import Outcome
from gpubalancer.domain.tally import Tally
from gpubalancer.policy.load import parse
from gpubalancer.policy.schema import Policy, dump
from gpubalancer.proxy.channel import Channel, Message
from gpubalancer.proxy.worker import Post, Worker
from tests.attack.answers import Answer, read_answers
from tests.e2e.clients import chat, request_bytes
from tests.proxy.notebook import Notebook

DEADLINE_S = 20.0
LINES_DROPPED = 7
NAMES = ("a", "b", "c")


class Backend:
    """A server on the worker's own loop: it tells which credential it was shown, when it may."""

    def __init__(self) -> None:
        self.accepted = self.asked = 0
        self.came, self.may_answer = asyncio.Event(), asyncio.Event()
        self.may_answer.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer every request on a connection."""
        self.accepted += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:-2])
                await reader.readexactly(int(fields.get("content-length", "0")))
                self.asked += 1
                self.came.set()
                await self.may_answer.wait()
                content = json.dumps({"shown": fields.get("authorization", "")}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


class Office:
    """A worker's surroundings, and what has come out of it."""

    def __init__(self, folder: Path, board: Board, backend: Backend, backend_port: int, notebook: Notebook) -> None:
        self.folder, self.board, self.backend = folder, board, backend
        self.backend_port = backend_port
        self.outcomes: list[Outcome] = []
        self.notebook = notebook
        self.messages: list[Message] = []
        self.told = asyncio.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]
        self.channel: Channel
        self.running: asyncio.Task[None]
        self.number = 0

    async def open(self) -> None:
        """Start the worker."""
        ours, theirs = socket.socketpair()
        self.channel = await Channel.open(ours, self._hear, lambda: None)
        post = Post(0, self.board, self.listener, theirs, b"1.1 gpubalancer-test")
        self.worker = Worker(post, self.outcomes.append, lambda: LINES_DROPPED, self.notebook)
        self.running = asyncio.create_task(self.worker.run())

    def _hear(self, message: Message) -> None:
        self.messages.append(message)
        self.told.set()

    def policy(self, *names: str, more: str = "", sections: str = "") -> Policy:
        """Backends of these names, all at the one server; `more` are fields of each."""
        lines = [
            f'  - {{name: {name}, url: "http://127.0.0.1:{self.backend_port}", models: [{name}]{more}}}\n'
            for name in names
        ]
        return parse("backends:\n" + "".join(lines) + sections, "policy.yaml", Path("/"), {})

    async def hand(self, policy: Policy, discovered: dict[str, Any] | None = None) -> None:
        """Give the worker a policy, and wait until it says that it serves it."""
        self.number += 1
        rows = self._rows_that_are_up([backend.name for backend in policy.backends])
        wanted = {"kind": "adopted", "number": self.number}
        content = {"policy": orjson.loads(dump(policy)), "rows": rows, "discovered": discovered or {}}
        self.channel.send({**wanted, "kind": "policy", **content})
        await self.hear(lambda: wanted in self.messages)

    def _rows_that_are_up(self, names: list[str]) -> dict[str, int]:
        if self.number == 1:
            # A worker's picture of what is up may be older than a reload (`OPENNESS_S`): give it one to begin with.
            self.board.up[list(self.board.assign_rows(NAMES).values())] = 1
        rows = self.board.assign_rows(names)
        self.board.up[list(rows.values())] = 1
        return rows

    async def hear(self, condition: Callable[[], bool]) -> None:
        """Wait until something that the worker said makes the condition true."""
        while not condition():
            self.told.clear()
            await self.told.wait()

    def counts(self) -> list[Message]:
        """All reports."""
        return [message for message in self.messages if message["kind"] == "counts"]

    def served(self) -> int:
        """Requests in all reports together."""
        tally = Tally()
        for message in self.counts():
            tally.merge(message["tally"])
        return sum(cell.requests for cell in tally.cells.values())

    async def end(self) -> None:
        """Tell the worker to drain, and wait until it has."""
        self.channel.send({"kind": "drain"})
        await self.running


class Client:
    """One connection to the worker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, model: str = "a", target: str = "") -> None:
        """Ask for a chat, or GET a target."""
        get = f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        self.writer.write(get if target else request_bytes(body={**chat(), "model": model}))

    async def answer(self) -> Answer:
        """The next whole answer."""
        data = b""
        while not (answers := read_answers(data, (), ended=False)) or not answers[0].complete:
            piece = await self.reader.read(65536)
            assert piece, f"cut off after {data!r}"
            data += piece
        return answers[0]

    async def ask(self, model: str = "a", target: str = "") -> Answer:
        """One request and its answer."""
        self.send(model, target)
        return await self.answer()

    async def at_end(self) -> bool:
        """True if the connection ends without a further byte."""
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True


@asynccontextmanager
async def office(folder: Path, workers: int = 1, notebook: Notebook | None = None) -> AsyncIterator[Office]:
    """A worker that has no policy yet; at the end it must have ended, or ends when told."""
    backend = Backend()
    server = await asyncio.start_server(backend.serve, "127.0.0.1", 0)
    board = Board.create(folder / "board", workers, 4)
    budgets = BudgetFile.create(folder / "budgets")
    made = Office(folder, board, backend, server.sockets[0].getsockname()[1], notebook or Notebook())
    await made.open()
    try:
        yield made
    finally:
        backend.may_answer.set()
        made.worker.drain()
        await made.running
        made.channel.close()
        made.listener.close()
        server.close()
        budgets.close()
        board.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@asynccontextmanager
async def client(office: Office, tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    """A connection for the time of a block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", office.port, ssl=tls)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


def play(
    folder: Path,
    scene: Callable[[Office], Awaitable[None]],
    workers: int = 1,
    loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
    notebook: Notebook | None = None,
) -> None:
    """Run a scene that must end."""

    async def run() -> None:
        async with asyncio.timeout(DEADLINE_S), office(folder, workers, notebook) as made:
            await scene(made)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())
