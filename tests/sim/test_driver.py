"""Time: how steps are paced, and how tokens reach who waits for them."""

import asyncio

import pytest
import uvloop

from gpubalancer.sim.driver import STEPS_PER_TURN, Driver, Inbox, Output, Pace
from gpubalancer.sim.engine import Engine, Reason, Request
from gpubalancer.sim.hardware import HARDWARE
from gpubalancer.sim.metrics import EngineMetrics

INFINITE = float("inf")
H100 = HARDWARE["h100"]


def ask(output_tokens: int = 5) -> Request:
    """A request of 20 prompt tokens whose output is 0, 1, 2, ..."""
    return Request(range(20), lambda i: i, output_tokens)


class Wheels:
    """A driver at work in the running loop."""

    def __init__(self, speedup: float) -> None:
        engine = Engine(H100)
        self.loop = asyncio.get_running_loop()
        self.driver = Driver(engine, EngineMetrics(engine, "m", 1000, 1 / speedup), Pace(self.loop, speedup))
        self.task = self.loop.create_task(self.driver.run())

    async def answer(self, request: Request) -> list[Output]:
        """Everything that one request gets."""
        inbox, outputs = Inbox(), list[Output]()
        self.driver.submit([request], inbox)
        while not outputs or outputs[-1].reason is None:
            outputs += await inbox.take()
        return outputs


def test_tokens_arrive_in_order_with_one_end() -> None:
    """A request gets its tokens numbered in order, and the reason with the last one."""

    async def story() -> None:
        wheels = Wheels(INFINITE)
        outputs = await wheels.answer(ask(5))
        assert [(o.index, o.token, o.reason) for o in outputs] == [
            (0, 0, None),
            (1, 1, None),
            (2, 2, None),
            (3, 3, None),
            (4, 4, Reason.LENGTH),
        ]
        wheels.task.cancel()

    uvloop.run(story())


@pytest.mark.parametrize("speedup", [20.0, 1000.0])
def test_the_clock_is_kept(speedup: float) -> None:
    """An answer takes its engine time divided by the speedup, never less, and late timers do not add up."""

    async def story() -> None:
        wheels = Wheels(speedup)
        request = ask(200)
        began_s = wheels.loop.time()
        await wheels.answer(request)
        took_s = wheels.loop.time() - began_s
        assert request.last_token_s is not None
        engine_s = request.last_token_s - request.arrived_s
        assert engine_s >= H100.prefill_s(20) + 199 * H100.step_s(1, 21)
        assert took_s >= engine_s / speedup
        # 200 timers, each late by its grain of a millisecond or more, would add up; the rest is for a busy machine.
        assert took_s < engine_s / speedup + 0.8
        wheels.task.cancel()

    uvloop.run(story())


def test_others_get_their_turn() -> None:
    """With an infinite speedup the loop still runs other tasks every few steps."""

    async def story() -> None:
        wheels = Wheels(INFINITE)
        answer = asyncio.ensure_future(wheels.answer(ask(STEPS_PER_TURN * 20)))
        turns = 0
        while not answer.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 20
        wheels.task.cancel()

    uvloop.run(story())


def test_cancelled_requests_get_nothing_more() -> None:
    """After a cancel the engine is empty at once, and the inbox stays as it is."""

    async def story() -> None:
        wheels = Wheels(1.0)
        inbox, request = Inbox(), ask(1000)
        wheels.driver.submit([request], inbox)
        await inbox.take()
        assert wheels.driver.engine.load == 1
        wheels.driver.cancel([request])
        assert (wheels.driver.engine.load, wheels.driver.engine.pool.held) == (0, 0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await inbox.take()
        wheels.driver.cancel([request])
        assert [o.token for o in await wheels.answer(ask(2))] == [0, 1]
        wheels.task.cancel()

    uvloop.run(story())


def test_abort_ends_everything_with_a_reason() -> None:
    """Running and waiting requests alike end with `abort` and no token."""

    async def story() -> None:
        wheels = Wheels(1.0)
        inbox = Inbox()
        requests = [ask(1000), ask(1000)]
        wheels.driver.submit(requests, inbox)
        await inbox.take()
        wheels.driver.abort_all()
        outputs = await inbox.take()
        assert [(o.request, o.token, o.reason) for o in outputs] == [(r, None, Reason.ABORT) for r in requests]
        assert wheels.driver.engine.load == 0
        wheels.task.cancel()

    uvloop.run(story())


def test_an_embedding_ends_without_a_token() -> None:
    """A request for no output gets one delivery that is only its end."""

    async def story() -> None:
        wheels = Wheels(INFINITE)
        assert [(o.token, o.reason) for o in await wheels.answer(ask(0))] == [(None, Reason.LENGTH)]
        wheels.task.cancel()

    uvloop.run(story())
