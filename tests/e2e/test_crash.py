"""kill -9 of workers, of the supervisor and of all, while answers stream.

Afterwards each request that a backend served is in the ledger once, budgets equal the ledger to the token, and nothing
is reserved. Clients come all the time and take whatever becomes of them. Some leave in the middle. Half of them pay by
budgets, the others have none. What was killed is started again, as an operator's service manager would.
"""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
from click.testing import CliRunner

from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.brain.budget import BudgetPlan
from gpubalancer.cli import main
from gpubalancer.domain.budget import Spending, State
from gpubalancer.ledger.ingest import DATABASE
from gpubalancer.policy.load import load
from tests.e2e.backends import STREAM_HEAD, Backend, Call, backend, chunk
from tests.e2e.clients import chat, request_bytes
from tests.e2e.processes import Balancer, eventually, policy, running

Victim = Literal["worker", "supervisor", "all"]
KEYS = {"acme": "key-of-acme", "free": "key-of-free"}
BUDGETS = [{"unit": unit, "limit": "1000M", "per": "month"} for unit in ("tokens", "completion_tokens", "requests")]
AT_ONCE = 24
EVENTS = 25
PROMPT_TOKENS = 7
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
LAST = b"data: [DONE]\n\n\r\n0\r\n\r\n"


@dataclass
class Engine:
    """Streams, and remembers by the request's id what it was asked and what it served whole."""

    came: Counter[str] = field(default_factory=Counter)
    whole: set[str] = field(default_factory=set)

    async def __call__(self, call: Call) -> None:
        """Answer with some events, a finish reason and the usage."""
        await call.body()
        name = call.fields["x-request-id"]
        self.came[name] += 1
        await call.send(STREAM_HEAD)
        for _ in range(EVENTS):
            await call.send(chunk(EVENT))
            await asyncio.sleep(0.01)
        usage = {"choices": [], "usage": {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": EVENTS}}
        self.whole.add(name)
        await call.send(chunk(STOP) + chunk(b"data: %b\n\n" % json.dumps(usage).encode()) + chunk(b"data: [DONE]\n\n"))
        await call.send(b"0\r\n\r\n")


@dataclass
class Crowd:
    """Clients that ask for streams, and what became of each."""

    port: int
    streams: int
    random: Random
    begun: int = 0
    events: int = 0
    got_all: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """All of them, some at a time."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._ask_on())

    async def _ask_on(self) -> None:
        while self.begun < self.streams:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            self.begun += 1
            name = f"stream-{self.begun}"
            with contextlib.suppress(OSError):
                await self._ask(name, reader, writer)
            writer.transport.abort()

    async def _ask(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        patience = self.random.randrange(1, EVENTS) if self.random.random() < 0.1 else EVENTS + 1
        tenant = self.random.choice(list(KEYS))
        fields = f"x-request-id: {name}\r\nauthorization: Bearer {KEYS[tenant]}\r\n"
        writer.write(request_bytes(body=chat(stream=True), fields=fields))
        got = b""
        while piece := await reader.read(65536):
            got += piece
            self.events += piece.count(b"data: ")
            if got.endswith(LAST):
                self.got_all.add(name)
                return
            if got.count(b"data: ") >= patience:
                return


class Ward:
    """A balancer that is killed and started again."""

    def __init__(self, folder: Path, server: Backend, stack: ExitStack) -> None:
        digests = {name: f"sha256:{sha256(key.encode()).hexdigest()}" for name, key in KEYS.items()}
        self.folder, self._stack = folder, stack
        self.settings = policy(folder, [server.settings(slots=1000)], listen={"workers": 2})
        self.settings["tenants"] = [
            {"name": "acme", "keys": [digests["acme"]], "budgets": BUDGETS},
            {"name": "free", "keys": [digests["free"]]},
        ]
        self.balancer = self.start()

    def start(self) -> Balancer:
        """Begin, or begin again on what the last one left behind."""
        self.balancer = self._stack.enter_context(running(self.folder, self.settings))
        return self.balancer

    def kill(self, victim: Victim, random: Random) -> None:
        """Kill, and see to it that there is a balancer again."""
        supervisor, workers = self.balancer.process, eventually(self.balancer.workers, "a worker")
        doomed = {"worker": [random.choice(workers)], "supervisor": [supervisor.pid]}.get(
            victim, [supervisor.pid, *workers]
        )
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)
        if victim != "worker":
            supervisor.wait()
            self.start()

    def comes_to_rest(self) -> None:
        """Wait until nobody has anything in flight, workers of dead supervisors included."""
        eventually(lambda: not self._in_flight(), "nothing in flight", 30)
        eventually(lambda: self.balancer.metric("gpubalancer_reservations_outstanding") == 0, "nothing reserved")

    def _in_flight(self) -> list[Path]:
        slots = (self.folder / "state").glob("budgets.worker-*")
        return [path for path in slots if any(memoryview(path.read_bytes()).cast("q")[::128])]


def spent(folder: Path) -> dict[str, State]:
    """What the file of budgets says of each unit, with nobody running."""
    plan = BudgetPlan(load(folder / "gpubalancer.yaml", {}))
    file = BudgetFile.attach(folder / "state" / "budgets")
    try:
        return {terms.unit: file.state(file.find(terms.id) or 0) for terms in plan.every()}
    finally:
        file.close()


def entries(folder: Path) -> list[dict[str, Any]]:
    """What the ledger has, line by line, after it has taken everything in."""
    with closing(sqlite3.connect(folder / "state" / DATABASE)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM entries")]


def check(folder: Path, engine: Engine, crowd: Crowd) -> None:
    """Hold the ledger against what backend and clients saw, against the budgets, and against the journal."""
    verified = CliRunner().invoke(main, ["usage", "--config", str(folder / "gpubalancer.yaml"), "--json", "--verify"])
    assert verified.exit_code == 0, verified.output
    assert json.loads(verified.stdout)["verify"] == {"agrees": True, "faults": []}
    lines = entries(folder)
    times = Counter(line["request_id"] for line in lines)
    assert [name for name in engine.came if times[name] != 1] == []
    assert [name for name, count in times.items() if count > 1] == []
    charged = {line["request_id"]: line for line in lines if line["requests"]}
    assert engine.came.keys() <= charged.keys()
    for name in crowd.got_all:
        line = charged[name]
        assert (line["reason"], line["prompt_tokens"], line["completion_tokens"]) == ("", PROMPT_TOKENS, EVENTS)
    paying = [line for line in charged.values() if line["tenant"] == "acme"]
    facts = [Spending(line["prompt_tokens"], 0, line["completion_tokens"], 1) for line in paying]
    budgets = spent(folder)
    assert {unit: state[:2] for unit, state in budgets.items()} == {
        "tokens": (sum(fact.prompt_tokens + fact.completion_tokens for fact in facts), 0),
        "completion_tokens": (sum(fact.completion_tokens for fact in facts), 0),
        "requests": (len(facts), 0),
    }


async def kill_in_turn(ward: Ward, crowd: Crowd, victims: list[Victim], random: Random) -> None:
    """Kill each at a random point: after so many events have come since the last."""
    seen = 0
    for victim in victims:
        goal = seen + random.randrange(EVENTS, AT_ONCE * EVENTS)
        while crowd.events < goal and crowd.begun < crowd.streams:  # noqa: ASYNC110  events come from another process
            await asyncio.sleep(0.001)
        await asyncio.to_thread(ward.kill, victim, random)
        seen = crowd.events


def crash(folder: Path, streams: int, victims: list[Victim], seed: int) -> tuple[Engine, Crowd]:
    """Let clients come while the victims are killed one after another; returns when nothing runs any more."""
    engine, random = Engine(), Random(seed)
    with backend(engine) as server, ExitStack() as stack:
        ward = Ward(folder, server, stack)
        crowd = Crowd(ward.balancer.port, streams, Random(seed + 1))

        async def play() -> None:
            asking = asyncio.create_task(crowd.run())
            await kill_in_turn(ward, crowd, victims, random)
            await asking

        asyncio.run(play())
        ward.comes_to_rest()
    return engine, crowd


def test_no_kill_loses_or_doubles_a_request(tmp_path: Path) -> None:
    """A worker, the supervisor and all of them, at random points of 150 streams."""
    engine, crowd = crash(tmp_path, 150, ["worker", "supervisor", "all"], seed=5)
    check(tmp_path, engine, crowd)
    assert len(engine.came) > 100
    reasons = Counter(line["reason"] for line in entries(tmp_path))
    assert reasons["worker_killed"] > 0
    assert reasons[""] > 0


@pytest.mark.soak
@pytest.mark.parametrize("victim", ["worker", "supervisor", "all"])
def test_no_kill_of_many_loses_or_doubles_a_request(tmp_path: Path, victim: Victim) -> None:
    """Twenty kills at random points of 2,000 streams."""
    engine, crowd = crash(tmp_path, 2000, [victim] * 20, seed=len(victim))
    check(tmp_path, engine, crowd)
    assert len(engine.came) > 1500
