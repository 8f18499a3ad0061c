"""A supervisor that does nothing but take lines in, in small parts, for tests that kill it: each part is said."""

import asyncio
import os
import sys
from pathlib import Path

from gpubalancer.ledger import segments
from gpubalancer.ledger.ingest import DATABASE, JOURNAL, Ledger, Retention
from gpubalancer.ledger.segments import Part
from gpubalancer.ledger.sqlite import SqliteStore


class Telling(SqliteStore):
    """SQLite that says before and after each part."""

    async def add(self, part: Part) -> bool:
        """Add it."""
        os.write(1, b"before\n")
        added = await super().add(part)
        os.write(1, b"after\n")
        return added


async def main(state: Path) -> None:
    """Take in everything."""
    ledger = Ledger(state / JOURNAL, Telling(state / DATABASE), lambda event, /, **details: None, Retention())
    await ledger.open()
    await ledger.catch_up()


if __name__ == "__main__":
    segments.read_part.__defaults__ = (2000,)
    asyncio.run(main(Path(sys.argv[1])))
