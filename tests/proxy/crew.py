"""A supervisor on a stage: a real board and real sockets, and fake worker processes that tell all."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gpubalancer.board.board import Board
from gpubalancer.domain.outcome import Outcome
from gpubalancer.policy.load import parse
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.channel import Message
from gpubalancer.proxy.supervisor import Supervisor, bind
from gpubalancer.proxy.treasury import Treasury
from tests.proxy import fake_worker

DEADLINE_S = 20.0
WORKERS = 2
INTERPRETER = "python"
"""The file in a crew's folder that is run as a worker."""
VIA = b"1.1 gpubalancer-test"


def policy(*names: str, more: str = "", scheme: str = "http") -> Policy:
    """A policy of these backends; `more` are fields of each."""
    lines = [f'  - {{name: {name}, url: "{scheme}://127.0.0.1:9001", models: [m]{more}}}\n' for name in names]
    return parse("backends:\n" + "".join(lines), "policy.yaml", Path("/"), {})


class Crew:
    """A supervisor on a real board and real sockets, and what its fake workers have said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.board = Board.create(folder / "board", WORKERS, 4)
        self.heard: list[dict[str, Any]] = []
        self.decisions: list[dict[str, Any]] = []
        listeners = bind("127.0.0.1", 0, WORKERS)
        self.buried: list[Outcome] = []
        self.unreachable: list[str] = []
        self.supervisor = Supervisor(
            self.board,
            listeners,
            VIA,
            self.heard.append,
            self.decisions.extend,
            self.buried.append,
            self._answer_usage,
            self.unreachable.append,
            Treasury(folder / "budgets", lambda *_: True),
        )

    async def _answer_usage(self, question: Message) -> Message:
        return {"report": question["tenant"]}

    def told(self, number: int) -> list[dict[str, Any]]:
        """The policy messages of this number, as the workers got them."""
        return [said["told"] for said in self.heard if said["told"]["number"] == number]

    def kill(self, index: int) -> int:
        """Kill the present process of a seat; gives its id."""
        pid: int = next(said["pid"] for said in reversed(self.heard) if said["arguments"]["--index"] == str(index))
        os.kill(pid, signal.SIGKILL)
        return pid

    def pids(self) -> list[int]:
        """All processes that have said anything, in the order of their first word."""
        return list(dict.fromkeys(said["pid"] for said in self.heard))

    async def visit(self) -> int:
        """Connect, and read which process serves."""
        reader, writer = await asyncio.open_connection(*self.supervisor.address)
        pid = int(await reader.read())
        writer.close()
        return pid


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition on other processes is true."""
    until_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until_s, f"waited {DEADLINE_S} s for {what}"
        await asyncio.sleep(0.005)


MakeCrew = Callable[[], AbstractAsyncContextManager[Crew]]


def fake_crew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> MakeCrew:
    """What makes a crew in a folder, with fakes in the place of the interpreter."""
    interpreter = folder / INTERPRETER
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "{fake_worker.__file__}" "$@"\n')
    interpreter.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    monkeypatch.setenv(fake_worker.FOLDER, str(folder))

    @asynccontextmanager
    async def make() -> AsyncIterator[Crew]:
        made = Crew(folder)
        try:
            yield made
        finally:
            made.supervisor.kill()
            await made.supervisor.stop()
            made.board.close()

    return make


def play(
    crew: MakeCrew,
    scene: Callable[[Crew], Awaitable[None]],
    loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
) -> None:
    """Run a scene that must end."""

    async def run() -> None:
        async with asyncio.timeout(DEADLINE_S), crew() as made:
            await scene(made)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())
