"""Following agents and exporters over real sockets."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gpubalancer.board.board import Board
from gpubalancer.board.layout import Hardware
from gpubalancer.telemetry.agent import Agent
from gpubalancer.telemetry.agent import serving as serve_agent
from gpubalancer.telemetry.agents import STREAM_RETRY_S, Agents, GpuSource, Place
from gpubalancer.telemetry.columns import Columns
from gpubalancer.telemetry.gpus import Alarm, AlarmKind, Gpu, Snapshot, alarm_json
from gpubalancer.telemetry.host_watch import HostWatch

from .fake_nvml import Script
from .server import serving

DEADLINE_S = 20.0
ZERO, ONE = Gpu(0, "GPU-0", power_watts=100.0), Gpu(1, "GPU-1", power_watts=200.0)
HOST = Snapshot(5e8, "h", gpus=(ZERO, ONE))
ALARM = Alarm(AlarmKind.XID, "GPU-1", "79", 5e8)


def event(name: str, data: bytes) -> bytes:
    """An event as the agent writes it."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


@dataclass
class Streams:
    """An agent whose streams send what a test says, one list for each connection, and then end or stay."""

    scripts: list[list[bytes]]
    stays: bool = False
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    async def events(self, request: web.Request) -> web.StreamResponse:
        """One stream."""
        self.asked.append((request.path, request.headers.get("Authorization")))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in self.scripts.pop(0) if self.scripts else []:
            await response.write(part)
        if self.stays:
            await asyncio.Event().wait()
        return response


@asynccontextmanager
async def streaming(streams: Streams) -> AsyncIterator[Streams]:
    """Serve until the end of the block."""
    app = web.Application()
    app.router.add_get("/v1/events", streams.events)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    streams.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield streams
    finally:
        await runner.cleanup()


@dataclass
class Bench:
    """Agents whose records are kept; pauses are counted and take no time until there were enough."""

    wanted: int = 10**9
    rounds: int = 10**9
    records: list[tuple[str, Snapshot]] = field(default_factory=list)
    alarms: list[tuple[str, Alarm]] = field(default_factory=list)
    pauses_s: list[float] = field(default_factory=list)
    between: Callable[[int], None] = lambda done: None
    now_s: float = 1000.0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def _record(self, name: str, snapshot: Snapshot) -> None:
        self.records.append((name, snapshot))
        if len(self.records) >= self.wanted:
            self.over.set()

    async def _pause(self, pause_s: float) -> None:
        self.pauses_s.append(pause_s)
        self.between(len(self.pauses_s))
        await asyncio.sleep(0)
        if len(self.pauses_s) >= self.rounds:
            self.over.set()
            await asyncio.Event().wait()

    async def play(self, *sources: GpuSource) -> None:
        """Follow until there was enough."""
        agents = Agents(
            self._record,
            lambda: 0.5,
            lambda name, alarm: self.alarms.append((name, alarm)),
            lambda: self.now_s,
            self._pause,
        )
        agents.replace(sources, 1.0)
        task = asyncio.create_task(agents.run())
        async with asyncio.timeout(DEADLINE_S):
            await self.over.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def follow(bench: Bench, streams: Streams, *gpus: tuple[int, ...], credential: str | None = None) -> None:
    """Follow one agent for several backends, each with these GPUs, named a, b and so on."""

    async def main() -> None:
        async with streaming(streams):
            place = Place(streams.url, credential=credential)
            await bench.play(*(GpuSource(chr(97 + at), place, each) for at, each in enumerate(gpus)))

    asyncio.run(main())


def test_one_stream_serves_all_backends_of_a_host() -> None:
    """Each backend gets its GPUs of a snapshot that came once; the token is sent."""
    bench = Bench(wanted=3)
    streams = Streams([[event("gpus", HOST.json())]], stays=True)
    follow(bench, streams, (0,), (1,), (), credential="test-token")
    assert sorted((name, [gpu.index for gpu in part.gpus]) for name, part in bench.records) == [
        ("a", [0]),
        ("b", [1]),
        ("c", [0, 1]),
    ]
    assert streams.asked == [("/v1/events", "Bearer test-token")]


def test_an_alarm_comes_at_once_and_to_whom_it_concerns(caplog: pytest.LogCaptureFixture) -> None:
    """Its snapshot is recorded as any; the alarm itself reaches the backend of that GPU, and the log."""
    caplog.set_level(logging.INFO)
    bench = Bench(wanted=4)
    alarm = event("alarm", alarm_json([ALARM], HOST))
    follow(bench, Streams([[event("gpus", HOST.json()), alarm]], stays=True), (0,), (1,))
    assert bench.alarms == [("b", ALARM)]
    assert [name for name, _ in bench.records] == ["a", "b", "a", "b"]
    assert "backend b: GPU GPU-1: xid 79" in caplog.text


def test_events_may_come_in_pieces_and_unknown_ones_pass() -> None:
    """Cuts within an event, comments and kinds of events that are not known change nothing."""
    whole = event("gpus", HOST.json())
    parts = [b": hi\n\n" + event("future", b"?") + whole[:30], whole[30:-1], whole[-1:]]
    bench = Bench(wanted=1)
    follow(bench, Streams([parts], stays=True), ())
    assert bench.records == [("a", HOST)]


def test_a_stream_that_ends_is_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    """After an end the wait is short, and doubles only while nothing comes; the log hears of both changes."""
    caplog.set_level(logging.INFO)
    bench = Bench(rounds=4)
    streams = Streams([[event("gpus", HOST.json())], [], [], [event("gpus", HOST.json())]])
    follow(bench, streams, ())
    assert bench.pauses_s == [0.5, 1.0, 2.0, 0.5]
    assert len(bench.records) == 2
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]
    assert "ended the stream" in caplog.text


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"gpus": 5}'])
def test_a_broken_event_is_a_failure(data: bytes) -> None:
    """What is no snapshot ends the stream and records nothing."""
    bench = Bench(rounds=2)
    follow(bench, Streams([[event("gpus", data)], [event("alarm", data)]]), ())
    assert bench.records == []
    assert bench.pauses_s == [0.5, 1.0]


def test_gpus_that_are_not_there_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Indices that the host has not are a warning, not one each second."""
    bench = Bench(wanted=2)
    follow(bench, Streams([[event("gpus", HOST.json())] * 2], stays=True), (7,))
    assert [part.gpus for _, part in bench.records] == [(), ()]
    assert len([record for record in caplog.records if "has none of the GPUs [7]" in record.message]) == 1


def test_our_own_agent_is_understood_and_its_alarm_is_on_the_board(nvml_script: Script, tmp_path: Path) -> None:
    """A card that begins to throttle under the real agent is a slower backend on the board, by its clocks."""
    nvml_script.gpu(0)

    async def story(board: Board) -> None:
        columns, throttled = Columns(board), asyncio.Event()

        def record(name: str, snapshot: Snapshot) -> None:
            columns.record_gpus(name, snapshot)
            if board.hardware[board.rows()[name]] == Hardware.WELL:
                nvml_script.set(gpu0__reasons=0x8, gpu0__sm_clock=495)
            elif board.hardware[board.rows()[name]] == Hardware.THROTTLED:
                throttled.set()

        async with (
            asyncio.timeout(DEADLINE_S),
            HostWatch(0.1, host="h") as watch,
            serve_agent(Agent(watch, 60.0, "test-token"), "127.0.0.1", 0) as url,
        ):
            await watch.first(DEADLINE_S)
            agents = Agents(record, lambda: 0.5)
            agents.replace([GpuSource("a", Place(url, credential="test-token"))], 1.0)
            task = asyncio.create_task(agents.run())
            await throttled.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    board = Board.create(tmp_path / "board", workers=1, backends=1)
    row = board.assign_rows(["a"])["a"]
    asyncio.run(story(board))
    assert board.speed_fraction[row] == 0.25
    assert board.power_watts[row] == 412.345
    board.close()


def poll(bench: Bench, pages: dict[str, tuple[int, Any]], path: str = "", is_exporter: bool = False) -> list[str]:
    """Follow a server that answers these pages; returns the paths that were asked."""

    async def main() -> list[str]:
        async with serving(pages) as answers:
            await bench.play(GpuSource("a", Place(answers.url + path, is_exporter)))
            return [path for path, _ in answers.asked]

    return asyncio.run(main())


def test_an_agent_without_a_stream_is_polled() -> None:
    """Its snapshots are read each interval, and the stream is asked for again after a minute."""
    bench = Bench(rounds=3)

    def between(done: int) -> None:
        bench.now_s += STREAM_RETRY_S / 2

    bench.between = between
    asked = poll(bench, {"/v1/gpus": (200, HOST.json())})
    assert asked == ["/v1/events", "/v1/gpus", "/v1/gpus", "/v1/events", "/v1/gpus"]
    assert bench.records == [("a", HOST)] * 3
    assert bench.pauses_s == [1.0, 1.0, 1.0]


def test_an_exporter_is_polled() -> None:
    """The page of DCGM's exporter is read where it was given, and becomes a snapshot."""
    bench = Bench(rounds=1)
    page = b'DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-0"} 100\n'
    assert poll(bench, {"/metrics": (200, page)}, "/metrics", is_exporter=True) == ["/metrics"]
    assert bench.records == [("a", Snapshot(1000.0, "", gpus=(ZERO,)))]


@pytest.mark.parametrize("answer", [(500, b""), (200, b"python_info 1\n")])
def test_an_exporter_that_is_none_is_a_failure(answer: tuple[int, bytes]) -> None:
    """An error or another page records nothing and is tried ever more seldom."""
    bench = Bench(rounds=2)
    poll(bench, {"/metrics": answer}, "/metrics", is_exporter=True)
    assert bench.records == []
    assert bench.pauses_s == [2.0, 4.0]


@pytest.mark.parametrize(("status", "events"), [(401, 2), (500, 2), (503, 2)])
def test_an_agent_that_refuses_is_asked_again(status: int, events: int) -> None:
    """A missing token or too many listeners are failures of the stream, not a lack of one."""
    bench = Bench(rounds=2)
    assert poll(bench, {"/v1/events": (status, None)}) == ["/v1/events"] * events
    assert bench.records == []
