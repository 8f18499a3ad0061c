"""The ledger in a thread of its own."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpubalancer.bookkeeping import Bookkeeping
from gpubalancer.ledger.ingest import DATABASE, JOURNAL
from gpubalancer.ledger.journal import Journal
from gpubalancer.ledger.records import encode
from gpubalancer.ledger.report import QueryError
from gpubalancer.ledger.store import StoreError
from tests.ledger.conftest import Told
from tests.ledger.entries import entry
from tests.proxy.crew import eventually

DEADLINE_S = 20.0


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A worker's journal, which goes on being written."""
    made = Journal(tmp_path / JOURNAL, "worker0")
    yield made
    made.close()


def run(books: Bookkeeping, scene: Callable[[Bookkeeping], Coroutine[Any, Any, None]]) -> None:
    """Play a scene while the thread runs."""

    async def play() -> None:
        books.start()
        try:
            async with asyncio.timeout(DEADLINE_S):
                await scene(books)
        finally:
            await books.stop()

    asyncio.run(play())


async def has(books: Bookkeeping, requests: int) -> None:
    """Wait until the ledger has so many requests; it is not open at first."""
    found = -1
    while found != requests:
        await asyncio.sleep(0.01)
        with contextlib.suppress(StoreError):
            found = (await books.usage("", None, None))["total"]["requests"]


def test_it_keeps_up_with_the_journal(tmp_path: Path, journal: Journal) -> None:
    """What is written while it runs is there a moment later, and what comes at the end is taken in before it ends."""
    journal.append(encode(entry(0)))

    async def scene(books: Bookkeeping) -> None:
        await has(books, 1)
        assert (await books.usage("model", "team", "2026-01-01"))["rows"][0]["model"] == "llama"
        assert (await books.usage("model", "nobody", None))["rows"] == []
        assert books.lag_s() < DEADLINE_S
        journal.append(encode(entry(1)))

    run(Bookkeeping(tmp_path, None, Told()), scene)

    async def again(books: Bookkeeping) -> None:
        await has(books, 2)

    journal.close()
    (segment,) = (tmp_path / JOURNAL).iterdir()
    segment.unlink()
    run(Bookkeeping(tmp_path, None, Told()), again)


def test_a_question_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    """With what was expected."""

    async def scene(books: Bookkeeping) -> None:
        with pytest.raises(QueryError, match="expected some of day"):
            await books.usage("wine", None, None)

    run(Bookkeeping(tmp_path, None, Told()), scene)


def test_a_database_that_can_not_be_used_is_said_and_counted(tmp_path: Path, journal: Journal) -> None:
    """The journal is not touched, the lag grows, and the end is not held up."""
    (tmp_path / DATABASE).mkdir()
    told = Told()

    async def scene(books: Bookkeeping) -> None:
        await eventually(lambda: books.failures, "a failure")
        with pytest.raises(StoreError):
            await books.usage("", None, None)
        assert books.lag_s() > 0

    journal.append(encode(entry(0)))
    run(Bookkeeping(tmp_path, None, told), scene)
    assert told.names == ["ledger waits"]


def test_lines_that_are_none_are_counted(tmp_path: Path, journal: Journal) -> None:
    """For the metrics; each is said as well."""
    journal.append(b"no line\n")
    journal.append(encode(entry(0))[:50])
    journal.close()
    told = Told()

    async def scene(books: Bookkeeping) -> None:
        await eventually(lambda: sum(books.faults().values()) == 2, "both")
        assert books.faults() == {"torn": 1, "damaged": 1}

    run(Bookkeeping(tmp_path, None, told), scene)
    assert told.names == ["journal damaged", "journal torn"]
