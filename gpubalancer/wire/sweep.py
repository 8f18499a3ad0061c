"""Timeouts without timers.

A timer for each request costs more than the rest of its bookkeeping. So every connection states in `deadline_s` when it
will have waited too long, changes that as often as it likes for the price of an attribute, and one sweep looks at all
of them a few times a second. A timeout is therefore late by up to `SWEEP_INTERVAL_S`, never early.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

SWEEP_INTERVAL_S = 0.1
NEVER = float("inf")


class Swept(Protocol):
    """Something that can wait too long."""

    deadline_s: float

    def on_deadline(self, now_s: float) -> None:
        """`deadline_s` has passed."""


class Sweeper:
    """All that can wait too long in one worker."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._swept: set[Swept] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._swept)

    def add(self, swept: Swept) -> None:
        """Look after this one until it is discarded."""
        self._swept.add(swept)

    def discard(self, swept: Swept) -> None:
        """Look after this one no more."""
        self._swept.discard(swept)

    def sweep(self) -> None:
        """Tell everyone whose deadline has passed."""
        now_s = self._clock()
        for swept in [swept for swept in self._swept if swept.deadline_s <= now_s]:
            swept.on_deadline(now_s)

    def run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sweep now and, until `stop`, every `SWEEP_INTERVAL_S`."""
        self.sweep()
        self._timer = loop.call_later(SWEEP_INTERVAL_S, self.run, loop)

    def stop(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()
