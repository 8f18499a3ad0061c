"""The threads around the driver, and the loop that never waits for them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NoReturn

import pytest

from gpubalancer.telemetry.gpus import Alarm, Snapshot
from gpubalancer.telemetry.host_watch import DEADLINE_S, GLANCE_S, HostWatch
from gpubalancer.telemetry.nvml.driver import Card, Nvml
from tests.telemetry.fake_nvml import Script

PATIENCE_S = 20.0
NEVER_S = 3600.0
PROMISE_S = 0.1
"""An alarm is out within this."""


def watching(story: Callable[[HostWatch], Awaitable[None]], interval_s: float = 0.1) -> None:
    """Run a story in a loop with a watch of this host."""

    async def play() -> None:
        async with asyncio.timeout(PATIENCE_S), HostWatch(interval_s, host="host") as watch:
            await story(watch)

    asyncio.run(play())


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; the story's deadline ends it."""
    while not condition():  # noqa: ASYNC110 - the threads tell the watch, not us
        await asyncio.sleep(0.005)


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self, watch: HostWatch) -> None:
        self.alarms: list[Alarm] = []
        self.snapshots: list[Snapshot] = []
        watch.listen(self._hear)

    def _hear(self, alarms: Sequence[Alarm], snapshot: Snapshot) -> None:
        self.alarms += alarms
        self.snapshots.append(snapshot)

    async def wait(self, kind: str) -> Alarm:
        """The first alarm of a kind."""
        await until(lambda: any(alarm.kind == kind for alarm in self.alarms))
        return next(alarm for alarm in self.alarms if alarm.kind == kind)


def test_samples_come_at_each_interval(nvml_script: Script) -> None:
    """The snapshot follows the driver, is young, and costs are counted."""
    nvml_script.gpu(0)

    async def story(watch: HostWatch) -> None:
        assert (await watch.first(PATIENCE_S)).gpus[0].temperature_celsius == 61
        nvml_script.set(gpu0__temperature=70)
        await until(lambda: watch.snapshot().gpus[0].temperature_celsius == 70)
        assert watch.snapshot().problem is None
        assert watch.cost.samples >= 2

    watching(story)


def test_without_a_driver_it_says_so_and_goes_on(nvml_script: Script) -> None:
    """No driver is a sentence in the snapshot; before the first answer there is another one."""
    nvml_script.set(init="!9")

    async def story(watch: HostWatch) -> None:
        assert watch.snapshot().problem == "the driver has not answered yet"
        snapshot = await watch.first(PATIENCE_S)
        assert (snapshot.gpus, snapshot.problem) == ((), "no NVIDIA driver: Driver Not Loaded")

    watching(story)


def test_a_throttle_is_told_between_two_samples(nvml_script: Script) -> None:
    """With an hour between samples a throttle is an alarm all the same, with the clock of then in its snapshot."""
    nvml_script.gpu(0)

    async def story(watch: HostWatch) -> None:
        heard = Heard(watch)
        await watch.first(PATIENCE_S)
        nvml_script.set(gpu0__reasons=0x40, gpu0__sm_clock=990)
        alarm = await heard.wait("throttle")
        assert (alarm.uuid, alarm.detail) == ("GPU-0", "hw_thermal")
        assert heard.snapshots[0].gpus[0].speed_fraction == 0.5
        assert watch.cost.samples == 1

    watching(story, NEVER_S)


def test_alarms_keep_their_promise(nvml_script: Script) -> None:
    """Of several throttles, and of several XIDs, the fastest is seen within 100 ms of the driver's change."""
    nvml_script.gpu(0)
    # Each is a further reason, so each is told.
    throttles: list[Callable[[], None]] = [
        partial(nvml_script.set, gpu0__reasons=bits) for bits in (0x8, 0x28, 0x68, 0xE8)
    ]
    xids: list[Callable[[], None]] = [partial(nvml_script.xid, 0, 31)] * 4

    async def story(watch: HostWatch) -> None:
        heard = Heard(watch)
        await watch.first(PATIENCE_S)
        for kind, changes in (("throttle", throttles), ("xid", xids)):
            delays_s = []
            for change in changes:
                heard.alarms.clear()
                changed_s = time.time()
                change()
                delays_s.append((await heard.wait(kind)).at_s - changed_s)
            # The machine may be busy with other things for a while, so the best of several is judged.
            assert min(delays_s) < PROMISE_S, (kind, delays_s)

    watching(story, NEVER_S)
    assert GLANCE_S <= PROMISE_S / 2


def test_an_xid_is_told_and_stays_in_the_snapshot(nvml_script: Script) -> None:
    """An XID comes by the second thread and stands in all that follows."""
    nvml_script.gpu(0)

    async def story(watch: HostWatch) -> None:
        heard = Heard(watch)
        await watch.first(PATIENCE_S)
        nvml_script.xid(0, 79)
        assert (await heard.wait("xid")).detail == "79"
        assert heard.snapshots[0].gpus[0].is_faulty
        samples = watch.cost.samples
        await until(lambda: watch.cost.samples > samples + 1)
        assert watch.snapshot().gpus[0].is_faulty

    watching(story)


def test_a_stalled_driver_stops_nothing_but_its_threads(nvml_script: Script) -> None:
    """While a call hangs, the snapshot is the last one, older and older, and says why; then it is fresh again."""
    nvml_script.gpu(0)

    async def story(watch: HostWatch) -> None:
        await watch.first(PATIENCE_S)
        nvml_script.set(gpu0__power__delay=2000, gpu0__temperature=99)
        laps = 0
        while watch.snapshot().problem is None:
            await asyncio.sleep(0.005)
            laps += 1
        stale = watch.snapshot()
        assert stale.problem is not None
        assert stale.problem.startswith("the driver has not answered for 0.")
        assert (stale.gpus[0].temperature_celsius, stale.age_s > DEADLINE_S) == (61, True)
        assert laps > 10
        nvml_script.set(gpu0__power__delay=None)
        await until(lambda: watch.snapshot().problem is None and watch.snapshot().gpus[0].temperature_celsius == 99)

    watching(story)


def test_the_end_does_not_wait_for_a_stalled_driver(nvml_script: Script) -> None:
    """The block ends while a call still hangs; the thread ends when the call does."""
    nvml_script.gpu(0)
    kept: list[HostWatch] = []

    async def story(watch: HostWatch) -> None:
        kept.append(watch)
        await watch.first(PATIENCE_S)
        nvml_script.set(gpu0__power__delay=3000)
        await until(lambda: watch.snapshot().problem)

    watching(story)
    assert any(thread.is_alive() for thread in kept[0]._threads)
    nvml_script.set(gpu0__power__delay=None)
    for thread in kept[0]._threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("took_s", "glancing", "pause_s"),
    [(0.001, True, 0.049), (0.02, True, 0.18), (0.8, True, 1.0), (0.02, False, 0.03), (0.8, False, 0.0)],
)
def test_slow_glances_are_rare_ones(took_s: float, glancing: bool, pause_s: float) -> None:
    """A glance comes 50 ms after the one before; a slow one waits for nine times its length, a sample delays none."""
    assert HostWatch(1.0)._pause_s(took_s, glancing) == pytest.approx(pause_s)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_failed_is_told(nvml_script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever nobody thought of may end the sampling thread: the snapshot says so, and the loop goes on."""
    nvml_script.gpu(0)

    def fail(nvml: Nvml, card: Card) -> NoReturn:
        raise ArithmeticError(card.uuid)

    async def story(watch: HostWatch) -> None:
        await watch.first(PATIENCE_S)
        monkeypatch.setattr(Nvml, "instances", fail)
        await until(lambda: watch.snapshot().problem and not watch._threads[0].is_alive())
        monkeypatch.undo()
        assert watch.snapshot().gpus[0].temperature_celsius == 61

    watching(story)
