"""Requests that wait until a budget pays for them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gpubalancer.brain.budget_store import Held
from gpubalancer.domain.budget import SECOND_NS, Claims, Refusal, Standing, Terms
from gpubalancer.proxy.budget_queue import BudgetQueue, TooLong
from tests.board.budget_terms import bucket, claims, gauge, window

HELD: Any = object()
SLOW = bucket("b", 10, 10 * SECOND_NS)
"""One token a second."""


class Clock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def refused(terms: Terms, retry_after_s: float | None) -> Refusal:
    """By a budget that heals then."""
    return Refusal(Standing(terms, 1, 0, 1.0), retry_after_s)


def trying(*answers: Held | Refusal) -> tuple[Callable[[], Awaitable[Held | Refusal]], list[int]]:
    """What the tries give, one after the other, and how many there were."""
    left, tries = list(answers), [0]

    async def attempt() -> Held | Refusal:
        tries[0] += 1
        return left.pop(0)

    return attempt, tries


def test_a_newcomer_knows_how_long_it_would_wait() -> None:
    """Until the head may go, and then by the pace of the refill for all before it."""

    async def talk() -> None:
        clock = Clock()
        queue = BudgetQueue(clock)
        line = queue.line_of(refused(SLOW, 3.0))
        assert line.wait_s(5, 0.0) == 3.0
        waiting = asyncio.ensure_future(queue.wait(line, 5, 60.0, trying(HELD)[0]))
        await asyncio.sleep(0)
        assert queue.line_of(refused(SLOW, 99.0)) is line
        assert line.wait_s(5, 0.0) == 8.0
        assert line.wait_s(5, 2.0) == 6.0
        also = asyncio.ensure_future(queue.wait(line, 4, 60.0, trying(HELD)[0]))
        await asyncio.sleep(0)
        assert line.wait_s(5, 0.0) == 12.0
        assert (queue.waiting, queue.before(claims(SLOW)), queue.before(claims(gauge("g", 1)))) == (2, line, None)
        for task in (waiting, also):
            task.cancel()
        await asyncio.gather(waiting, also, return_exceptions=True)
        assert (queue.waiting, queue.lines) == (0, {})

    asyncio.run(talk())


@pytest.mark.parametrize(("patience_s", "limit", "held"), [(3.0, 1, True), (2.9, 1, False), (3.0, 0, False)])
def test_who_would_wait_too_long_or_behind_too_many_is_not_held(patience_s: float, limit: int, held: bool) -> None:
    """It is told its place and the time."""

    async def talk() -> TooLong | None:
        queue = BudgetQueue(Clock())
        return queue.too_long(queue.line_of(refused(SLOW, 3.0)), 5, patience_s, limit)

    assert asyncio.run(talk()) == (None if held else TooLong(SLOW, 1, 3.0))


def test_the_line_is_served_in_order() -> None:
    """The next one tries when the one before it has gone, and not before."""

    async def talk() -> list[str]:
        queue, order = BudgetQueue(asyncio.get_running_loop().time), list[str]()
        line = queue.line_of(refused(SLOW, 0.01))

        async def one(name: str) -> None:
            async def attempt() -> Held | Refusal:
                order.append(name)
                held: Held = HELD
                return held

            assert await queue.wait(line, 1, 5.0, attempt) is HELD

        await asyncio.gather(*(one(name) for name in "abc"))
        return order

    assert asyncio.run(talk()) == ["a", "b", "c"]


def test_the_head_tries_again_when_it_was_not_enough() -> None:
    """As long as its patience lasts; another budget's refusal ends it at once."""

    async def talk() -> None:
        queue = BudgetQueue(asyncio.get_running_loop().time)
        other = refused(window("w", 1), 9.0)
        for answers, last in (((refused(SLOW, 0.001), HELD), HELD), ((other,), other)):
            attempt, tries = trying(*answers)
            assert await queue.wait(queue.line_of(refused(SLOW, 0.0)), 1, 5.0, attempt) is last
            assert tries == [len(answers)]
        late, never = refused(SLOW, 99.0), refused(SLOW, None)
        for answer in (late, never):
            assert await queue.wait(queue.line_of(refused(SLOW, 0.0)), 1, 5.0, trying(answer)[0]) is answer

    asyncio.run(talk())


def test_who_does_not_become_the_head_in_time_is_told() -> None:
    """With the place that it has by then; it does not try, so that nobody is overtaken."""

    async def talk() -> None:
        queue = BudgetQueue(asyncio.get_running_loop().time)
        line = queue.line_of(refused(SLOW, 5.0))
        first = asyncio.ensure_future(queue.wait(line, 1, 60.0, trying(HELD)[0]))
        await asyncio.sleep(0)
        attempt, tries = trying()
        late = await queue.wait(line, 1, 0.01, attempt)
        assert isinstance(late, TooLong)
        assert (late.position, tries) == (2, [0])
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    asyncio.run(talk())


def test_places_and_windows_have_a_pace_of_their_own() -> None:
    """Nobody knows when a place comes back; a window's come all at once."""

    async def talk(terms: Terms) -> float:
        queue = BudgetQueue(Clock())
        line = queue.line_of(refused(terms, 1.0))
        first = asyncio.ensure_future(queue.wait(line, 1, 60.0, trying(HELD)[0]))
        await asyncio.sleep(0)
        wait_s = line.wait_s(1, 0.0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return wait_s

    assert asyncio.run(talk(gauge("g", 1))) == 2.0
    assert asyncio.run(talk(window("w", 1))) == 1.0


def test_claims_name_their_line() -> None:
    """Whatever stands beside it."""
    queue = BudgetQueue(Clock())
    assert queue.before(Claims((), False)) is None
    assert repr(queue) == "<BudgetQueue 0 in 0 lines>"
