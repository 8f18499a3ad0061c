"""The ledger: it keeps up with the journal whatever happens to either."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from gpubalancer.ledger import ingest, segments
from gpubalancer.ledger.ingest import DATABASE, JOURNAL, Ledger, Retention, ledger_of
from gpubalancer.ledger.journal import Journal, JournalFullError
from gpubalancer.ledger.records import encode
from gpubalancer.ledger.segments import list_segments, name_of
from gpubalancer.ledger.sqlite import SqliteStore
from gpubalancer.ledger.store import DamagedStoreError, NewerStoreError, Query, StoreError
from gpubalancer.ledger.sums import Sums
from tests.ledger.conftest import NewStore, Told
from tests.ledger.entries import NOON_NS, entry, room_for

TODAY = date(2026, 11, 23)


def write(state: Path, numbers: Sequence[int], worker: str = "1") -> Path:
    """A segment with the entries of these numbers, whose writer has gone; returns its path."""
    before = set(list_segments(state / JOURNAL))
    journal = Journal(state / JOURNAL, worker, clock_ns=lambda: NOON_NS)
    for number in numbers:
        journal.append(encode(entry(number)))
    journal.close()
    return (set(list_segments(state / JOURNAL)) - before).pop()


async def requests(ledger: Ledger) -> int:
    """How many requests the ledger has in all."""
    total: int = (await ledger.usage(Query(())))["total"]["requests"]
    return total


def test_lines_are_taken_in_as_they_come(tmp_path: Path, told: Told, new_store: NewStore) -> None:
    """Each `catch_up` takes what is new, of a segment that grows and of new ones, and a restart takes nothing twice."""

    async def main() -> None:
        ledger = Ledger(tmp_path / JOURNAL, new_store(), told, Retention())
        await ledger.open()
        assert await ledger.catch_up() == 0
        journal = Journal(tmp_path / JOURNAL, "1")
        for expected in (1, 2):
            journal.append(encode(entry(expected)))
            assert await ledger.catch_up() == 1
        write(tmp_path, [3, 4, 5], "2")
        assert (await ledger.catch_up(), await ledger.catch_up()) == (3, 0)
        journal.close()
        await ledger.close()
        again = Ledger(tmp_path / JOURNAL, new_store(), told, Retention())
        await again.open()
        assert (await again.catch_up(), await requests(again)) == (0, 5)
        await again.close()
        assert told.events == []

    asyncio.run(main())


def test_many_parts_are_taken_in_at_once(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment longer than one reading is followed to its end."""
    monkeypatch.setattr(segments.read_part, "__defaults__", (1500,))

    async def main() -> None:
        write(tmp_path, range(20))
        ledger = ledger_of(tmp_path, None, told)
        await ledger.open()
        assert (await ledger.catch_up(), await requests(ledger)) == (20, 20)
        await ledger.close()

    asyncio.run(main())


def test_damage_is_kept_said_once_and_counted(tmp_path: Path, told: Told) -> None:
    """A damaged line goes into a file of its own and a torn one is skipped; every other line is in."""

    async def main() -> None:
        path = write(tmp_path, [0, 1, 2])
        line = encode(entry(1))
        path.write_bytes(path.read_bytes().replace(b'"d1"', b'"dX"') + encode(entry(3))[:40])
        ledger = ledger_of(tmp_path, None, told)
        await ledger.open()
        assert (await ledger.catch_up(), await ledger.catch_up()) == (2, 0)
        assert (ledger.lines, ledger.damaged, ledger.torn) == (2, 1, 1)
        assert told.events == [
            (
                "journal damaged",
                {"segment": path.name, "at_bytes": len(line), "why": "its checksum does not fit"},
            ),
            ("journal torn", {"segment": path.name, "at_bytes": 3 * len(line), "bytes": 40}),
        ]
        damaged = path.with_name(f"{path.name}.damaged-{len(line)}")
        assert damaged.read_bytes() == line[:-1].replace(b'"d1"', b'"dX"')
        await ledger.close()

    asyncio.run(main())


@pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_database_is_built_again(tmp_path: Path, told: Told, content: bytes) -> None:
    """It is renamed, which is said once, and the lines of all segments that are there are in the new one."""

    async def main() -> None:
        write(tmp_path, range(5))
        (tmp_path / DATABASE).write_bytes(content)
        ledger = ledger_of(tmp_path, None, told)
        await ledger.open()
        assert (await ledger.catch_up(), await requests(ledger)) == (5, 5)
        await ledger.close()
        assert told.names == ["ledger set aside"]
        assert told.events[0][1]["kept_as"] == f"{DATABASE}.aside-1"
        assert (tmp_path / f"{DATABASE}.aside-1").read_bytes()[: len(content)] == content

    asyncio.run(main())


class Breaking(SqliteStore):
    """A store that says it is damaged at a moment that the test chooses."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.breaks: set[str] = set()

    async def add(self, part: Any) -> bool:
        if "add" in self.breaks:
            self.breaks.clear()
            raise DamagedStoreError("damaged")
        return await super().add(part)

    async def usage(self, query: Query) -> list[tuple[tuple[str, ...], Sums]]:
        if "usage" in self.breaks:
            await asyncio.sleep(0)
            raise DamagedStoreError("damaged")
        return await super().usage(query)


def test_damage_that_shows_later_is_healed_too(tmp_path: Path, told: Told) -> None:
    """Found while lines go in, the same call fills a new database; found by several reports, it is renamed once."""

    async def main() -> None:
        store = Breaking(tmp_path / DATABASE)
        ledger = Ledger(tmp_path / JOURNAL, store, told, Retention())
        write(tmp_path, range(3))
        await ledger.open()
        await ledger.catch_up()
        write(tmp_path, [7])
        store.breaks = {"add"}
        assert (await ledger.catch_up(), await requests(ledger)) == (4, 4)
        store.breaks = {"usage"}
        answers = await asyncio.gather(*(ledger.usage(Query()) for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [DamagedStoreError] * 3
        store.breaks = set()
        assert (await ledger.catch_up(), await requests(ledger)) == (4, 4)
        assert told.names == ["ledger set aside"] * 2
        await ledger.close()

    asyncio.run(main())


def test_a_newer_database_is_not_set_aside(tmp_path: Path, told: Told) -> None:
    """An older program leaves it alone and says why it does not work."""

    async def main() -> None:
        store = SqliteStore(tmp_path / DATABASE)
        await store.open()
        await store._run(store._connected.execute, "INSERT INTO version (number) VALUES (99)")
        await store.close()
        with pytest.raises(NewerStoreError):
            await ledger_of(tmp_path, None, told).open()
        assert told.events == []

    asyncio.run(main())
    assert not list(tmp_path.glob("*.aside-*"))


def test_old_segments_and_old_days_go(tmp_path: Path, told: Told, new_store: NewStore) -> None:
    """A segment goes with its entries when its youngest request is too old; sums stay, and what is not in stays."""

    async def main() -> None:
        old = write(tmp_path, range(3))
        old.with_name(old.name + ".damaged-5").touch()
        (tmp_path / JOURNAL / name_of(NOON_NS - 1, "9", "0a0a0a0a")).touch()
        ledger = Ledger(tmp_path / JOURNAL, new_store(), told, Retention(segment_days=35, rollup_days=400))
        await ledger.open()
        await ledger.tidy(TODAY + timedelta(days=100))
        assert old.exists()
        await ledger.catch_up()
        await ledger.tidy(TODAY + timedelta(days=35))
        assert old.exists()
        await ledger.tidy(TODAY + timedelta(days=36))
        assert list((tmp_path / JOURNAL).iterdir()) == []
        assert (await ledger.catch_up(), await requests(ledger)) == (0, 3)
        totals = await ledger.store.totals()
        assert (totals.entries.requests, totals.kept.requests, totals.segments.requests) == (0, 0, 3)
        await ledger.tidy(TODAY + timedelta(days=400))
        assert await requests(ledger) == 3
        await ledger.tidy(TODAY + timedelta(days=401))
        assert await requests(ledger) == 0
        assert (await ledger.store.totals()).forgotten.requests == 3
        await ledger.close()

    asyncio.run(main())


def test_the_day_is_tidied_once(tmp_path: Path, told: Told) -> None:
    """A step opens, takes in, and on the first time of a day removes what is old."""

    async def main() -> None:
        path = write(tmp_path, [1])
        ledger = ledger_of(tmp_path, None, told, Retention(segment_days=1))
        await ledger.step(TODAY)
        assert await requests(ledger) == 1
        await ledger.step(TODAY + timedelta(days=1))
        assert path.exists()
        await ledger.step(TODAY + timedelta(days=2))
        assert not path.exists()
        await ledger.close()

    asyncio.run(main())


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition; the caller has a deadline."""
    while not holds():  # noqa: ASYNC110  # what is waited for is the ledger's own state, which sets no event
        await asyncio.sleep(0.001)


class Unreachable(SqliteStore):
    """A store that can't be opened until it is allowed to."""

    allowed = False

    async def open(self) -> None:
        if not self.allowed:
            raise StoreError("the ledger's server: ConnectionRefusedError")
        await super().open()


def test_a_database_that_is_away_is_asked_again(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop says once that it waits, goes on trying, and takes in what has gathered when it can."""
    monkeypatch.setattr(ingest, "INTERVAL_S", 0.001)

    async def main() -> None:
        write(tmp_path, range(4))
        store = Unreachable(tmp_path / DATABASE)
        ledger = Ledger(tmp_path / JOURNAL, store, told, Retention(segment_days=100_000))
        task = asyncio.create_task(ledger.run())
        async with asyncio.timeout(30):
            await until(lambda: bool(told.events))
            store.allowed = True
            await until(lambda: ledger.lines == 4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ledger.close()
        assert told.events == [("ledger waits", {"why": "the ledger's server: ConnectionRefusedError"})]

    asyncio.run(main())


def test_a_segment_that_cannot_be_read_holds_up_no_other(tmp_path: Path, told: Told) -> None:
    """It is said once, and the others are taken in."""

    async def main() -> None:
        (tmp_path / JOURNAL / name_of(1, "1", "0a0a0a0a")).mkdir(parents=True)
        write(tmp_path, range(2))
        ledger = ledger_of(tmp_path, None, told)
        await ledger.open()
        assert (await ledger.catch_up(), await ledger.catch_up()) == (2, 0)
        assert told.names == ["journal unreadable"]
        await ledger.close()

    asyncio.run(main())


def test_two_ledgers_on_one_database_add_each_line_once(tmp_path: Path, told: Told, new_store: NewStore) -> None:
    """The supervisor and the usage command may read the same segments at once."""

    async def main() -> None:
        for worker in "12345678":
            write(tmp_path, range(10), worker)
        ledgers = [Ledger(tmp_path / JOURNAL, new_store(), told, Retention()) for _ in range(3)]
        for ledger in ledgers:
            await ledger.open()
        taken = await asyncio.gather(*(ledger.catch_up() for ledger in ledgers))
        assert (sum(taken), await requests(ledgers[0])) == (80, 80)
        for ledger in ledgers:
            await ledger.close()

    asyncio.run(main())


def test_a_line_that_waits_for_room_is_waited_for(tmp_path: Path, told: Told) -> None:
    """Half a line of a living writer is no damage, and when it is whole it is taken in."""

    async def main() -> None:
        ledger = ledger_of(tmp_path, None, told)
        await ledger.open()
        journal = Journal(tmp_path / JOURNAL, "1")
        with room_for(100), pytest.raises(JournalFullError):
            journal.append(encode(entry(0)))
        assert await ledger.catch_up() == 0
        assert journal.flush()
        assert (await ledger.catch_up(), told.events) == (1, [])
        journal.close()
        await ledger.close()

    asyncio.run(main())


def test_lines_are_on_the_disk_before_they_are_in_the_ledger(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk can't take them, the ledger does not know them, which is said; later it does."""

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    async def main() -> None:
        write(tmp_path, [1])
        ledger = ledger_of(tmp_path, None, told)
        await ledger.open()
        with monkeypatch.context() as broken:
            broken.setattr("os.fdatasync", fail)
            assert await ledger.catch_up() == 0
        assert told.names == ["journal unreadable"]
        assert await ledger.catch_up() == 1
        await ledger.close()

    asyncio.run(main())


def test_kill_9_while_lines_go_in_counts_none_twice(tmp_path: Path, told: Told) -> None:
    """A supervisor that is killed before, in or after a transaction, again and again, leaves nothing half done."""
    write(tmp_path, range(300))
    command = [sys.executable, "-m", "tests.ledger.taker", str(tmp_path)]
    for words in range(1, 9):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(words)]
            process.kill()
        assert all(said)

    async def main() -> None:
        ledger = ledger_of(tmp_path, None, told)
        await ledger.open()
        assert 0 < await ledger.catch_up() < 300
        assert await requests(ledger) == 300
        totals = await ledger.store.totals()
        assert totals.entries == totals.segments == totals.rollups
        await ledger.close()

    asyncio.run(main())
