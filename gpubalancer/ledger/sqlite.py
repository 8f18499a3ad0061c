"""The ledger in one SQLite file beside the board: nothing to install and nothing to run.

All calls go to one thread, whose connection it is, so nothing here holds up the event loop. The file is in WAL mode
with `synchronous=NORMAL`: the death of a process loses nothing, and that of the machine may lose the last transactions
as a whole, which are then read from the journal again.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import TypeVar

from gpubalancer.ledger import schema
from gpubalancer.ledger.segments import Part
from gpubalancer.ledger.store import DamagedStoreError, NewerStoreError, Query, SegmentState, StoreError, Taken, Totals
from gpubalancer.ledger.sums import Sums

BUSY_S = 10.0
"""How long to wait for another process that writes; one transaction takes some tens of milliseconds."""
MIGRATIONS = schema.migrations("INTEGER PRIMARY KEY", " WITHOUT ROWID")
_DAMAGE = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))

T = TypeVar("T")


class SqliteStore:
    """The store in a file.

    Arguments:
        path: the file; its directory must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Connect and bring the tables up to date. See `Store.open`."""
        await self._run(self._open)

    async def segments(self, names: Sequence[str]) -> dict[str, SegmentState]:
        """What is known of some segments."""
        return await self._run(self._segments, names)

    async def add(self, part: Part) -> bool:
        """Take in a part of a segment. See `Store.add`."""
        return await self._run(self._add, part)

    async def usage(self, query: Query) -> list[tuple[tuple[str, ...], Sums]]:
        """The sums by the values of `query.by`."""
        return await self._run(self._usage, query)

    async def taken(self, since_us: int, until_us: int, spared_millionths: int) -> list[Taken]:
        """What was taken in some time. See `Store.taken`."""
        return await self._run(self._taken, since_us, until_us, spared_millionths)

    async def totals(self) -> Totals:
        """Everything, after a check of the file itself."""
        return await self._run(self._totals)

    async def forget_segments(self, names: Sequence[str]) -> None:
        """Drop the entries of some segments."""
        await self._run(self._forget_segments, names)

    async def forget_days(self, before: date) -> None:
        """Drop the roll-ups of old days."""
        await self._run(self._forget_days, before.isoformat())

    def set_aside(self) -> str | None:
        """Give the file another name, and those that belong to it. Only after `close`, or an `open` that failed."""
        number = 1
        while (aside := self._path.with_name(f"{self._path.name}.aside-{number}")).exists():
            number += 1
        for end in ("-wal", "-shm", ""):
            path = self._path.with_name(self._path.name + end)
            if path.exists():
                path.rename(aside.with_name(aside.name + end))
        return aside.name

    async def close(self) -> None:
        """Disconnect; `open` may follow."""
        await self._run(self._close)

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, _translated, function, *arguments)

    # In the thread.

    def _open(self) -> None:
        self._close()
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None)
        with ExitStack() as failed:
            failed.callback(connection.close)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            # A month by five keys is sorted in pieces; a greater cache makes one large sort of it, which is slower.
            connection.execute("PRAGMA temp_store = MEMORY")
            self._migrate(connection)
            failed.pop_all()
        self._connection = connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        with _transaction(connection):
            connection.execute(schema.CREATE_VERSION)
            (version,) = connection.execute(schema.READ_VERSION).fetchone()
            if version > schema.VERSION:
                raise NewerStoreError(f"the ledger has version {version}, and this program knows {schema.VERSION}")
            for number, statements in enumerate(MIGRATIONS[version:], version + 1):
                for statement in statements:
                    connection.execute(statement)
                connection.execute(schema.WRITE_VERSION, (number,))

    def _segments(self, names: Sequence[str]) -> dict[str, SegmentState]:
        rows = (self._connected.execute(schema.READ_SEGMENT, (name,)).fetchone() for name in names)
        return {row[0]: schema.segment_state(row) for row in rows if row}

    def _add(self, part: Part) -> bool:
        with _transaction(self._connected) as connection:
            connection.execute(schema.BEGIN_SEGMENT, (part.segment,))
            row = connection.execute(schema.MOVE_SEGMENT, schema.move_values(part)).fetchone()
            if row is None:
                return False
            connection.executemany(schema.ADD_ENTRY, schema.entry_values(row[0], part))
            connection.executemany(schema.ADD_ROLLUP, schema.rollup_values(part))
        return True

    def _usage(self, query: Query) -> list[tuple[tuple[str, ...], Sums]]:
        return [schema.usage_row(query, row) for row in self._connected.execute(*schema.usage_statement(query))]

    def _taken(self, since_us: int, until_us: int, spared_millionths: int) -> list[Taken]:
        rows = self._connected.execute(schema.TAKEN, (spared_millionths, since_us, until_us))
        return [schema.taken_row(row) for row in rows]

    def _totals(self) -> Totals:
        with _transaction(self._connected) as connection:
            (word,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if word != "ok":
                raise DamagedStoreError(f"the ledger is damaged: {word}")
            return Totals(*(Sums(*connection.execute(each).fetchone()) for each in schema.TOTALS))

    def _forget_segments(self, names: Sequence[str]) -> None:
        for name in names:
            with _transaction(self._connected) as connection:
                connection.execute(schema.FORGET_ENTRIES, (name,))
                connection.execute(schema.FORGET_SEGMENT, (name,))

    def _forget_days(self, before: str) -> None:
        with _transaction(self._connected) as connection:
            sums = connection.execute(schema.OLD_ROLLUPS, (before,)).fetchone()
            connection.execute(schema.KEEP_FORGOTTEN, sums)
            connection.execute(schema.FORGET_ROLLUPS, (before,))

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError("the ledger is not open")
        return self._connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _translated(function: Callable[..., T], *arguments: object) -> T:
    """Call a function of the store, its errors made ours."""
    try:
        return function(*arguments)
    except sqlite3.Error as error:
        # The low byte is the primary code: https://www.sqlite.org/rescode.html
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
            raise DamagedStoreError(f"the ledger is damaged: {error}") from None
        raise StoreError(f"the ledger can't be used: {error}") from None
