"""Running a request's coroutine in the very callback that brings what it waits for.

asyncio wakes a task one turn of the event loop after the future that it waits for is done, and starts it one turn after
it is made. A request that is alone would pay four turns for its start, the head of its answer, the end and its close.
An `Errand` drives one coroutine without them: it starts at once, and goes on inside `Promise.set_result`.

So two rules hold for who uses these. Settle a promise as the last thing you do, because the coroutine goes on inside
and may use you again. And await nothing in an errand that asks for `asyncio.current_task` (timeouts, task groups): give
it to a task of its own. Any other future of asyncio may be awaited, and wakes the errand in asyncio's own way.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Promise(asyncio.Future[T]):
    """A future whose errand goes on at once; for a task that awaits it, a future like any other."""

    errand: "Errand | None" = None
    """Who waits, if an errand does."""

    def set_result(self, result: T, /) -> None:
        """Settle it, and let the errand go on."""
        super().set_result(result)
        self._wake()

    def set_exception(self, exception: type | BaseException, /) -> None:
        """Settle it by a failure, and let the errand go on."""
        super().set_exception(exception)
        self._wake()

    def _wake(self) -> None:
        errand, self.errand = self.errand, None
        if errand is not None:
            errand.go_on()


class Errand:
    """One coroutine on its way. It has begun when this returns; `cancel` ends it as it would end a task."""

    __slots__ = ("_cancelled", "_coroutine", "_loop", "_running", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
        self._coroutine: Coroutine[Any, Any, None] | None = coroutine
        self._loop = loop
        self._waits_for: asyncio.Future[Any] | None = None
        self._cancelled = False
        self._running = False
        self.go_on()

    def __repr__(self) -> str:
        state = "ended" if self.done else "running" if self._running else f"waits for {self._waits_for!r}"
        return f"<Errand {state}>"

    @property
    def done(self) -> bool:
        """True once the coroutine has ended."""
        return self._coroutine is None

    def go_on(self, _settled: object = None) -> None:
        """Run the coroutine up to what it waits for next."""
        coroutine = self._coroutine
        if coroutine is None:
            return
        self._running, self._waits_for = True, None
        try:
            if self._cancelled:
                self._cancelled = False
                waits_for = coroutine.throw(asyncio.CancelledError())
            else:
                waits_for = coroutine.send(None)
        except (StopIteration, asyncio.CancelledError):
            self._coroutine = None
        except Exception as error:  # noqa: BLE001  a task, too, keeps any failure of its coroutine from its waker
            self._coroutine = None
            self._loop.call_exception_handler({"message": "a request's coroutine failed", "exception": error})
        else:
            self._wait(waits_for)
        finally:
            self._running = False

    def cancel(self) -> None:
        """Have the coroutine raise `CancelledError` where it waits: now for a promise, else a turn later."""
        if self._coroutine is None:
            return
        self._cancelled = True
        waits_for = self._waits_for
        if isinstance(waits_for, Promise):
            waits_for.errand = None
            waits_for.cancel()
            self.go_on()
        elif waits_for is not None:
            waits_for.cancel()

    def _wait(self, waits_for: Any) -> None:
        self._waits_for = waits_for
        if waits_for is None:  # a bare `asyncio.sleep(0)`
            self._loop.call_soon(self.go_on)
            return
        # What asyncio's futures and those who drive coroutines have agreed upon (asyncio.futures, `__await__`).
        waits_for._asyncio_future_blocking = False  # noqa: SLF001
        if isinstance(waits_for, Promise):
            waits_for.errand = self
        else:
            waits_for.add_done_callback(self.go_on)
        if self._cancelled:
            self.cancel()
