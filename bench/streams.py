"""Streamed load: many streams opened evenly over a ramp, all open for the whole window.

What is divided is the CPU and the events of the window alone, when nothing is opened or closed: CPU per event. Memory
is read at the window's end, with every stream still open. The first events, during the ramp, give the TTFT. Then all
streams run to their ends, and each must have every event and `[DONE]`.
"""

import asyncio
import contextlib
import math
import time

from bench import accounting
from bench.client import Connection, StreamAnswer, StreamTally
from bench.plan import PATIENCE_S, Plan, Result, Run

SETTLE_S = 0.5  # between the last stream's opening and the window
SPARE_S = 2.0  # how much longer than the plan a stream lasts, for a contestant that is slow to open them


def ramp_s(streams: int) -> float:
    """How long the opening of all streams takes: 500 a second, at least half a second."""
    return max(0.5, streams / 500)


class StreamRun(Run):
    """`connections` streams, each over a connection of its own."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._ramp_s = ramp_s(plan.connections)
        lasting_s = self._ramp_s + SETTLE_S + plan.seconds + SPARE_S
        self._events_each = math.ceil(lasting_s / plan.interval_s)
        self._requests = self.requests(self._events_each)
        self._tally = StreamTally(on_open=self._check)
        self._all_open = asyncio.Event()  # or ended without a first event
        self._all_ended = asyncio.Event()
        self._streams: dict[Connection, StreamAnswer] = {}

    async def play(self) -> Result:
        """Open, watch the window, let the streams end, and count."""
        plan = self.plan
        start_s = time.perf_counter()
        await asyncio.gather(*(self._open(number, start_s) for number in range(plan.connections)))
        await self._wait(self._all_open, SPARE_S / 2)
        await asyncio.sleep(SETTLE_S)
        self.open_window()
        events_before = self._tally.events
        await asyncio.sleep(plan.seconds)
        self.result.units = self._tally.events - events_before
        self.close_window()
        self.result.open_streams = sum(
            connection.busy and answer.first_s is not None for connection, answer in self._streams.items()
        )
        if plan.watch_pid:
            self.result.memory_bytes = accounting.memory_bytes(plan.watch_pid)
        await self._wait(self._all_ended, self._ramp_s + 2 * SPARE_S + PATIENCE_S)
        if unanswered := plan.connections - self.ended:
            self.faults["no answer"] += unanswered
        for connection, answer in self._streams.items():
            connection.close()
            if answer.first_s is not None:
                self.latencies_s.append(answer.first_s - connection.sent_s)
        return self.finish()

    async def _open(self, number: int, start_s: float) -> None:
        """Open one stream at its place in the ramp."""
        due_s = start_s + self._ramp_s * number / self.plan.connections
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        self.late_s.append(time.perf_counter() - due_s)
        port_index = number % len(self.plan.ports)
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(lambda _, fault: self._count(fault)), "127.0.0.1", self.plan.ports[port_index]
            )
        except OSError:
            self._count("cannot connect")
            return
        self._streams[connection] = StreamAnswer(self._events_each, self._tally)
        choices = self._requests[port_index]
        connection.send(choices[number % len(choices)], self._streams[connection])

    def _count(self, fault: str) -> None:
        self.tally(fault)
        self._check()

    def _check(self) -> None:
        if self._tally.opened + self.faults.total() >= self.plan.connections:
            self._all_open.set()
        if self.ended >= self.plan.connections:
            self._all_ended.set()

    async def _wait(self, event: asyncio.Event, within_s: float) -> None:
        """Wait for the event, and go on without it when the time is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), within_s)
