"""Deadlines without timers: never early, and each told once per sweep."""

import asyncio

from gpubalancer.wire.sweep import NEVER, SWEEP_INTERVAL_S, Sweeper
from tests.wire.fakes import Clock


class Waiting:
    """Records when it was told that it waited too long."""

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.told_s: list[float] = []
        self.told = asyncio.Event()

    def on_deadline(self, now_s: float) -> None:
        """Record, and wait no more."""
        self.told_s.append(now_s)
        self.told.set()
        self.deadline_s = NEVER


def test_only_those_who_are_late_are_told() -> None:
    """A deadline is told when it has come, not before, and once."""
    clock = Clock()
    sweeper, early, late, never = Sweeper(clock), Waiting(101.0), Waiting(102.0), Waiting(NEVER)
    for waiting in (early, late, never):
        sweeper.add(waiting)
    for now_s in (100.9, 101.0, 101.5, 102.5, 103.0):
        clock.now_s = now_s
        sweeper.sweep()
    assert (early.told_s, late.told_s, never.told_s) == ([101.0], [102.5], [])


def test_the_discarded_are_not_told() -> None:
    """Who is discarded is told nothing; discarding twice does nothing."""
    clock = Clock()
    sweeper, waiting = Sweeper(clock), Waiting(0.0)
    sweeper.add(waiting)
    sweeper.discard(waiting)
    sweeper.discard(waiting)
    sweeper.sweep()
    assert (waiting.told_s, len(sweeper)) == ([], 0)


def test_a_sweep_survives_those_who_leave_in_it() -> None:
    """Whoever is told may discard itself or others."""
    sweeper = Sweeper(Clock())

    class Leaving(Waiting):
        def on_deadline(self, now_s: float) -> None:
            super().on_deadline(now_s)
            sweeper.discard(self)

    leaving = [Leaving(0.0) for _ in range(5)]
    for each in leaving:
        sweeper.add(each)
    sweeper.sweep()
    assert [len(each.told_s) for each in leaving] == [1] * 5
    assert len(sweeper) == 0


def test_run_sweeps_now_and_again_until_stop() -> None:
    """The first sweep is at once, the next after the interval, and after `stop` there is none."""
    clock, first, second = Clock(), Waiting(0.0), Waiting(0.0)
    sweeper = Sweeper(clock)
    sweeper.add(first)

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        sweeper.run(loop)
        assert len(first.told_s) == 1
        sweeper.add(second)
        assert second.told_s == []
        async with asyncio.timeout(10.0):
            await second.told.wait()
        assert loop.time() - begin_s >= SWEEP_INTERVAL_S * 0.9
        sweeper.stop()
        assert sweeper._timer is not None
        assert sweeper._timer.cancelled()

    asyncio.run(scene())
