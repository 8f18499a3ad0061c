"""Lets the engine's time pass: one asyncio task takes step after step and hands the tokens to who waits for them.

Engine seconds run `speedup` times faster than the event loop's clock. While the engine is busy each step starts where
the one before ended, not when the loop woke up, so that late timers do not add up. A loop that is late catches up at
most `STEPS_PER_TURN` steps before everything else gets its turn; with an infinite speedup it is always late, and only
the processor limits it.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpubalancer.sim.engine import Engine, Reason, Request, Step
from gpubalancer.sim.metrics import EngineMetrics

STEPS_PER_TURN = 8
"""Late steps taken in a row before other tasks run."""

LEAST_SLEEP_S = 0.001
"""Shorter sleeps are not worth a timer: epoll counts milliseconds."""


@dataclass(frozen=True, slots=True)
class Output:
    """One token of a request, or its end without one (`token` is None)."""

    request: Request
    index: int
    token: int | None
    reason: Reason | None


class Inbox:
    """Where the requests of one call get their tokens.

    Arguments:
        interval_tokens: the reader is woken for a request's first token, for every so many further ones, and for its
            end, as with vLLM's `--stream-interval`.
    """

    def __init__(self, interval_tokens: int = 1) -> None:
        self.interval_tokens = interval_tokens
        self._outputs: list[Output] = []
        self._waiter: asyncio.Future[None] | None = None
        self._due = False

    def put(self, output: Output) -> None:
        """Deliver, and wake the reader if it is time."""
        self._outputs.append(output)
        if output.index % self.interval_tokens and output.reason is None:
            return
        self._due = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> list[Output]:
        """All that has come since the last call; waits until something is due."""
        if not self._due:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._due = False
        outputs, self._outputs = self._outputs, []
        return outputs


class Pace:
    """Engine seconds on the loop's clock.

    Arguments:
        speedup: engine seconds per second; infinite means that no step waits.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, speedup: float) -> None:
        self._loop = loop
        self._speedup = speedup
        self._zero_s = loop.time()
        self._reached_s = 0.0
        self._late_steps = 0

    @property
    def now_s(self) -> float:
        """Engine seconds since the start; with an infinite speedup, the end of the last step."""
        if self._speedup == float("inf"):
            return self._reached_s
        return (self._loop.time() - self._zero_s) * self._speedup

    async def until(self, at_s: float) -> None:
        """Wait for an engine time; where it has passed already, only let others run now and then."""
        delay_s = (at_s - self.now_s) / self._speedup
        self._reached_s = at_s
        if delay_s > 0:
            self._late_steps = 0
            await asyncio.sleep(max(delay_s, LEAST_SLEEP_S))
            return
        self._late_steps += 1
        if self._late_steps >= STEPS_PER_TURN:
            self._late_steps = 0
            await asyncio.sleep(0)


class Driver:
    """Runs one engine in one event loop."""

    def __init__(self, engine: Engine, metrics: EngineMetrics, pace: Pace) -> None:
        self.engine = engine
        self._metrics = metrics
        self._pace = pace
        self._work = asyncio.Event()
        self._inboxes: dict[Request, Inbox] = {}
        self._busy_until_s: float | None = None

    def submit(self, requests: Sequence[Request], inbox: Inbox) -> None:
        """Queue the requests of one call; their tokens arrive in `inbox`."""
        now_s = self._now_s()
        for request in requests:
            self.engine.submit(request, now_s)
            self._inboxes[request] = inbox
        self._work.set()

    def cancel(self, requests: Iterable[Request]) -> None:
        """Drop what has not ended yet, at once."""
        for request in requests:
            self._inboxes.pop(request, None)
            if self.engine.cancel(request):
                self._metrics.aborted(request, self._now_s())

    def abort_all(self) -> None:
        """End every request with the reason `abort`, as vLLM does when it is stopped."""
        for request, inbox in list(self._inboxes.items()):
            self.cancel([request])
            inbox.put(Output(request, request.produced, None, Reason.ABORT))

    def _now_s(self) -> float:
        """Now in engine seconds, never after the end of a step that is late."""
        now_s = self._pace.now_s
        return now_s if self._busy_until_s is None else min(now_s, self._busy_until_s)

    async def run(self) -> None:
        """Take steps for ever. Cancel the task to stop."""
        while True:
            step = self.engine.begin_step(self._pace.now_s if self._busy_until_s is None else self._busy_until_s)
            if step is None:
                self._busy_until_s = None
                self._work.clear()
                await self._work.wait()
                continue
            self._busy_until_s = step.ends_s
            await self._pace.until(step.ends_s)
            self._deliver(self.engine.end_step())

    def _deliver(self, step: Step) -> None:
        self._metrics.stepped(step)
        ends = dict(step.finished)
        for request, token in step.tokens:
            self._inboxes[request].put(Output(request, request.produced - 1, token, ends.get(request)))
        for request, reason in step.finished:
            inbox = self._inboxes.pop(request)
            if not request.produced:
                inbox.put(Output(request, 0, None, reason))
