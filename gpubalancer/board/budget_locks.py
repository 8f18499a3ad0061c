"""Waiting for a lock of the budgets' file, for a bounded time."""

import os
import time
from collections.abc import Callable

from gpubalancer.board import locks

PATIENCE_S = 0.05
"""How long a lock is waited for: a holder that was stopped (not killed) costs a request no more."""
YIELDS, PAUSE_S = 8, 20e-6
"""A change takes about 10 us: a few yields wait for a holder that runs, pauses for one that does not."""


class BusyError(Exception):
    """A budget's lock was not to be had in time; nothing has changed."""


def seize(fd: int, byte: int, ask: Callable[[], None]) -> None:
    """Take the lock on a byte, waiting for `PATIENCE_S` at most; `ask` is called before each wait.

    Errors:
        BusyError: it was not to be had.
    """
    deadline_s = time.monotonic() + PATIENCE_S
    turns = 0
    while not locks.try_lock(fd, byte):
        ask()
        turns += 1
        if turns < YIELDS:
            os.sched_yield()
        elif time.monotonic() < deadline_s:
            # Its holder may have lost its turn on this very core.
            time.sleep(PAUSE_S)
        else:
            raise BusyError(f"a budget's lock was not to be had within {PATIENCE_S * 1000:.0f} ms")
