"""PostgreSQL alone: a server that goes, and addresses that are secret."""

import asyncio
import importlib
import sys

import pytest

from gpubalancer.ledger.postgres import PostgresStore
from gpubalancer.ledger.segments import Part
from gpubalancer.ledger.store import Query, StoreError
from tests.ledger.entries import entry
from tests.ledger.server import Server


def part(number: int) -> Part:
    """The line with a number, of one segment."""
    return Part("a", number, number + 1, ((number, entry(number)),))


def test_a_server_that_dies_and_comes_back_loses_nothing(server: Server) -> None:
    """While it is away calls fail, and afterwards each line is there once."""

    async def main() -> None:
        store = PostgresStore(await server.new_database())
        await store.open()
        assert await store.add(part(0))
        await asyncio.to_thread(server.kill)
        for _ in range(2):
            with pytest.raises(StoreError, match="the ledger's server"):
                await store.add(part(1))
        await asyncio.to_thread(server.start)
        assert not await store.add(part(0))
        assert await store.add(part(1))
        assert (await store.usage(Query(())))[0][1].requests == 2
        await store.close()

    asyncio.run(main())


def test_a_call_that_is_given_up_leaves_no_transaction(server: Server) -> None:
    """A cancelled call gives its connection up; the next one works."""

    async def main() -> None:
        url = await server.new_database()
        store = PostgresStore(url)
        await store.open()
        other = await importlib.import_module("asyncpg").connect(url)
        async with other.transaction():
            await other.execute("LOCK TABLE rollups")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await store.add(part(0))
        await other.close()
        assert await store.add(part(0))
        assert (await store.totals()).entries.requests == 1
        await store.close()

    asyncio.run(main())


def test_balancers_that_start_together_make_the_tables_once(server: Server) -> None:
    """Four that open an empty database at once all find it ready."""

    async def main() -> None:
        url = await server.new_database()
        stores = [PostgresStore(url) for _ in range(4)]
        await asyncio.gather(*(store.open() for store in stores))
        for number, store in enumerate(stores):
            assert await store.add(part(number))
            await store.close()

    asyncio.run(main())


def test_messages_do_not_tell_the_address() -> None:
    """Where nobody listens the error has neither host nor password."""
    pytest.importorskip("asyncpg")
    store = PostgresStore("postgresql://tester:visibly-fake@127.0.0.1:1/x")
    with pytest.raises(StoreError) as caught:
        asyncio.run(store.open())
    assert str(caught.value) == "the ledger's server: ConnectionRefusedError"


def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra's name is in the sentence."""
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(StoreError, match=r"gpubalancer\[postgresql\]"):
        PostgresStore("postgresql://127.0.0.1/x")
