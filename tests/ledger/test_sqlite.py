"""SQLite alone: files that are damaged, full or held by another."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gpubalancer.ledger import sqlite
from gpubalancer.ledger.segments import Part
from gpubalancer.ledger.sqlite import SqliteStore
from gpubalancer.ledger.store import DamagedStoreError, Query, StoreError
from tests.ledger.entries import entry, room_for


def part(number: int) -> Part:
    """The line with a number, of one segment."""
    return Part("a", number, number + 1, ((number, entry(number)),))


async def filled(path: Path, lines: int = 200) -> SqliteStore:
    """An open store with some lines."""
    store = SqliteStore(path)
    await store.open()
    for number in range(lines):
        assert await store.add(part(number))
    return store


async def opened_and_read(store: SqliteStore) -> None:
    """Open a store and read all of it."""
    await store.open()
    await store.totals()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "text": lambda data: b"not a database at all, " * 1000,
    "head": lambda data: b"\x00" * 100 + data[100:],
    "pages": lambda data: data[:4096] + b"\xff" * (len(data) - 4096),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_told_and_set_aside(tmp_path: Path, kind: str) -> None:
    """Opening or reading it says that it is damaged; renamed, it makes room for a new one."""

    async def main() -> None:
        path = tmp_path / "ledger.sqlite"
        await (await filled(path)).close()
        damaged = DAMAGE[kind](path.read_bytes())
        path.write_bytes(damaged)
        store = SqliteStore(path)
        with pytest.raises(DamagedStoreError, match="the ledger is damaged"):
            await opened_and_read(store)
        await store.close()
        assert store.set_aside() == "ledger.sqlite.aside-1"
        assert (tmp_path / "ledger.sqlite.aside-1").read_bytes() == damaged
        await store.open()
        assert await store.usage(Query(("day",))) == []
        await store.close()
        path.write_bytes(damaged)
        assert store.set_aside() == "ledger.sqlite.aside-2"

    asyncio.run(main())


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    """A process that was killed before its first write leaves one, and it is no damage."""

    async def main() -> None:
        (tmp_path / "ledger.sqlite").touch()
        await (await filled(tmp_path / "ledger.sqlite", 1)).close()

    asyncio.run(main())


def test_a_full_disk_is_no_damage(tmp_path: Path) -> None:
    """What can't be written is refused as a whole and goes in when there is room."""

    async def main() -> None:
        store = await filled(tmp_path / "ledger.sqlite", 1)
        many = Part("b", 0, 5000, tuple((number, entry(number)) for number in range(5000)))
        with room_for(100_000), pytest.raises(StoreError) as caught:
            await store.add(many)
        assert not isinstance(caught.value, DamagedStoreError)
        assert await store.add(many)
        assert (await store.usage(Query(())))[0][1].requests == 5001
        await store.close()

    asyncio.run(main())


def test_who_holds_the_file_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that never ends makes the store unusable for now, not for ever."""
    monkeypatch.setattr(sqlite, "BUSY_S", 0.01)

    async def main() -> None:
        path = tmp_path / "ledger.sqlite"
        store = await filled(path, 1)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            await store.add(part(1))
        assert (await store.usage(Query(())))[0][1].requests == 1
        other.execute("ROLLBACK")
        other.close()
        assert await store.add(part(1))
        await store.close()

    asyncio.run(main())


def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    """Asking before `open` is an error, and a folder that is missing is one of `open`."""

    async def main() -> None:
        with pytest.raises(StoreError, match="not open"):
            await SqliteStore(tmp_path / "x").usage(Query())
        with pytest.raises(StoreError, match="unable to open"):
            await SqliteStore(tmp_path / "missing" / "x").open()

    asyncio.run(main())
