"""Trouble in front of which nothing may go wrong: `python -m tests.e2e.chaos --minutes 10`, or `make chaos`.

Four machines serve streams; every event says which machine sent it, for whom, and its number. Clients ask for all
tiers at once. Meanwhile, at random: machines are killed in the middle of their streams and come back, get twenty times
slower, are given other clearances by a reload, and all that are cleared for `restricted` are filled up.

What must hold: a request never arrives at a machine that no policy in force cleared for its tier: it waits or is
refused. No stream is spliced, and none that broke ends like a whole one. Every request has one outcome.
"""

import asyncio
import contextlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import click

from bench.machine import describe
from tests.e2e.clients import chat, request_bytes
from tests.e2e.processes import Balancer, eventually, running
from tests.e2e.processes import policy as settings_of

RANKS = {name: rank for rank, name in enumerate(("public", "internal", "confidential", "restricted"))}
EVENTS = 20
PAUSE_S, SLOW = 0.01, 20
CLIENTS = 24
TROUBLE_EVERY_S = 0.7
SPARE_S = 0.25
"""A policy counts as in force so long after the next one was adopted: a request may be on its way."""
REFUSALS = {429: {"overloaded"}, 502: {"backend_failed"}, 503: {"no_backend"}, 504: {"timed_out"}}
PROBES = (b"GET /v1/models ", b"GET /health ", b"GET /metrics ")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LISTED = b'{"object": "list", "data": []}'
CHECKOUT = Path(__file__).parent.parent.parent


@dataclass
class Machine:
    """One backend, and all that reached it: when, whose request, of which tier."""

    name: str
    slots: int
    clearance: str
    port: int = 0
    pause_s: float = PAUSE_S
    calls: list[tuple[float, str, str]] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        """Listen, on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)
            self.port = self._server.sockets[0].getsockname()[1]

    def kill(self) -> None:
        """Be gone, and all connections with it."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(PROBES):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(LISTED), LISTED))
                    continue
                at_s = time.monotonic()
                body = json.loads(await reader.readexactly(_length(head)))
                name, tier = body["messages"][0]["content"].split()
                self.calls.append((at_s, name, tier))
                await self._answer(writer, name)
        except (OSError, asyncio.IncompleteReadError):
            return  # the balancer has left, or this machine was killed
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, name: str) -> None:
        writer.write(HEAD)
        for number in range(EVENTS):
            _event(writer, {"content": f"{self.name} {name} {number}"}, None)
            await writer.drain()
            await asyncio.sleep(self.pause_s)
        _event(writer, {}, "stop")
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


def _event(writer: asyncio.StreamWriter, delta: dict[str, str], reason: str | None) -> None:
    said = {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
    data = f"data: {json.dumps(said)}\n\n".encode()
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


def _length(head: bytes) -> int:
    fields = head.lower().split(b"\r\n")
    return next(int(line.partition(b":")[2]) for line in fields if line.startswith(b"content-length:"))


@dataclass
class Seen:
    """What clients saw: how requests ended, and all that must not be.

    Attributes:
        ends: `whole`, `broken` or status and code, by tier.
        waited_s: the longest wait of a restricted request that was then served.
        wrong: one sentence each.
    """

    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    waited_s: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def of(self, end: str) -> int:
        """Requests that ended like this, all tiers together."""
        return sum(count for (_, found), count in self.ends.items() if found == end)


class Chaos:
    """One run: machines, clients and troubles in one loop, the balancer in processes of its own."""

    def __init__(self, folder: Path, seconds: float, seed: int) -> None:
        self.seconds, self.random, self.folder = seconds, Random(seed), folder
        self.machines = [
            Machine("always", 2, "restricted"),
            Machine("flips", 3, "restricted"),
            Machine("moves", 4, "confidential"),
            Machine("open", 8, "public"),
        ]
        self.seen = Seen()
        self.troubles: Counter[str] = Counter()
        self.policies: list[tuple[float, float, dict[str, str]]] = []
        self.count = 0

    def settings(self) -> dict[str, Any]:
        """The policy's backends as they are labelled now."""
        return {
            "backends": [
                {
                    "name": each.name,
                    "url": f"http://127.0.0.1:{each.port}",
                    "kind": "gpu",
                    "engine": "openai",
                    "models": ["m"],
                    "slots": each.slots,
                    "clearance": each.clearance,
                }
                for each in self.machines
            ]
        }

    def run(self) -> "Chaos":
        """Run it all; what was wrong stands in `seen.wrong`."""
        loop = asyncio.new_event_loop()
        try:
            for machine in self.machines:
                loop.run_until_complete(machine.start())
            settings = settings_of(self.folder, self.settings()["backends"])
            settings["listen"]["workers"] = 2
            settings["routing"] = {"queue": {"limit": 200, "timeout": "2s"}}
            self._label(time.monotonic())
            with self._serving(loop, settings) as balancer:
                loop.run_until_complete(self._play(balancer))
                self._check(balancer)
            for machine in self.machines:
                machine.kill()
            loop.run_until_complete(asyncio.sleep(0.05))
        finally:
            loop.close()
        return self

    @contextlib.contextmanager
    def _serving(self, loop: asyncio.AbstractEventLoop, settings: dict[str, Any]) -> Iterator[Balancer]:
        """The balancer; the machines answer its first probes meanwhile."""
        stack = contextlib.ExitStack()
        entering = loop.run_in_executor(None, lambda: stack.enter_context(running(self.folder, settings)))
        balancer = loop.run_until_complete(entering)
        try:
            yield balancer
        finally:
            loop.run_until_complete(loop.run_in_executor(None, stack.close))

    async def _play(self, balancer: Balancer) -> None:
        until_s = time.monotonic() + self.seconds
        clients = [asyncio.create_task(self._client(balancer.port, until_s)) for _ in range(CLIENTS)]
        relabels = asyncio.create_task(self._relabels(balancer, until_s))
        while time.monotonic() < until_s:
            await self._pause()
            self._trouble()
        await relabels
        for machine in self.machines:
            machine.pause_s = PAUSE_S
            await machine.start()
        await asyncio.gather(*clients)

    # Troubles.

    async def _pause(self) -> None:
        await asyncio.sleep(self.random.uniform(0.5, 1.5) * TROUBLE_EVERY_S)

    def _trouble(self) -> None:
        kind = self.random.choice(("kill", "slow", "fill"))
        self.troubles[kind] += 1
        machine, lasts_s = self.random.choice(self.machines), self.random.uniform(0.3, 3.0)
        loop = asyncio.get_running_loop()
        if kind == "kill":
            machine.kill()
            loop.call_later(lasts_s, lambda: loop.create_task(machine.start()))
        elif kind == "slow":
            self._slow([machine], lasts_s)
        else:
            self._slow([each for each in self.machines if each.clearance == "restricted"], lasts_s)

    async def _relabels(self, balancer: Balancer, until_s: float) -> None:
        while time.monotonic() < until_s:
            await self._pause()
            self.machines[1].clearance = self.random.choice(("restricted", "public"))
            self.machines[2].clearance = self.random.choice(("restricted", "confidential", "internal", "public"))
            began_s = time.monotonic()
            settings = {**balancer.settings, **self.settings()}
            status, answer = await asyncio.to_thread(_reload, balancer, settings)
            if status != 200:
                self.seen.wrong.append(f"a reload was answered {status}: {answer}")
            self._label(began_s)
            self.troubles["relabel"] += 1

    def _slow(self, machines: list[Machine], lasts_s: float) -> None:
        for machine in machines:
            machine.pause_s = PAUSE_S * SLOW
            asyncio.get_running_loop().call_later(lasts_s, setattr, machine, "pause_s", PAUSE_S)

    def _label(self, began_s: float) -> None:
        """The labels of now are in force since `began_s`, those before until now."""
        if self.policies:
            start_s, _, labels = self.policies[-1]
            self.policies[-1] = start_s, time.monotonic(), labels
        self.policies.append((began_s, float("inf"), {each.name: each.clearance for each in self.machines}))

    # Clients.

    async def _client(self, port: int, until_s: float) -> None:
        while time.monotonic() < until_s:
            self.count += 1
            name, tier = f"r{self.count}", self.random.choice(tuple(RANKS))
            await self._ask(port, name, tier)
            await asyncio.sleep(self.random.uniform(0.0, 0.1))

    async def _ask(self, port: int, name: str, tier: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began_s = time.monotonic()
        try:
            body = chat(messages=[{"role": "user", "content": f"{name} {tier}"}], stream=True)
            writer.write(request_bytes(body=body, fields=f"X-Request-Id: {name}\r\nX-Gpubalancer-Tier: {tier}\r\n"))
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            if status == 200:
                end = await self._read(reader, name, head)
                if tier == "restricted" and end == "whole":
                    self.seen.waited_s = max(self.seen.waited_s, time.monotonic() - began_s)
            else:
                code = json.loads(await reader.readexactly(_length(head)))["error"]["code"]
                end = f"{status} {code}"
                if code not in REFUSALS.get(status, ()):
                    self.seen.wrong.append(f"{name} was answered {end}")
        except (OSError, asyncio.IncompleteReadError) as error:
            end = "nothing"
            self.seen.wrong.append(f"{name} got no answer: {error!r}")
        finally:
            writer.close()
        self.seen.ends[tier, end] += 1

    async def _read(self, reader: asyncio.StreamReader, name: str, head: bytes) -> str:
        """The stream to its end: `whole`, or `broken` if it said so."""
        data, clean = b"", False
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while size := int(await reader.readline() or b"-1", 16):
                data += (await reader.readexactly(size + 2))[:-2] if size > 0 else b""
                if size < 0:
                    break
            else:
                clean = True
        pieces, failed, done = _pieces(data)
        sources = {(machine, whose) for machine, whose, _ in pieces}
        numbers = [number for _, _, number in pieces]
        if numbers != list(range(len(numbers))) or any(whose != name for _, whose in sources) or len(sources) > 1:
            self.seen.wrong.append(f"{name} was spliced: {sources} {numbers}")
        if clean and not failed and done and len(numbers) == EVENTS:
            return "whole"
        if clean or done or not failed:
            self.seen.wrong.append(f"{name} broke without a word: clean {clean}, done {done}, {data[-200:]!r}")
        return "broken"

    # What must hold.

    def _check(self, balancer: Balancer) -> None:
        wrong = self.seen.wrong
        for machine in self.machines:
            for at_s, name, tier in machine.calls:
                if not self._cleared(machine.name, tier, at_s):
                    wrong.append(f"{name} ({tier}) reached {machine.name} at {at_s:.2f}")
        eventually(lambda: len(balancer.lines()) >= self.count, "an outcome of every request")
        outcomes = Counter(line["request_id"] for line in balancer.lines())
        wrong.extend(f"{name} has {count} outcomes" for name, count in outcomes.items() if count != 1)
        if set(outcomes) != {f"r{number + 1}" for number in range(self.count)}:
            wrong.append(f"{self.count} requests, {len(outcomes)} with an outcome")
        eventually(lambda: balancer.metric("gpubalancer_in_flight") == 0, "no request in flight")

    def _cleared(self, name: str, tier: str, at_s: float) -> bool:
        """True if some policy in force at that time cleared the machine for the tier."""
        return any(
            RANKS[labels[name]] >= RANKS[tier]
            for from_s, until_s, labels in self.policies
            if from_s <= at_s <= until_s + SPARE_S
        )

    def report(self) -> str:
        """What happened, as Markdown."""
        machine = [f"| {name} | {value} |" for name, value in describe(CHECKOUT).items()]
        ends = sorted({end for _, end in self.seen.ends})
        rows = [
            f"| {tier} | {' | '.join(str(self.seen.ends[tier, end]) for end in ends)} |" for tier in reversed(RANKS)
        ]
        calls = sum(len(each.calls) for each in self.machines)
        troubles = ", ".join(f"{count} x {kind}" for kind, count in sorted(self.troubles.items()))
        lines = [
            f"# {self.seconds / 60:g} minutes of chaos",
            "",
            "Made by `make chaos`; what is done and what must hold stands in `tests/e2e/chaos.py`.",
            "",
            "| machine | |",
            "|---|---|",
            *machine,
            "",
            f"{self.count} requests of {CLIENTS} clients, {calls} arrivals at backends, {len(self.policies)} policies.",
            f"Troubles: {troubles}.",
            "",
            f"| tier | {' | '.join(ends)} |",
            f"|---|{'---|' * len(ends)}",
            *rows,
            "",
            f"The longest restricted request that was served took {self.seen.waited_s:.1f} s; a stream alone 0.2 s.",
            "",
            "Arrivals below their clearance, splices, streams that broke without a word, requests that have not one",
            f"outcome: **{len(self.seen.wrong)}**.",
            *(f"* {sentence}" for sentence in self.seen.wrong[:50]),
        ]
        return "\n".join(lines) + "\n"


def _pieces(data: bytes) -> tuple[list[tuple[str, str, int]], bool, bool]:
    """What a stream's events say: machine, request and number each; whether an error came; whether `[DONE]` did."""
    pieces, failed, done = [], False, False
    for line in data.split(b"\n"):
        if line == b"data: [DONE]":
            done = True
        elif line.startswith(b"data: "):
            event = json.loads(line[6:])
            failed |= "error" in event
            for choice in event.get("choices", ()):
                if text := choice["delta"].get("content"):
                    machine, whose, number = text.split()
                    pieces.append((machine, whose, int(number)))
    return pieces, failed, done


def _reload(balancer: Balancer, settings: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    balancer.write(settings)
    return balancer.reload()


@click.command()
@click.option("--minutes", type=click.FloatRange(0.1), default=10.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Where to write the report.")
def main(minutes: float, seed: int, out: Path | None) -> None:
    """Run it, print the report, and end with 1 if anything was wrong."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        chaos = Chaos(Path(folder), minutes * 60, seed).run()
    click.echo(chaos.report())
    if out is not None:
        out.write_text(chaos.report())
    if chaos.seen.wrong:
        raise click.ClickException(f"{len(chaos.seen.wrong)} things were wrong")


if __name__ == "__main__":
    main()
