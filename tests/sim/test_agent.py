"""The simulated server's GPU paths, read by the telemetry that reads real agents."""

from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest

from gpubalancer.sim.agent import DRIVER, Trouble, serving
from gpubalancer.sim.hardware import HARDWARE
from gpubalancer.sim.server import running
from gpubalancer.telemetry.gpus import Alarm, Snapshot, alarms_of, snapshot_of
from tests.sim.live import FAST, Live, with_server

ENDLESS = {"model": "m", "prompt": "a", "max_tokens": 5000, "ignore_eos": True, "stream": True}


async def snapshot(live: Live, **headers: str) -> Snapshot:
    """`/v1/gpus`, with every field known to the reader."""
    status, said = await live.get("/v1/gpus", **headers)
    assert status == 200
    read = snapshot_of(orjson.dumps(said))
    assert set(said) == {"at_s", "host", "driver", "age_s", "problem", "gpus"}
    return read


async def next_event(answer: aiohttp.ClientResponse) -> tuple[str, bytes]:
    """Name and data."""
    name, data, end = [await answer.content.readline() for _ in range(3)]
    assert end == b"\n"
    return name.decode().removeprefix("event: ").strip(), data.removeprefix(b"data: ")


async def next_alarm(answer: aiohttp.ClientResponse) -> tuple[Alarm, Snapshot]:
    """The next alarm, and the snapshot with it."""
    while True:
        name, data = await next_event(answer)
        if name == "alarm":
            (alarm,), then = alarms_of(data)
            return alarm, then


def test_the_snapshot_is_the_card_of_the_class() -> None:
    """A server of the h100 class shows one idle H100, at the wall clock's time, under its own name."""

    async def story(live: Live) -> None:
        read = await snapshot(live)
        assert (read.host, read.driver, read.problem) == ("e1", DRIVER, None)
        assert [(gpu.name, gpu.is_idle) for gpu in read.gpus] == [("NVIDIA H100 80GB HBM3", True)]
        assert read.at_s > 1.7e9

    with_server(story)


def test_a_working_server_shows_it() -> None:
    """While a request is answered, the card is busy at its full clock and draws more than idle."""

    async def story(live: Live) -> None:
        async with live.session.post(live.server.url + "/v1/completions", data=orjson.dumps(ENDLESS)) as answer:
            await answer.content.readline()
            gpu = (await snapshot(live)).gpus[0]
            assert (gpu.utilization_fraction, gpu.speed_fraction) == (1.0, 1.0)
            assert gpu.power_watts is not None
            assert gpu.power_watts > 300

    with_server(story, speedup=1.0)


@pytest.mark.parametrize(("name", "status"), [("cpu", 200), ("cloud", 404)])
def test_classes_without_a_gpu(name: str, status: int) -> None:
    """A CPU server says that it has none and why; a cloud shows nothing at all."""

    async def story(live: Live) -> None:
        assert (await live.get("/v1/gpus"))[0] == status
        if status == 200:
            read = await snapshot(live)
            assert (read.gpus, read.problem) == ((), "no NVIDIA driver: a simulated cpu has no GPU")
        live.server.agent.throttle(0.5)
        live.server.agent.fail(79)
        assert live.server.engine.speed_fraction == 0.5

    with_server(story, hardware=HARDWARE[name])


def test_the_api_key_does_not_guard_the_card() -> None:
    """The agent's paths need no key of the API."""

    async def story(live: Live) -> None:
        assert (await snapshot(live)).gpus
        assert (await live.get("/v1/models"))[0] == 401

    with_server(story, api_key="not-a-real-key")


def test_alarms_come_at_once_and_the_engine_really_slows_down() -> None:
    """A throttle, its end and XIDs are pushed with the state of then; the engine runs at the fraction meanwhile."""

    async def story(live: Live) -> None:
        agent, engine = live.server.agent, live.server.engine
        async with live.session.get(live.server.url + "/v1/events") as answer:
            name, data = await next_event(answer)
            assert (name, len(snapshot_of(data).gpus)) == ("gpus", 1)
            agent.throttle(0.25)
            alarm, then = await next_alarm(answer)
            assert (alarm.kind, alarm.detail, engine.speed_fraction) == ("throttle", "sw_thermal", 0.25)
            assert then.gpus[0].is_throttled
            agent.throttle(1.0)
            alarm, then = await next_alarm(answer)
            assert (alarm.kind, then.gpus[0].is_throttled, engine.speed_fraction) == ("released", False, 1.0)
            agent.fail(79)
            told = [await next_alarm(answer) for _ in range(2)]
            assert [(alarm.kind, alarm.detail) for alarm, _ in told] == [
                ("xid", "79"),
                ("lost", "NVIDIA H100 80GB HBM3"),
            ]
            assert {alarm.uuid for alarm, _ in told} == {agent.gpu.uuid if agent.gpu else ""}
            assert told[1][1].gpus[0].lost

    with_server(story)


def test_trouble_is_planned_by_the_clock() -> None:
    """Each throttle and XID of the plan is one call of the loop's clock."""
    planned: list[Any] = []

    class Loop:
        def call_later(self, *call: Any) -> None:
            planned.append(call)

    async def story(live: Live) -> None:
        agent = live.server.agent
        agent.plan(Trouble(((5.0, 0.5), (9.0, 1.0)), ((7.0, 79),)), Loop())  # type: ignore[arg-type]  # what of a loop is used
        assert planned == [(5.0, agent.throttle, 0.5), (9.0, agent.throttle, 1.0), (7.0, agent.fail, 79)]

    with_server(story)


def test_streams_end_with_the_server() -> None:
    """A stream under way ends cleanly when the server stops, on its own port too."""

    async def story(live: Live) -> None:
        async with running(replace(FAST, name="e2")) as server:
            on_port = await live.session.get(server.url + "/v1/events")
            async with serving(server.agent, "127.0.0.1", 0) as url:
                on_own = await live.session.get(url + "/v1/events")
                assert (await next_event(on_own))[0] == "gpus"
            assert await on_own.read() == b""
        assert (await on_port.read()).startswith(b"event: gpus\n")

    with_server(story)
