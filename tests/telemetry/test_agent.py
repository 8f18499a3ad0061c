"""The agent's paths, on real sockets, over the real nvidia-ml-py."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp

from gpubalancer.telemetry.agent import LISTENERS_LIMIT, QUEUE_EVENTS, Agent, serving
from gpubalancer.telemetry.gpus import alarms_of, snapshot_of
from gpubalancer.telemetry.host_watch import HostWatch
from tests.telemetry.fake_nvml import Script

PATIENCE_S = 20.0
TOKEN = "not-a-real-token"


class Live:
    """An agent that serves, and a client."""

    def __init__(self, agent: Agent, session: aiohttp.ClientSession) -> None:
        self.agent = agent
        self.session = session

    async def get(self, path: str, token: str = "") -> tuple[int, bytes, str]:
        """Status, body and content type."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.session.get(path, headers=headers) as answer:
            return answer.status, await answer.read(), answer.content_type

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """Name and data of each event."""
        async with self.session.get("/v1/events") as answer:
            assert (answer.status, answer.content_type) == (200, "text/event-stream")
            yield _events(answer)


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, bytes]]:
    while name := await answer.content.readline():
        data = await answer.content.readline()
        assert await answer.content.readline() == b"\n"
        yield name.decode().removeprefix("event: ").strip(), data.removeprefix(b"data: ").strip()


async def _next(events: AsyncIterator[tuple[str, bytes]], wanted: str) -> bytes:
    """The data of the next event of this name."""
    while True:
        name, data = await anext(events)
        if name == wanted:
            return data


def with_agent(story: Callable[[Live], Awaitable[None]], interval_s: float = 0.1, token: str | None = None) -> None:
    """Run a story against an agent of this host."""

    async def play() -> None:
        async with asyncio.timeout(PATIENCE_S), HostWatch(interval_s, host="host") as watch:
            agent = Agent(watch, interval_s, token)
            async with serving(agent, "127.0.0.1", 0) as url, aiohttp.ClientSession(url) as session:
                await watch.first(PATIENCE_S)
                await story(Live(agent, session))

    asyncio.run(play())


def test_the_snapshot_is_json(nvml_script: Script) -> None:
    """`/v1/gpus` is a snapshot that our own reader understands."""
    nvml_script.gpu(0)
    nvml_script.gpu(1, utilization="!3")

    async def story(live: Live) -> None:
        status, body, kind = await live.get("/v1/gpus")
        assert (status, kind) == (200, "application/json")
        snapshot = snapshot_of(body)
        assert (snapshot.host, snapshot.driver, [gpu.uuid for gpu in snapshot.gpus]) == (
            "host",
            "580.65.06",
            ["GPU-0", "GPU-1"],
        )
        assert snapshot.gpus[0].power_watts == 412.345
        assert snapshot.gpus[1].utilization_fraction is None
        assert 0 <= snapshot.age_s < PATIENCE_S

    with_agent(story)


def test_without_a_driver_it_serves_an_empty_list(nvml_script: Script) -> None:
    """No driver is an empty list with a reason, and 200."""
    nvml_script.set(init="!9")

    async def story(live: Live) -> None:
        status, body, _ = await live.get("/v1/gpus")
        snapshot = snapshot_of(body)
        assert (status, snapshot.gpus, snapshot.problem) == (200, (), "no NVIDIA driver: Driver Not Loaded")
        assert (await live.get("/livez"))[0] == 200

    with_agent(story)


def test_events_are_snapshots_and_alarms(nvml_script: Script) -> None:
    """A stream begins with a snapshot, more follow each interval, and an alarm comes with the snapshot of then."""
    nvml_script.gpu(0)

    async def story(live: Live) -> None:
        async with live.events() as events:
            name, data = await anext(events)
            assert name == "gpus"
            assert not snapshot_of(data).gpus[0].is_throttled
            assert (await anext(events))[0] == "gpus"
            nvml_script.set(gpu0__reasons=0x8, gpu0__sm_clock=495)
            alarms, snapshot = alarms_of(await _next(events, "alarm"))
            assert [(alarm.kind, alarm.uuid, alarm.detail) for alarm in alarms] == [
                ("throttle", "GPU-0", "hw_slowdown")
            ]
            assert snapshot.gpus[0].speed_fraction == 0.25

    with_agent(story)


def test_metrics_are_prometheus_text(nvml_script: Script) -> None:
    """`/metrics` has the card's gauges and the cost of sampling."""
    nvml_script.gpu(0)

    async def story(live: Live) -> None:
        status, body, kind = await live.get("/metrics")
        assert (status, kind) == (200, "text/plain")
        assert b'gpubalancer_gpu_power_watts{gpu="GPU-0",index="0"} 412.345\n' in body
        assert b"\ngpubalancer_agent_samples_total " in body

    with_agent(story)


def test_a_token_guards_everything_but_livez(nvml_script: Script) -> None:
    """With a token, only who has it reads; whether the agent lives is everybody's to know."""

    async def story(live: Live) -> None:
        for path in ("/v1/gpus", "/v1/events", "/metrics", "/elsewhere"):
            assert (await live.get(path))[0] == 401
            assert (await live.get(path, "wrong-é"))[0] == 401
        assert (await live.get("/v1/gpus", TOKEN))[0] == 200
        assert (await live.get("/livez"))[0] == 200

    with_agent(story, token=TOKEN)


def test_listeners_are_limited_and_come_and_go(nvml_script: Script) -> None:
    """One listener too many gets 503; when another leaves there is room again."""

    async def story(live: Live) -> None:
        streams = [await live.session.get("/v1/events") for _ in range(LISTENERS_LIMIT)]
        assert (await live.get("/v1/events"))[0] == 503
        streams.pop().close()
        while True:
            async with live.session.get("/v1/events") as answer:
                if answer.status == 200:
                    break
        for stream in streams:
            stream.close()

    with_agent(story)


def test_a_listener_that_does_not_read_is_let_go(nvml_script: Script) -> None:
    """Whose queue is full is disconnected after what it has; the others get everything."""

    async def story(live: Live) -> None:
        queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_EVENTS)
        live.agent._queues.add(queue)
        async with live.events() as events:
            for number in range(QUEUE_EVENTS + 1):
                live.agent._send(b"event: n\ndata: %d\n\n" % number)
                assert int(await _next(events, "n")) == number
        assert queue not in live.agent._queues
        kept = [queue.get_nowait() for _ in range(queue.qsize())]
        assert kept[-1] == b""

    with_agent(story)


def test_the_end_ends_every_stream(nvml_script: Script) -> None:
    """A stream under way ends cleanly when the agent does."""
    nvml_script.gpu(0)
    ends: list[bytes] = []

    async def play() -> None:
        async with asyncio.timeout(PATIENCE_S), HostWatch(0.1) as watch, aiohttp.ClientSession() as session:
            async with serving(Agent(watch, 0.1), "127.0.0.1", 0) as url:
                stream = await session.get(f"{url}/v1/events")
                await stream.content.readline()
            ends.append(await stream.content.read())

    asyncio.run(play())
    assert ends[0].endswith(b"\n\n")
