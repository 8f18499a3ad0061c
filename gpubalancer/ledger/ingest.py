"""The ledger as its owner sees it: a folder of segments, and a database that is kept up with them.

`catch_up` takes in the whole lines of all segments, part by part, each when it is safe on the disk: even if the machine
dies, the database has nothing that the journal lacks. What is damaged goes into a file beside its segment
(`SEGMENT.damaged-OFFSET`), is said once and counted; a line that was cut off is counted. A database that is damaged is
renamed and built again from the segments that are there. One that can't be reached is asked again, and the lines wait
in the journal.

Segments go when the youngest of their requests is older than `Retention.segment_days`, and their entries with them; the
roll-ups stay for `rollup_days`.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from gpubalancer.ledger.postgres import PostgresStore
from gpubalancer.ledger.report import usage
from gpubalancer.ledger.segments import Part, created_ns, list_segments, read_part
from gpubalancer.ledger.sqlite import SqliteStore
from gpubalancer.ledger.store import DamagedStoreError, Query, Store, StoreError
from gpubalancer.ledger.sums import day_of

DATABASE = "ledger.sqlite"
JOURNAL = "journal"
INTERVAL_S = 1.0


class Say(Protocol):
    """Tells the operator of an event."""

    def __call__(self, event: str, /, **details: object) -> None:
        """Tell it."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept, in days."""

    segment_days: int = 35
    """Of the journal, and of the entries in the database."""
    rollup_days: int = 400


def ledger_of(
    directory: Path,
    url: str | None,
    say: Say,
    keep: Retention | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> "Ledger":
    """The ledger of a state directory.

    Arguments:
        directory: its `journal` folder holds the segments, and beside it lies the SQLite file.
        url: of a PostgreSQL server, or None for SQLite.
        say: gets each event.
        keep: how long.
        clock: monotonic seconds.

    Errors:
        StoreError: the driver for PostgreSQL is missing.
    """
    store: Store = SqliteStore(directory / DATABASE) if url is None else PostgresStore(url)
    return Ledger(directory / JOURNAL, store, say, keep or Retention(), clock)


class Ledger:
    """A journal's folder and the database that it is taken into. All in one event loop.

    Attributes:
        lines: how many were taken in by this object.
        torn: how many of them were cut off.
        damaged: how many of them said nothing.
        failures: rounds of `run` in which the database or the journal could not be used.
        even_s: when `run` had last taken in all that there was, by the clock; its making, before that.
    """

    def __init__(
        self, journal: Path, store: Store, say: Say, keep: Retention, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.store = store
        self.failures = 0
        self.even_s = clock()
        self._clock = clock
        self.lines = self.torn = self.damaged = 0
        self._journal, self._say, self._keep = journal, say, keep
        self._at: dict[str, int] = {}
        self._finished: set[str] = set()
        self._unreadable: set[str] = set()
        self._turn = asyncio.Lock()
        self._healing = asyncio.Lock()
        self._openings = 0
        self._trouble = ""
        self._tidied = date.min

    async def open(self) -> None:
        """Connect; a damaged database is set aside and a new one made.

        Errors:
            StoreError: the database can't be used now, or is a newer version's.
        """
        try:
            await self.store.open()
            self._openings += 1
        except DamagedStoreError as error:
            await self._set_aside(error, self._openings)

    async def run(self) -> None:
        """Keep up with the journal until cancelled; trouble is said once, and tried again."""
        while True:
            try:
                began_s = self._clock()
                await self.step(datetime.now(UTC).date())
                self._trouble, self.even_s = "", began_s
            except (StoreError, OSError) as error:
                self.failures += 1
                if str(error) != self._trouble:
                    self._say("ledger waits", why=str(error))
                self._trouble = str(error)
            await asyncio.sleep(INTERVAL_S)

    async def step(self, today: date) -> None:
        """What `run` does each time: catch up, and tidy on the first time of a day.

        Errors:
            StoreError: the database can't be used now.
        """
        await self.catch_up()
        if today > self._tidied:
            await self.tidy(today)
            self._tidied = today

    async def close(self) -> None:
        """Disconnect."""
        await self.store.close()

    async def catch_up(self) -> int:
        """Take in whatever whole lines there are, after connecting if need be; returns how many those were.

        Errors:
            StoreError: the database can't be used now; what is in is in.
        """
        async with self._turn:
            if not self._openings:
                await self.open()
            before, openings = self.lines, self._openings
            try:
                await self._catch_up()
            except DamagedStoreError as error:
                await self._set_aside(error, openings)
                await self._catch_up()
            return self.lines - before

    async def usage(self, query: Query) -> dict[str, Any]:
        """What was spent, as `report.usage` has it.

        Errors:
            StoreError: the database can't be used now. If it is damaged it has been set aside, and is filled again by
                the next `catch_up`.
        """
        openings = self._openings
        try:
            return await usage(self.store, query)
        except DamagedStoreError as error:
            await self._set_aside(error, openings)
            raise

    async def tidy(self, today: date) -> None:
        """Drop what is older than it is to be kept. Only segments that are in to their end go."""
        oldest = (today - timedelta(days=self._keep.segment_days)).isoformat()
        for path in await asyncio.to_thread(list_segments, self._journal):
            # An empty one may be its writer's that just began it, or was killed then; its age tells.
            if path.name not in self._finished and not await asyncio.to_thread(_is_empty, path):
                continue
            state = (await self.store.segments([path.name])).get(path.name)
            last_us = state.last_us if state and state.last_us else created_ns(path) // 1000
            if day_of(last_us) < oldest:
                await self.store.forget_segments([path.name])
                await asyncio.to_thread(_remove, path)
        await self.store.forget_days(today - timedelta(days=self._keep.rollup_days))

    async def _catch_up(self) -> None:
        paths = await asyncio.to_thread(list_segments, self._journal)
        names = {path.name for path in paths}
        self._finished &= names
        new = [name for name in names if name not in self._at]
        if new:
            known = await self.store.segments(new)
            self._at |= {name: known[name].at_bytes if name in known else 0 for name in new}
        self._at = {name: at for name, at in self._at.items() if name in names}
        for path in paths:
            if path.name not in self._finished:
                await self._follow(path)

    async def _follow(self, path: Path) -> None:
        """Take in what is new in one segment."""
        while True:
            try:
                part = await asyncio.to_thread(read_part, path, self._at[path.name])
                if part.to_bytes > part.from_bytes:
                    await asyncio.to_thread(_make_safe, path, part)
            except OSError as error:
                self._cannot_read(path.name, error)
                return
            if part.to_bytes > part.from_bytes:
                await self._add(part)
                if self._at[path.name] != part.to_bytes:
                    continue
            if part.is_last:
                self._finished.add(path.name)
            if part.is_last or part.to_bytes == part.from_bytes:
                return

    async def _add(self, part: Part) -> None:
        if not await self.store.add(part):
            # Another process takes in the same segments.
            self._at[part.segment] = (await self.store.segments([part.segment]))[part.segment].at_bytes
            return
        self._at[part.segment] = part.to_bytes
        self.lines += len(part.entries)
        self.torn += int(part.torn is not None)
        self.damaged += len(part.damaged)
        for each in part.damaged:
            self._say("journal damaged", segment=each.segment, at_bytes=each.at_bytes, why=each.why)
        if part.torn:
            self._say("journal torn", segment=part.segment, at_bytes=part.torn.at_bytes, bytes=len(part.torn.data))

    def _cannot_read(self, name: str, error: OSError) -> None:
        if name not in self._unreadable and not isinstance(error, FileNotFoundError):
            self._unreadable.add(name)
            self._say("journal unreadable", segment=name, why=error.strerror or str(error))

    async def _set_aside(self, error: DamagedStoreError, openings: int) -> None:
        """Begin a new database, unless that was done since `openings` was read."""
        async with self._healing:
            if self._openings != openings:
                return
            await self.store.close()
            name = self.store.set_aside()
            if name is None:
                raise error
            await self.store.open()
            self._openings += 1
            self._at, self._finished = {}, set()
            self._say("ledger set aside", why=str(error), kept_as=name)


def _make_safe(path: Path, part: Part) -> None:
    """Have the disk take the lines, and put what is damaged into files named by where it stood: twice is like once."""
    with path.open("rb") as segment:
        os.fdatasync(segment.fileno())
    for each in part.damaged:
        with path.with_name(f"{path.name}.damaged-{each.at_bytes}").open("wb") as file:
            file.write(each.data)


def _is_empty(path: Path) -> bool:
    return path.stat().st_size == 0


def _remove(path: Path) -> None:
    for damaged in path.parent.glob(f"{path.name}.damaged-*"):
        damaged.unlink()
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
