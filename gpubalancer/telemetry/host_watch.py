"""Watches the GPUs of this host: two threads that may wait for the driver, and an event loop that never does.

One thread samples, every `interval_s`, and glances every `GLANCE_S` in between. The other waits for XIDs. Both hand
what they got to the loop and know nothing else; alarms, XIDs and listeners live in the loop alone, so there are no
locks. A driver that hangs stops the threads only: the snapshot then says how old it is and why, and the loop goes on.
The threads are daemons, so a driver that never answers again can't keep the process alive either.

    async with HostWatch() as watch:
        watch.listen(callback)         # callback(alarms, snapshot), in the loop, at once
        watch.snapshot()               # at any time
"""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from gpubalancer.telemetry.alarms import AlarmWatch
from gpubalancer.telemetry.gpus import Alarm, Snapshot
from gpubalancer.telemetry.nvml.driver import Nvml
from gpubalancer.telemetry.sampler import Cost, Sampler

GLANCE_S = 0.05
"""Between two glances: an alarm is out within twice that where the driver answers at once."""
BUSY_FRACTION = 0.1
"""Most of the sampling thread's time that glances may take; slower drivers are glanced at less often."""
DEADLINE_S = 0.5
"""A driver that takes longer for one round is said to be stalled."""
EVENT_WAIT_S = 0.2
"""Longest wait in the driver for an XID. It returns at once when one comes; this is how long stopping takes."""
EVENT_PAUSE_S = 0.5
"""Pause while there is nothing that could tell XIDs."""
STOP_S = 1.0
"""How long the end waits for the threads."""

Listener = Callable[[Sequence[Alarm], Snapshot], None]


class HostWatch:
    """The GPUs of this host, from `async with` on.

    Arguments:
        interval_s: between two whole samples.
        nvml: the door to the driver.
        host: its name; the system's if not given.
    """

    def __init__(self, interval_s: float = 1.0, nvml: Nvml | None = None, host: str | None = None) -> None:
        self._interval_s = interval_s
        self._nvml = nvml or Nvml()
        self._sampler = Sampler(self._nvml, host or socket.gethostname())
        empty = Snapshot(time.time(), host or socket.gethostname(), problem="the driver has not answered yet")
        self._alarms = AlarmWatch(empty)
        self._listeners: list[Listener] = []
        self._stop = threading.Event()
        self._sampled_s = time.monotonic()
        self._asking_since_s: float | None = None
        self._first = asyncio.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._sampling, self._listening)]

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        until_s = time.monotonic() + STOP_S
        for thread in self._threads:
            await asyncio.to_thread(thread.join, max(0.0, until_s - time.monotonic()))

    @property
    def cost(self) -> Cost:
        """What sampling has cost so far."""
        return self._sampler.cost

    def listen(self, listener: Listener) -> None:
        """Have this called with every alarm, and the snapshot as it is then."""
        self._listeners.append(listener)

    def snapshot(self) -> Snapshot:
        """What is known now, and how old it is."""
        now_s = time.monotonic()
        snapshot = replace(self._alarms.snapshot, age_s=max(0.0, now_s - self._sampled_s))
        since_s = self._asking_since_s
        if since_s is not None and now_s - since_s > DEADLINE_S:
            return replace(snapshot, problem=f"the driver has not answered for {now_s - since_s:.1f} s")
        if self._first.is_set() and not self._threads[0].is_alive():
            return replace(snapshot, problem="sampling has stopped")
        return snapshot

    async def first(self, deadline_s: float = DEADLINE_S) -> Snapshot:
        """The first sample, or what is known when the deadline is over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._first.wait(), deadline_s)
        return self.snapshot()

    def _sampling(self) -> None:
        """The first thread."""
        next_s = time.monotonic()
        while not self._stop.is_set():
            self._asking_since_s = began_s = time.monotonic()
            glancing = began_s < next_s
            if not glancing:
                self._hand_over(self._sampled, self._sampler.sample(began_s, time.time()), began_s)
                next_s = began_s + self._interval_s
            elif (seen := self._sampler.glance(began_s, time.time())) is not None:
                self._hand_over(self._sampled, seen, began_s)
            self._asking_since_s = None
            self._stop.wait(self._pause_s(time.monotonic() - began_s, glancing))
        self._sampler.close()

    def _pause_s(self, took_s: float, glancing: bool) -> float:
        """Until the next round; after slow glances longer, but not beyond a sample's turn."""
        least_s = took_s / BUSY_FRACTION - took_s if glancing else 0.0
        return min(self._interval_s, max(GLANCE_S - took_s, least_s))

    def _listening(self) -> None:
        """The second thread."""
        while not self._stop.is_set():
            told = self._nvml.wait_events(EVENT_WAIT_S)
            for each in told or ():
                self._hand_over(self._told, each.uuid, each.xid, time.time())
            if told is None:
                self._stop.wait(EVENT_PAUSE_S)

    def _hand_over(self, call: Callable[..., None], *arguments: object) -> None:
        """Have it called in the loop, unless that has ended meanwhile."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)

    def _sampled(self, snapshot: Snapshot, began_s: float) -> None:
        self._sampled_s = began_s
        self._tell(self._alarms.sampled(snapshot))
        self._first.set()

    def _told(self, uuid: str, xid: int, at_s: float) -> None:
        self._tell(self._alarms.told(uuid, xid, at_s))

    def _tell(self, alarms: Sequence[Alarm]) -> None:
        if alarms:
            snapshot = self.snapshot()
            for listener in self._listeners:
                listener(alarms, snapshot)
