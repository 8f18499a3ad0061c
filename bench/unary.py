"""Open-loop unary load: requests leave at times drawn beforehand, whatever the answers do.

The times are Poisson with the round's seed, so that everybody gets the same ones. A timer (libuv's count
milliseconds) takes what is due; a request's latency counts from then, waiting for a free connection included.
"""

import asyncio
import random
import time
from collections import deque

from bench.client import Connection, UnaryAnswer
from bench.plan import PATIENCE_S, Plan, Result, Run

RECONNECT_AFTER_S = 0.01  # a contestant that closes every connection at once must not be met with a storm


def arrival_times_s(rate_per_s: float, seconds: float, seed: int) -> list[float]:
    """Poisson arrivals in 0..seconds; at least one."""
    rng = random.Random(seed)
    times = [0.0]
    while (after_s := times[-1] + rng.expovariate(rate_per_s)) < seconds:
        times.append(after_s)
    return times


class UnaryRun(Run):
    """Requests at their times over a fixed number of connections."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._requests = self.requests()
        self._due_s = arrival_times_s(plan.rate_per_s, plan.seconds, plan.seed)
        self._taken = 0  # of the due times, those that a tick has taken
        self._waiting: deque[tuple[int, float]] = deque()  # number and time taken, no connection yet
        self._idle: deque[Connection] = deque()
        self._port_index: dict[Connection, int] = {}
        self._taken_s: dict[Connection, float] = {}
        self._reconnects: set[asyncio.Task[None]] = set()

    async def play(self) -> Result:
        """Send everything, wait for the answers, and count."""
        self._loop = asyncio.get_running_loop()
        self._all_ended = asyncio.Event()
        ports = len(self.plan.ports)
        await asyncio.gather(*(self._connect(number % ports) for number in range(self.plan.connections)))
        self.open_window()
        self._start_s = time.perf_counter()
        self._tick()
        try:
            await asyncio.wait_for(self._all_ended.wait(), self.plan.seconds + PATIENCE_S)
        except TimeoutError:
            self.faults["no answer"] += len(self._due_s) - self.ended
        self.close_window()
        self.result.units = self.result.done
        for connection in self._port_index:
            connection.close()
        return self.finish()

    async def _connect(self, port_index: int, after_s: float = 0.0) -> None:
        await asyncio.sleep(after_s)
        port = self.plan.ports[port_index]
        try:
            _, connection = await self._loop.create_connection(lambda: Connection(self._answered), "127.0.0.1", port)
        except OSError:
            return  # requests that find no connection end as "no answer"
        self._port_index[connection] = port_index
        self._idle.append(connection)
        self._send_waiting()

    def _tick(self) -> None:
        now_s = time.perf_counter()
        elapsed_s = now_s - self._start_s
        while self._taken < len(self._due_s) and self._due_s[self._taken] <= elapsed_s:
            self.late_s.append(elapsed_s - self._due_s[self._taken])
            self._waiting.append((self._taken, now_s))
            self._taken += 1
        self._send_waiting()
        if self._taken < len(self._due_s):
            self._loop.call_later(max(self._due_s[self._taken] - elapsed_s, 0.001), self._tick)

    def _send_waiting(self) -> None:
        while self._waiting and self._idle:
            connection = self._idle.popleft()
            port_index = self._port_index[connection]
            if not connection.open:
                del self._port_index[connection]
                task = self._loop.create_task(self._connect(port_index, RECONNECT_AFTER_S))
                self._reconnects.add(task)
                task.add_done_callback(self._reconnects.discard)
                continue
            number, self._taken_s[connection] = self._waiting.popleft()
            choices = self._requests[port_index]
            connection.send(choices[number % len(choices)], UnaryAnswer())

    def _answered(self, connection: Connection, fault: str) -> None:
        self.tally(fault)
        if not fault:
            self.latencies_s.append(connection.done_s - self._taken_s[connection])
        self._idle.append(connection)
        self._send_waiting()
        if self.ended >= len(self._due_s):
            self._all_ended.set()
