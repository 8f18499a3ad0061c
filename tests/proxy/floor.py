"""A placer over a fleet of equal backends on a real board, for tests."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gpubalancer.board.board import Board
from gpubalancer.board.slots import Slots
from gpubalancer.brain.fleet import Flags, Fleet, build_fleet
from gpubalancer.brain.health import Health
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Work
from gpubalancer.policy.load import parse
from gpubalancer.policy.routing import Queue
from gpubalancer.proxy.judging import Judge
from gpubalancer.proxy.placing import Place, Placer

DEADLINE_S = 10.0
PATIENT = Queue.model_validate({"limit": 1000, "timeout": "60s"})


class Clock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Floor:
    """One worker's placer over a fleet of equal backends on a real board; `slo` as in the policy, in braces."""

    def __init__(self, folder: Path, backends: int, slots: int, workers: int = 1, slo: str = "{}") -> None:
        names = [f"b{number}" for number in range(backends)]
        self.board = Board.create(folder / "board", workers=workers, backends=backends)
        self.rows = self.board.assign_rows(names)
        self.board.up[list(self.rows.values())] = 1
        lines = [
            f'  - {{name: {name}, url: "http://127.0.0.1:{9000 + number}", models: [llama], slots: {slots}}}\n'
            for number, name in enumerate(names)
        ]
        self.policy = parse(f"backends:\n{''.join(lines)}routing: {{slo: {slo}}}", "policy.yaml", Path("/"), {})
        self.fleet: Fleet = build_fleet(self.policy, self.rows, {})
        self.judge = Judge(self.policy, self.fleet)
        self.clock, self.health = Clock(), Health(self.board.layout.backends_limit)
        self.slots = [Slots(self.board, worker) for worker in range(workers)]
        self.placers = [Placer(self.board, own, self.health, self.clock, Random(7)) for own in self.slots]
        self.placer = self.placers[0]

    def close(self) -> None:
        """Let the board go."""
        for own in self.slots:
            own.close()
        self.board.close()

    def in_flight(self) -> list[int]:
        """Slots taken, by backend."""
        return [int(self.board.in_flight[:, row].sum()) for row in self.rows.values()]

    async def place(self, queue: Queue = PATIENT, asked: Work | None = None, tried: Flags | None = None) -> Place:
        """A place for one request; `tried` have failed it."""
        return await self.placer.place(self.judge, asked or work(), tried, queue)


def work(deadline_s: float = float("inf"), tier: int = 0, model: str = "llama") -> Work:
    """A request for a chat."""
    return Work("chat", model, tier, False, deadline_s)


def run(scene: Coroutine[Any, Any, None]) -> None:
    """Run a scene that must end."""

    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await scene

    asyncio.run(bounded())


async def turns(count: int = 5) -> None:
    """Let whatever can go on go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def refusal(pending: Coroutine[Any, Any, Place]) -> RequestError:
    """The error that a request for a place ends with."""
    with pytest.raises(RequestError) as caught:
        await pending
    return caught.value
