"""Coroutines that go on in the callback that settles what they wait for."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gpubalancer.wire.errand import Errand, Promise


def with_loop(body: Callable[[asyncio.AbstractEventLoop], None]) -> None:
    """Run a test's body inside a running loop."""

    async def run() -> None:
        body(asyncio.get_running_loop())

    asyncio.run(run())


class Diary:
    """What a coroutine did, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def wait_for(self, *promises: "asyncio.Future[str]") -> None:
        """Wait for each in turn."""
        try:
            for promise in promises:
                self.lines.append("waits")
                self.lines.append(await promise)
        except asyncio.CancelledError:
            self.lines.append("cancelled")
            raise
        except ValueError as error:
            self.lines.append(f"failed: {error}")
        finally:
            self.lines.append("over")


def test_an_errand_begins_at_once_and_goes_on_inside_the_promise() -> None:
    """No turn of the loop passes between a start, each settled promise and the end."""

    def body(loop: asyncio.AbstractEventLoop) -> None:
        first, second, diary = Promise[str](loop=loop), Promise[str](loop=loop), Diary()
        errand = Errand(diary.wait_for(first, second), loop)
        assert diary.lines == ["waits"]
        first.set_result("one")
        assert diary.lines == ["waits", "one", "waits"]
        assert not errand.done
        second.set_result("two")
        assert diary.lines[-2:] == ["two", "over"]
        assert errand.done
        assert repr(errand) == "<Errand ended>"

    with_loop(body)


def test_a_settled_promise_is_not_waited_for() -> None:
    """What is there already costs no wait."""

    def body(loop: asyncio.AbstractEventLoop) -> None:
        promise, diary = Promise[str](loop=loop), Diary()
        promise.set_result("there")
        assert Errand(diary.wait_for(promise), loop).done
        assert diary.lines == ["waits", "there", "over"]

    with_loop(body)


def test_a_failure_is_raised_where_the_errand_waits() -> None:
    """`set_exception` raises in the coroutine, at once."""

    def body(loop: asyncio.AbstractEventLoop) -> None:
        promise, diary = Promise[str](loop=loop), Diary()
        Errand(diary.wait_for(promise), loop)
        promise.set_exception(ValueError("no"))
        assert diary.lines == ["waits", "failed: no", "over"]

    with_loop(body)


def test_cancelling_at_a_promise_ends_the_errand_now() -> None:
    """The coroutine has cleaned up when `cancel` returns, and the promise can be settled by nobody any more."""

    def body(loop: asyncio.AbstractEventLoop) -> None:
        promise, diary = Promise[str](loop=loop), Diary()
        errand = Errand(diary.wait_for(promise), loop)
        errand.cancel()
        assert diary.lines == ["waits", "cancelled", "over"]
        assert errand.done
        assert promise.done()
        errand.cancel()
        errand.go_on()
        assert diary.lines[-1] == "over"

    with_loop(body)


def test_a_plain_future_wakes_an_errand_in_asyncios_way() -> None:
    """Sleeps, events and tasks can be awaited too; so can what is cancelled while it waits."""

    async def body() -> None:
        loop, diary = asyncio.get_running_loop(), Diary()
        future: asyncio.Future[str] = loop.create_future()
        errand = Errand(diary.wait_for(future), loop)
        future.set_result("done")
        assert diary.lines == ["waits"]
        await asyncio.sleep(0)
        assert diary.lines == ["waits", "done", "over"]
        assert errand.done
        pending: asyncio.Future[str] = loop.create_future()
        other = Diary()
        Errand(other.wait_for(pending), loop).cancel()
        await asyncio.sleep(0)
        assert other.lines == ["waits", "cancelled", "over"]

    asyncio.run(body())


def test_cancelling_wins_over_a_future_that_is_settled_in_the_same_turn() -> None:
    """As with a task, the coroutine sees the cancellation and not the result."""

    async def body() -> None:
        loop, diary = asyncio.get_running_loop(), Diary()
        future: asyncio.Future[str] = loop.create_future()
        errand = Errand(diary.wait_for(future), loop)
        future.set_result("too late")
        errand.cancel()
        await asyncio.sleep(0)
        assert diary.lines == ["waits", "cancelled", "over"]

    asyncio.run(body())


def test_an_errand_that_cancels_itself_is_cancelled_at_its_next_wait() -> None:
    """A coroutine may cause its own cancellation while it runs."""

    def body(loop: asyncio.AbstractEventLoop) -> None:
        diary, begin, after = Diary(), Promise[str](loop=loop), Promise[str](loop=loop)
        errands: list[Errand] = []

        async def life() -> None:
            await begin
            errands[0].cancel()
            await diary.wait_for(after)

        errands.append(Errand(life(), loop))
        begin.set_result("go")
        assert diary.lines == ["waits", "cancelled", "over"]
        assert errands[0].done

    with_loop(body)


def test_a_bare_sleep_lets_one_turn_pass() -> None:
    """`asyncio.sleep(0)` works as in a task."""

    async def body() -> None:
        seen: list[int] = []

        async def life() -> None:
            seen.append(1)
            await asyncio.sleep(0)
            seen.append(2)

        Errand(life(), asyncio.get_running_loop())
        assert seen == [1]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert seen == [1, 2]

    asyncio.run(body())


def test_a_failing_coroutine_reaches_the_loops_handler_and_not_its_waker() -> None:
    """Whoever settles a promise is not hit by what the coroutine does with it."""

    def body(loop: asyncio.AbstractEventLoop) -> None:
        seen: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: seen.append(context))
        promise = Promise[str](loop=loop)

        async def life() -> None:
            await promise
            raise RuntimeError("ours")

        errand = Errand(life(), loop)
        promise.set_result("go")
        assert errand.done
        assert str(seen[0]["exception"]) == "ours"

    with_loop(body)


@pytest.mark.parametrize("settle", [lambda p: p.set_result("x"), lambda p: p.set_exception(ValueError("x"))])
def test_a_task_may_wait_for_a_promise_as_for_any_future(settle: Callable[["Promise[str]"], None]) -> None:
    """A promise without an errand is a future of asyncio."""

    async def body() -> None:
        promise, diary = Promise[str](loop=asyncio.get_running_loop()), Diary()
        waiting: Coroutine[Any, Any, None] = diary.wait_for(promise)
        task = asyncio.create_task(waiting)
        await asyncio.sleep(0)
        settle(promise)
        await task
        assert diary.lines in (["waits", "x", "over"], ["waits", "failed: x", "over"])

    asyncio.run(body())
