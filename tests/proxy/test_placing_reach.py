"""With an SLO a shorter request may go ahead of a longer one that fits nowhere just now."""

import asyncio
from collections.abc import Callable

import numpy as np

from gpubalancer.proxy.placing import REACH
from tests.proxy.floor import Floor, refusal, run, turns, work

SLO = "{ttft: 2s}"
LONG_TOKENS, SHORT_TOKENS = 3000, 100
"""The unknown class reads 0.4 ms a token, and predictions count 1.4 times: beside `FULL_TOKENS` neither keeps 2 s,
beside `HALF_TOKENS` only the short one does."""
FULL_TOKENS, HALF_TOKENS = 4000, 2000


class Scene:
    """One busy backend; what comes waits, and who gets a place is written down."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.order: list[str] = []
        floor.board.in_flight[0, floor.rows["b0"]] = 4
        self.queued(FULL_TOKENS)

    def queued(self, tokens: int) -> None:
        """Somebody's prompts wait there."""
        self.floor.board.prefill_tokens[0, self.floor.rows["b0"]] = tokens

    def ask(self, name: str, tokens: int) -> "asyncio.Task[None]":
        """A request with a prompt of so many tokens."""

        async def one() -> None:
            asked = work()
            asked.prompt_tokens = tokens
            await self.floor.place(asked=asked)
            self.order.append(name)

        return asyncio.ensure_future(one())

    async def look(self) -> None:
        """Let the head look, and all that this brings about."""
        for line in self.floor.placer._lines.values():
            line.call()
        await turns(4 * REACH + 8)


def test_a_short_request_does_not_wait_behind_a_long_one(floors: Callable[..., Floor]) -> None:
    """What fits goes, in order; what does not stays at the head and goes when it can."""
    scene = Scene(floors(1, 64, slo=SLO))

    async def play() -> None:
        tasks = []
        for name, tokens in (("long", LONG_TOKENS), ("short 1", SHORT_TOKENS), ("short 2", SHORT_TOKENS)):
            tasks.append(scene.ask(name, tokens))
            await turns()
        assert scene.order == []
        scene.queued(HALF_TOKENS)
        await scene.look()
        assert scene.order == ["short 1", "short 2"]
        scene.queued(0)
        await scene.look()
        assert scene.order == ["short 1", "short 2", "long"]
        assert scene.floor.placer._lines == {}

    run(play())


def test_only_the_first_may_look(floors: Callable[..., Floor]) -> None:
    """Behind `REACH` that fit nowhere a short request waits, until one of them leaves."""
    scene = Scene(floors(1, 64, slo=SLO))

    async def play() -> None:
        tasks = []
        for _ in range(REACH):
            tasks.append(scene.ask("long", LONG_TOKENS))
            await turns()
        tasks.append(scene.ask("short", SHORT_TOKENS))
        scene.queued(HALF_TOKENS)
        await scene.look()
        assert scene.order == []
        tasks[3].cancel()
        await turns()
        await scene.look()
        assert scene.order == ["short"]
        for task in tasks:
            task.cancel()
        await turns()
        assert scene.floor.placer.waiting == 0

    run(play())


def test_who_was_passed_too_long_is_refused(floors: Callable[..., Floor]) -> None:
    """A long request does not wait longer than the SLO leaves it."""
    floor = floors(1, 64, slo=SLO)
    scene = Scene(floor)

    async def play() -> None:
        asked = work()
        asked.prompt_tokens = LONG_TOKENS
        waiting = asyncio.ensure_future(refusal(floor.place(asked=asked)))
        await turns()
        floor.clock.now_s += 1.5
        await scene.look()
        assert (await waiting).code == "overloaded"

    run(play())


def test_without_an_slo_nobody_overtakes(floors: Callable[..., Floor]) -> None:
    """Where only slots hold requests back, those behind the head do not even look."""
    floor = floors(1, 1)

    async def play() -> None:
        held = await floor.place()
        tasks = [asyncio.ensure_future(floor.place()) for _ in range(3)]
        await turns()
        tasks[1].cancel()
        held.lease.release()
        held.burden.end()
        await turns()
        assert [task.done() for task in tasks] == [False, True, False]
        next(iter(floor.placer._lines.values())).call()
        await turns()
        assert [task.done() for task in tasks] == [True, True, False]
        tasks[2].cancel()
        await turns()

    run(play())


def test_who_may_not_go_back_holds_up_nobody(floors: Callable[..., Floor]) -> None:
    """A request that its only free backend has failed waits at the head; those behind it take that backend."""
    floor = floors(2, 1)
    tried = np.array([True, False])

    async def play() -> None:
        kept = [await floor.place(), await floor.place()]
        again = asyncio.ensure_future(floor.place(tried=tried))
        await turns()
        other = asyncio.ensure_future(floor.place())
        await turns()
        floor.placer.give_back(next(place for place in kept if place.index == 0))
        assert (await other).index == 0
        assert not again.done()
        floor.placer.give_back(next(place for place in kept if place.index == 1))
        assert (await again).index == 1

    run(play())
