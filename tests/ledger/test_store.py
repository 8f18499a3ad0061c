"""What both databases do alike: each line once, sums that are right, and old things that go."""

import asyncio
from datetime import date

import pytest

from gpubalancer.ledger.records import Entry
from gpubalancer.ledger.segments import Damage, Part
from gpubalancer.ledger.store import BYS, DamagedStoreError, NewerStoreError, Query, Store, StoreError, Taken
from gpubalancer.ledger.sums import NOTHING, Sums, roll_up, sums_of, total
from tests.ledger.conftest import NewStore
from tests.ledger.entries import entry

FIRST = [entry(0), entry(1, tenant="other"), entry(2, requests=0, prompt_tokens=0, tier="internal")]
SECOND = [entry(3, at_us=entry().at_us + 86_400_000_000), entry(4, model="phi")]


def part(name: str, from_bytes: int, entries: list[Entry], torn: bool = False) -> Part:
    """A part of a segment in which each line has ten bytes."""
    lines = tuple((from_bytes + 10 * number, each) for number, each in enumerate(entries))
    end = from_bytes + 10 * len(entries)
    return Part(name, from_bytes, end, lines, torn=Damage(name, end, b"x", "cut") if torn else None)


async def filled(store: Store) -> None:
    """A store with two parts of one segment."""
    await store.open()
    assert await store.add(part("a", 0, FIRST))
    assert await store.add(part("a", 30, SECOND, torn=True))


def test_every_group_of_keys_adds_up(new_store: NewStore) -> None:
    """By all keys the rows are the roll-ups of the entries; by none there is the total."""

    async def main() -> None:
        store = new_store()
        await filled(store)
        found = dict(await store.usage(Query(BYS)))
        assert found == {tuple(group): sums for group, sums in roll_up(FIRST + SECOND).items()}
        assert await store.usage(Query(())) == [((), total(map(sums_of, FIRST + SECOND)))]
        await store.close()

    asyncio.run(main())


def test_a_query_narrows(new_store: NewStore) -> None:
    """One tenant, from a day on, before a day; an unknown tenant has nothing."""

    async def main() -> None:
        store = new_store()
        await filled(store)
        assert await store.usage(Query(("tenant",), tenant="other")) == [(("other",), sums_of(FIRST[1]))]
        since = await store.usage(Query(("day",), since=date(2026, 11, 24)))
        assert since == [(("2026-11-24",), sums_of(SECOND[0]))]
        until = await store.usage(Query((), until=date(2026, 11, 24)))
        assert until == [((), total(map(sums_of, [*FIRST, SECOND[1]])))]
        assert await store.usage(Query(("day",), tenant="'; DROP TABLE rollups; --")) == []
        await store.close()

    asyncio.run(main())


def test_what_was_taken_is_told_from_instant_to_instant(new_store: NewStore) -> None:
    """By tenant, key and model, with what cached tokens spare rounded down for each request."""

    async def main() -> None:
        store = new_store()
        await store.open()
        cached = [entry(number, key_id="k", cached_tokens=5) for number in range(4)]
        assert await store.add(part("a", 0, [*cached, entry(4, tenant="other")]))
        first_us = cached[0].at_us
        found = sorted(await store.taken(first_us + 1, first_us + 5, 750_000))
        assert found == [
            Taken("other", "-", "llama", sums_of(entry(4)), 0),
            Taken("team", "k", "llama", total(map(sums_of, cached[1:])), 9),
        ]
        assert await store.taken(first_us + 5, first_us + 9, 0) == []
        await store.close()

    asyncio.run(main())


def test_a_part_goes_in_once(new_store: NewStore) -> None:
    """Only what begins where the segment stands is taken, before and after a restart."""

    async def main() -> None:
        store = new_store()
        await filled(store)
        assert not await store.add(part("a", 0, FIRST))
        assert not await store.add(part("a", 10, SECOND))
        await store.close()
        store = new_store()
        await store.open()
        assert not await store.add(part("a", 30, SECOND))
        state = (await store.segments(["a", "unknown"]))["a"]
        assert (state.at_bytes, state.torn, state.damaged, state.last_us) == (50, 1, 0, SECOND[0].at_us)
        assert state.sums == total(map(sums_of, FIRST + SECOND))
        await store.close()

    asyncio.run(main())


def test_two_who_take_in_the_same_lines_add_them_once(new_store: NewStore) -> None:
    """Of processes that read the same segment at once, one wins each part."""

    async def main() -> None:
        stores = [new_store() for _ in range(4)]
        for store in stores:
            await store.open()
        for number in range(10):
            won = await asyncio.gather(*(store.add(part("a", number * 10, [entry(number)])) for store in stores))
            assert sorted(won) == [False, False, False, True]
        assert (await stores[0].usage(Query(())))[0][1].requests == 10
        for store in stores:
            await store.close()

    asyncio.run(main())


def test_a_part_that_fails_leaves_nothing(new_store: NewStore) -> None:
    """When one row can't be written, neither are the others, and the segment stays where it stood."""

    async def main() -> None:
        store = new_store()
        await store.open()
        twice = Part("a", 0, 20, ((0, entry(0)), (0, entry(1))))
        with pytest.raises(StoreError) as caught:
            await store.add(twice)
        assert not isinstance(caught.value, DamagedStoreError)
        assert await store.segments(["a"]) == {}
        assert await store.usage(Query(("tenant",))) == []
        assert await store.add(part("a", 0, FIRST))
        await store.close()

    asyncio.run(main())


def test_totals_agree_whatever_was_forgotten(new_store: NewStore) -> None:
    """Segments equal roll-ups and forgotten ones together, and those that are kept equal the entries."""

    async def main() -> None:
        store = new_store()
        await filled(store)
        await store.add(part("b", 0, [entry(7)]))
        everything = total(map(sums_of, [*FIRST, *SECOND, entry(7)]))
        assert await store.totals() == (everything, everything, everything, NOTHING, everything)
        await store.forget_segments(["a", "unknown"])
        await store.forget_days(date(2026, 11, 24))
        totals = await store.totals()
        assert totals.segments == everything == totals.rollups.plus(totals.forgotten)
        assert totals.kept == totals.entries == sums_of(entry(7))
        assert totals.rollups == sums_of(SECOND[0])
        assert (await store.segments(["a"]))["a"].is_forgotten
        assert not await store.add(part("a", 0, FIRST))
        await store.close()

    asyncio.run(main())


def test_a_newer_database_is_left_alone(new_store: NewStore) -> None:
    """A program that is older than the tables says so and does not set them aside."""

    async def main() -> None:
        store = new_store()
        await filled(store)
        await raise_version(store)
        await store.close()
        with pytest.raises(NewerStoreError, match="version 1000"):
            await new_store().open()

    asyncio.run(main())


async def raise_version(store: Store) -> None:
    """Say that the tables are those of a later program."""
    internal: object = getattr(store, "_connection", None)
    statement = "INSERT INTO version (number) VALUES (1000)"
    if hasattr(store, "_thread"):
        await store._run(internal.execute, statement)  # type: ignore[attr-defined]  # the test knows which store it is
    else:
        await internal.execute(statement)  # type: ignore[attr-defined]  # as above


def test_what_is_closed_says_so(new_store: NewStore) -> None:
    """A store that was closed may be opened again."""

    async def main() -> None:
        store = new_store()
        await filled(store)
        await store.close()
        await store.close()
        await store.open()
        assert (await store.usage(Query(())))[0][1] == Sums(4, 1, 100 + 101 + 103 + 104, 0, 50, 25, 35)
        await store.close()

    asyncio.run(main())
