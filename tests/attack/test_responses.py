"""Every hostile answer once, with good requests before, behind and beside it."""

import asyncio
import json
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.attack.balancer import backend, balancing, recording_backend
from tests.attack.case import get
from tests.attack.client import QUIET_TRIPS, Exchange, Pacer, Wire, connect, exchange, judge, pacing
from tests.attack.hostile import HostileProtocol
from tests.attack.recorder import EchoProtocol, Records, serving
from tests.attack.responses import HOSTILE, POISON, Hostile

INTERLEAVINGS = 5_000
LANES = 16


@dataclass(frozen=True, slots=True)
class Front:
    """The balancer's port and what the good and the hostile backends saw."""

    port: int
    records: Records


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A balancer before one backend for each row, and a good one for pacing."""
    records = Records()
    factories = [lambda row=row: HostileProtocol(records, row.script) for row in HOSTILE]
    with ExitStack() as stack:
        pace_port, *ports = stack.enter_context(serving([lambda: EchoProtocol(records), *factories]))
        backends = [backend(_backend(row), port) for row, port in zip(HOSTILE, ports, strict=True)]
        pacing_backend = {**recording_backend(pace_port), "paths": ["/pace"]}
        yield Front(
            stack.enter_context(balancing(tmp_path_factory.mktemp("hostile"), [pacing_backend, *backends])), records
        )


@dataclass(frozen=True, slots=True)
class Transcript:
    """A hostile exchange, and good ones behind it: on the same client connection if it was open, and on a new one."""

    hostile: Exchange
    same: Exchange | None
    new: Exchange


@pytest.fixture(scope="module")
def transcripts(front: Front) -> dict[str, Transcript]:
    """Every row sent, each with its own followers."""

    async def run() -> dict[str, Transcript]:
        async with asyncio.TaskGroup() as group:
            tasks = {row.name: group.create_task(_play(front, row)) for row in HOSTILE}
        return {name: task.result() for name, task in tasks.items()}

    return asyncio.run(run())


@pytest.mark.parametrize("row", HOSTILE, ids=lambda row: row.name)
def test_client_can_tell_how_the_answer_ended(row: Hostile, transcripts: dict[str, Transcript]) -> None:
    """The client is left with a refusal, a whole answer or one that is plainly cut, as the row allows."""
    result = transcripts[row.name].hostile
    assert result.verdict is None, f"{row.why}: the client was sent {result.verdict}"
    assert len(result.answers) <= 1, f"{row.why}: {result.data[:500]!r}"
    assert _outcome(result) in row.outcomes, f"{row.why}: {_outcome(result)}: {result.data[:500]!r}"
    if _outcome(result) == "whole":
        assert result.statuses == (row.status,)
    if _outcome(result) == "cut":
        assert result.closed, "a cut answer must end the connection"
    if _outcome(result) != "502":
        assert row.must_say in result.data, f"{row.why}: {result.data!r}"
    assert not row.never_says or row.never_says not in result.data, f"{row.why}: {result.data[:500]!r}"


@pytest.mark.parametrize("row", HOSTILE, ids=lambda row: row.name)
def test_next_answers_belong_to_their_requests(row: Hostile, transcripts: dict[str, Transcript]) -> None:
    """A good request behind a hostile answer, to the same backend, gets its own answer."""
    transcript = transcripts[row.name]
    assert _echoed(transcript.new) == [f"/{_backend(row)}/new"], transcript.new.data[:500]
    if transcript.same is not None:
        assert _echoed(transcript.same) == [f"/{_backend(row)}/same"], transcript.same.data[:500]


def test_no_answer_is_shifted_when_all_are_mixed(front: Front, transcripts: dict[str, Transcript]) -> None:
    """In thousands of good and hostile requests at once, whoever gets a 200 for a good one gets his own."""
    dice = random.Random(20_261)
    rows = [row for row in HOSTILE if row.script.repeat == 1 and not row.script.early]
    plan = [(dice.choice(rows), dice.choice(["", f"tag-{number}"])) for number in range(INTERLEAVINGS)]

    async def run() -> int:
        return sum(await asyncio.gather(*(_lane(front, plan[start::LANES]) for start in range(LANES))))

    assert len(transcripts) == len(HOSTILE)
    served = asyncio.run(run())
    assert served > INTERLEAVINGS // 3


class LateProtocol(EchoProtocol):
    """A good backend that can also speak when nobody has asked."""

    def __init__(self, records: Records, connections: "list[LateProtocol]") -> None:
        super().__init__(records)
        self.connections = connections
        self.lost = threading.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be known to the test."""
        super().connection_made(transport)
        self.loop = asyncio.get_running_loop()
        self.connections.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The balancer has closed."""
        self.lost.set()


def test_what_nobody_asked_for_is_no_answer(tmp_path: Path) -> None:
    """An answer that a backend sends on an idle connection closes it, and the next request gets its own."""
    records, connections = Records(), list[LateProtocol]()

    async def ask(port: int, target: str) -> list[str]:
        async with pacing(port, set()) as pacer:
            return _echoed(await exchange(pacer, [get(target=target.encode())], wanted=1))

    with (
        serving([lambda: LateProtocol(records, connections)]) as (backend_port,),
        balancing(tmp_path, [recording_backend(backend_port)]) as port,
    ):
        assert asyncio.run(ask(port, "/first")) == ["/first"]
        for connection in list(connections):
            connection.loop.call_soon_threadsafe(connection.transport.write, POISON)
        assert all(connection.lost.wait(10) for connection in list(connections))
        assert asyncio.run(ask(port, "/second")) == ["/second"]
    assert len({id(connection) for connection in connections}) >= 2


async def _lane(front: Front, requests: list[tuple[Hostile, str]]) -> int:
    """One request after the other, on one connection while it lasts; gives how many good ones were served.

    Nothing is waited for after an answer: bytes that come late are found where the next one is read.
    """
    good, wire = 0, await connect(front.port)
    for row, tag in requests:
        method = "GET" if tag else _method(row)
        wire.transport.write(_get(row, tag) if tag else _hostile_request(row))
        result = await _await_one(wire, method)
        assert result.verdict is None, f"{row.name}: {result.verdict}"
        assert _outcome(result) != "open", f"{row.name}: {result.data[:500]!r}"
        if tag:
            assert result.statuses in ((200,), (502,), (503,)), result.data[:500]
        if tag and result.statuses == (200,):
            assert _echoed(result) == [f"/{_backend(row)}/{tag}"]
            good += 1
        wire.data.clear()
        if wire.closed or "close" in result.answers[0].values("connection"):
            wire.leave()
            wire = await connect(front.port)
    wire.leave()
    return good


def test_backends_saw_only_strict_requests(front: Front, transcripts: dict[str, Transcript]) -> None:
    """However a backend misbehaves, what it is sent stays canonical."""
    assert len(transcripts) == len(HOSTILE)
    assert front.records.violations() == []


def _backend(row: Hostile) -> str:
    return "h-" + row.name.replace(",", "")


def _method(row: Hostile) -> str:
    return "POST" if row.method == "STREAM" else row.method


def _get(row: Hostile, tag: str) -> bytes:
    return f"GET /{_backend(row)}/{tag} HTTP/1.1\r\nHost: a.example\r\n\r\n".encode()


def _hostile_request(row: Hostile) -> bytes:
    target, body = f"/{_backend(row)}/hostile", b"x" * row.body_bytes
    if row.method == "STREAM":
        messages = [{"role": "user", "content": "hostile"}]
        target = "/v1/chat/completions"
        body = json.dumps({"model": _backend(row), "stream": True, "messages": messages}).encode()
    head = f"{_method(row)} {target} HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/json\r\n"
    if row.chunked:
        sent = f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode() + body
        return sent[: len(sent) - row.held_bytes]
    framing = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{head}{framing}\r\n".encode() + body[: len(body) - row.held_bytes]


async def _play(front: Front, row: Hostile) -> Transcript:
    """Warm the backend's connection, send the hostile request, then good ones behind it."""
    async with pacing(front.port, set()) as pacer:
        await exchange(pacer, [_get(row, "warm")], wanted=1)
        wire = await connect(front.port)
        wire.transport.write(_hostile_request(row))
        hostile = await _read_one(wire, pacer, _method(row))
        same = None
        if not wire.closed and _outcome(hostile) != "cut" and not row.held_bytes:
            wire.data.clear()
            wire.transport.write(_get(row, "same"))
            same = await _read_one(wire, pacer, "GET")
        wire.leave()
        new = await exchange(pacer, [_get(row, "new")], wanted=1)
    return Transcript(hostile, same, new)


async def _await_one(wire: Wire, method: str) -> Exchange:
    """Wait for one whole answer or the end; gives what there is when the time is over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(10):
            while not wire.closed and not any(answer.complete for answer in judge(wire, [method]).answers):
                await wire.wait_change()
    return judge(wire, [method])


async def _read_one(wire: Wire, pacer: Pacer, method: str) -> Exchange:
    """Wait for one whole answer or the end, and then until nothing more comes."""
    if _outcome(await _await_one(wire, method)) != "open":
        for _ in range(QUIET_TRIPS):
            await pacer.round_trip()
    return judge(wire, [method])


def _outcome(result: Exchange) -> str:
    if len(result.answers) == 1 and result.answers[0].complete:
        return "502" if result.statuses == (502,) else "whole"
    return "cut" if result.closed else "open"


def _echoed(result: Exchange) -> list[str]:
    """The targets that the answers tell of, where they are echoes."""
    return [
        json.loads(answer.body)["target"] if answer.status == 200 else f"status {answer.status}"
        for answer in result.answers
    ]
