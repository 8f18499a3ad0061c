"""The ledger in PostgreSQL, for several balancers or for those who have one anyway. Needs the extra `postgresql`.

One connection, one call at a time. What goes wrong on it, a server that was restarted included, is a `StoreError`; the
next call connects anew, and what had not been committed is read from the journal again. Entries go in by `COPY`. The
address may hold a password, so no message repeats it.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

from gpubalancer.ledger import schema
from gpubalancer.ledger.schema import numbered
from gpubalancer.ledger.segments import Part
from gpubalancer.ledger.store import NewerStoreError, Query, SegmentState, StoreError, Taken, Totals
from gpubalancer.ledger.sums import Sums

CONNECT_S = 5.0
COMMAND_S = 60.0
MIGRATIONS = schema.migrations("BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "")
MIGRATION_LOCK = 0x67707562
"""Of `pg_advisory_xact_lock`: balancers that start together make the tables one after another."""


class PostgresStore:
    """The store in a server.

    Arguments:
        url: `postgresql://user:password@host:port/database`, with whatever libpq allows behind a question mark.

    Errors:
        StoreError: asyncpg is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            self._driver: Any = importlib.import_module("asyncpg")
        except ImportError:
            raise StoreError("a postgresql:// ledger needs asyncpg: pip install 'gpubalancer[postgresql]'") from None
        self._url = url
        self._connection: Any = None
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Connect and bring the tables up to date. See `Store.open`."""
        async with self._transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
            await connection.execute(schema.CREATE_VERSION)
            version = await connection.fetchval(schema.READ_VERSION)
            if version > schema.VERSION:
                raise NewerStoreError(f"the ledger has version {version}, and this program knows {schema.VERSION}")
            for number, statements in enumerate(MIGRATIONS[version:], version + 1):
                for statement in statements:
                    await connection.execute(statement)
                await connection.execute(numbered(schema.WRITE_VERSION), number)

    async def segments(self, names: Sequence[str]) -> dict[str, SegmentState]:
        """What is known of some segments."""
        async with self._transaction() as connection:
            rows = [await connection.fetchrow(numbered(schema.READ_SEGMENT), name) for name in names]
        return {row[0]: schema.segment_state(tuple(row)) for row in rows if row}

    async def add(self, part: Part) -> bool:
        """Take in a part of a segment. See `Store.add`."""
        async with self._transaction() as connection:
            await connection.execute(numbered(schema.BEGIN_SEGMENT), part.segment)
            segment = await connection.fetchval(numbered(schema.MOVE_SEGMENT), *schema.move_values(part))
            if segment is None:
                return False
            await connection.copy_records_to_table(
                "entries",
                records=schema.entry_values(segment, part),
                columns=["segment", "at_bytes", *schema.ENTRY_COLUMNS],
            )
            await connection.executemany(numbered(schema.ADD_ROLLUP), schema.rollup_values(part))
        return True

    async def usage(self, query: Query) -> list[tuple[tuple[str, ...], Sums]]:
        """The sums by the values of `query.by`."""
        statement, values = schema.usage_statement(query)
        async with self._transaction() as connection:
            rows = await connection.fetch(numbered(statement), *values)
        return [schema.usage_row(query, tuple(row)) for row in rows]

    async def taken(self, since_us: int, until_us: int, spared_millionths: int) -> list[Taken]:
        """What was taken in some time. See `Store.taken`."""
        async with self._transaction() as connection:
            rows = await connection.fetch(numbered(schema.TAKEN), spared_millionths, since_us, until_us)
        return [schema.taken_row(tuple(row)) for row in rows]

    async def totals(self) -> Totals:
        """Everything, as of one moment."""
        async with self._transaction(isolation="repeatable_read") as connection:
            return Totals(*[Sums(*await connection.fetchrow(each)) for each in schema.TOTALS])

    async def forget_segments(self, names: Sequence[str]) -> None:
        """Drop the entries of some segments."""
        for name in names:
            async with self._transaction() as connection:
                await connection.execute(numbered(schema.FORGET_ENTRIES), name)
                await connection.execute(numbered(schema.FORGET_SEGMENT), name)

    async def forget_days(self, before: date) -> None:
        """Drop the roll-ups of old days."""
        async with self._transaction() as connection:
            # Another balancer that adds to such a day meanwhile would not be in the sums.
            await connection.execute("LOCK TABLE rollups IN SHARE ROW EXCLUSIVE MODE")
            sums = await connection.fetchrow(numbered(schema.OLD_ROLLUPS), before.isoformat())
            await connection.execute(numbered(schema.KEEP_FORGOTTEN), *sums)
            await connection.execute(numbered(schema.FORGET_ROLLUPS), before.isoformat())

    def set_aside(self) -> str | None:
        """Nothing: a server looks after its own files."""
        return None

    async def close(self) -> None:
        """Disconnect."""
        async with self._turn:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.terminate()

    @asynccontextmanager
    async def _transaction(self, isolation: str = "read_committed") -> AsyncIterator[Any]:
        """The connection, in a transaction, with errors made ours. On any trouble the connection is given up."""
        driver = self._driver
        async with self._turn:
            try:
                connection = await self._connected()
                async with connection.transaction(isolation=isolation):
                    yield connection
            except (driver.PostgresError, driver.InterfaceError, OSError, TimeoutError) as error:
                self._give_up()
                raise StoreError(f"the ledger's server: {type(error).__name__}") from None
            except (asyncio.CancelledError, NewerStoreError):
                self._give_up()
                raise

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._driver.connect(self._url, timeout=CONNECT_S, command_timeout=COMMAND_S)
        return self._connection

    def _give_up(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
