"""The ledger in the supervisor: a thread of its own that keeps it up with the journal and answers questions.

The thread has an event loop of its own, so neither a slow database nor a long report holds up telemetry, reloads or the
admin port. Requests don't know of it: workers write the journal, and what is not taken in now is taken in later.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from gpubalancer.ledger.ingest import Ledger, Say, ledger_of
from gpubalancer.ledger.report import query_of
from gpubalancer.ledger.store import StoreError

LAST_S = 5.0
"""How long the last lines may take at the end; what is not in by then is taken in at the next start."""

T = TypeVar("T")


class Bookkeeping:
    """The ledger of one balancer.

    Arguments:
        directory: the state directory.
        url: of a PostgreSQL server, or None for SQLite.
        say: is told each event, from the thread.
        clock: monotonic seconds.

    Errors:
        StoreError: the driver for PostgreSQL is missing.
    """

    def __init__(self, directory: Path, url: str | None, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger: Ledger = ledger_of(directory, url, say, clock=clock)
        self._clock = clock
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bookkeeping", daemon=True)

    def start(self) -> None:
        """Begin to take in what the journal has."""
        self._thread.start()
        self._running = asyncio.run_coroutine_threadsafe(self._ledger.run(), self._loop)

    async def usage(self, by: str, tenant: str | None, since: str | None) -> dict[str, Any]:
        """What was spent, as `ledger.report` shows it; at most about a second old while the database answers.

        Arguments:
            by: names with commas between.
            tenant: this one only.
            since: a day, as `query_of` reads it.

        Raises:
            QueryError: a name or a day that is none.
            StoreError: the database can't be used now.
        """
        query = query_of(by, tenant, since)
        return await self.ask(lambda ledger: ledger.usage(query))

    async def ask(self, question: Callable[[Ledger], Coroutine[Any, Any, T]]) -> T:
        """What the ledger says to a question, asked in its thread."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(question(self._ledger), self._loop))

    async def stop(self) -> None:
        """Take in the last lines, and disconnect."""
        self._running.cancel()
        with contextlib.suppress(StoreError, OSError, TimeoutError):
            await self.ask(lambda ledger: asyncio.wait_for(ledger.catch_up(), LAST_S))
        with contextlib.suppress(StoreError, OSError):
            await self.ask(lambda ledger: ledger.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    # For the metrics.

    def lag_s(self) -> float:
        """How long ago the ledger had last taken in all of the journal."""
        return self._clock() - self._ledger.even_s

    @property
    def failures(self) -> int:
        """Rounds in which the database or the journal could not be used."""
        return self._ledger.failures

    def faults(self) -> dict[str, int]:
        """Lines that were cut off and lines that said nothing, since the start."""
        return {"torn": self._ledger.torn, "damaged": self._ledger.damaged}
