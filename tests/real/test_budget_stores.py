"""The same on both stores of budgets: the board with three workers, and a real server with three balancers' workers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budgets import Till
from gpubalancer.brain.budget_store import Held, Store
from gpubalancer.domain.budget import Claims, Refusal, Spending, Terms
from gpubalancer.domain.errors import RequestError
from gpubalancer.policy.valkey_url import read_address
from gpubalancer.proxy.local_store import LocalStore
from gpubalancer.valkey.store import ValkeyStore
from tests.board.budget_terms import bucket, claims, gauge, window
from tests.real.valkey_server import Proxy, Server, between, play, running, until

pytestmark = pytest.mark.real

YEAR_NS = 365 * 86_400 * 10**9
SMALL, LARGE = Spending(3, 0, 2, 1), Spending(30, 0, 20, 1)


class NoLock:
    """No row needs to be kept."""

    def close(self) -> None:
        """Nothing."""


@pytest.fixture(scope="module", name="server")
def started_server() -> Iterator[Server]:
    """One for the module."""
    with running() as server:
        yield server


@pytest.fixture(scope="module", name="proxy")
def started_proxy(server: Server) -> Iterator[Proxy]:
    """One before it."""
    with between(server) as proxy:
        yield proxy


Stores = Callable[[], "asyncio.AbstractAsyncContextManager[list[Store]]"]  # type: ignore[name-defined]


@asynccontextmanager
async def local(folder: Path) -> AsyncIterator[list[Store]]:
    """Three workers on one board."""
    file = BudgetFile.create(folder / "budgets")
    stores: list[Store] = [LocalStore(Till(BudgetFile.attach(file.path), worker)) for worker in range(3)]
    try:
        yield stores
    finally:
        for store in stores:
            store.close()
        file.close()


@asynccontextmanager
async def shared(folder: Path, url: str, goes_on: bool = False) -> AsyncIterator[list[ValkeyStore]]:
    """A worker of each of three balancers, on one server that is empty."""
    names = [f"{folder.name}-{number}" for number in range(3)]
    paths = [folder / f"shared.worker-{number}" for number in range(3)]
    stores = [
        ValkeyStore(read_address(url), name, path, lambda: goes_on, NoLock())
        for name, path in zip(names, paths, strict=True)
    ]
    try:
        await until(lambda: not any(store.link.breaker.is_open for store in stores), "the server")
        yield stores
    finally:
        for store in stores:
            store.close()


@asynccontextmanager
async def opened(kind: str, folder: Path, server: Server, proxy: Proxy) -> AsyncIterator[list[Store]]:
    """Three stores of a kind, with nothing spent."""
    server.ask("FLUSHALL")
    if kind == "local":
        async with local(folder) as stores:
            yield stores
    else:
        async with shared(folder, server.url if kind == "server" else proxy.url) as made:
            yield list(made)


KINDS = pytest.mark.parametrize("kind", ["local", "server", "proxy"])


async def held(store: Store, asked: Claims, spending: Spending) -> Held:
    """A reservation that must be had."""
    found = await store.reserve(asked, spending)
    assert not isinstance(found, Refusal), found
    return found


async def refused(store: Store, asked: Claims, spending: Spending) -> Refusal:
    """A refusal that must come."""
    found = await store.reserve(asked, spending)
    assert isinstance(found, Refusal)
    return found


async def left(store: Store, terms: Terms) -> float:
    """What is left of a budget, when nothing is on its way."""
    probe = claims(terms)
    found = await store.reserve(probe, Spending())
    if isinstance(found, Refusal):
        return found.standing.remaining
    found.release(store.now_ns())
    return found.standings()[0].remaining


async def decided(store: Store, stores: list[Store], asked: Claims) -> Held | Refusal:
    """What the budgets say in the end: on a busy machine a reply may be late, and what is given back is on its way."""
    while True:
        try:
            found = await store.reserve(asked, SMALL)
        except RequestError:
            await asyncio.sleep(0.05)
            continue
        if not isinstance(found, Refusal) or not any(each.late for each in stores):
            return found
        await asyncio.sleep(0.05)


async def settled(stores: list[Store]) -> None:
    """Wait until all settlements are made."""
    await until(lambda: not any(store.late for store in stores), "settlements")


def run(kind: str, folder: Path, server: Server, proxy: Proxy, scene: Callable[[list[Store]], object]) -> None:
    """Run a scene on three stores."""

    async def whole() -> None:
        async with opened(kind, folder, server, proxy) as stores:
            await scene(stores)  # type: ignore[misc]

    play(whole())


@KINDS
def test_all_or_none(kind: str, tmp_path: Path, server: Server, proxy: Proxy) -> None:
    """Where one budget refuses, no other has changed; the refusal tells how all stand."""
    narrow, wide, places = window("narrow", 40, YEAR_NS), window("wide", 1000, YEAR_NS), gauge("places", 5)

    async def scene(stores: list[Store]) -> None:
        asked = claims(wide, narrow, places)
        await held(stores[0], asked, SMALL)
        answer = await refused(stores[1], asked, LARGE)
        assert answer.terms is narrow
        assert [stands.remaining for stands in answer.standings] == [995, 35, 4]
        assert await left(stores[2], wide) == 995

    run(kind, tmp_path, server, proxy, scene)


@KINDS
def test_a_reservation_becomes_the_fact_once(kind: str, tmp_path: Path, server: Server, proxy: Proxy) -> None:
    """Over-run is debited in full; a second settlement and a release after it do nothing."""
    terms = window("w", 100, YEAR_NS)

    async def scene(stores: list[Store]) -> None:
        asked = claims(terms)
        first, second = await held(stores[0], asked, SMALL), await held(stores[1], asked, LARGE)
        first.settle(Spending(80, 0, 40, 1), stores[0].now_ns())
        first.settle(LARGE, stores[0].now_ns())
        first.release(stores[0].now_ns())
        second.release(stores[1].now_ns())
        await settled(stores)
        assert await left(stores[2], terms) == -20
        assert (await refused(stores[2], asked, SMALL)).standing.remaining == -20

    run(kind, tmp_path, server, proxy, scene)


@KINDS
def test_exactly_what_there_is_is_admitted(kind: str, tmp_path: Path, server: Server, proxy: Proxy) -> None:
    """300 requests at once from three workers on a budget for 100: 100 are admitted, and all of it is spent."""
    narrow, wide = window("narrow", 100, YEAR_NS, unit="requests"), bucket("wide", 10**6, YEAR_NS)

    async def scene(stores: list[Store]) -> None:
        asked = claims(narrow, wide)

        async def one(number: int) -> bool:
            store = stores[number % 3]
            found = await decided(store, stores, asked)
            if isinstance(found, Refusal):
                return False
            await asyncio.sleep(0)
            found.settle(Spending(3, 0, 1, 1), store.now_ns())
            return True

        admitted = sum(await asyncio.gather(*(one(number) for number in range(300))))
        assert admitted == 100
        await settled(stores)
        assert await left(stores[0], narrow) == 0
        assert await left(stores[0], wide) == 10**6 - 400

    run(kind, tmp_path, server, proxy, scene)


@KINDS
def test_a_longer_answer_is_reserved_as_far_as_it_fits(kind: str, tmp_path: Path, server: Server, proxy: Proxy) -> None:
    """Only in budgets that end an answer."""
    stopping, other = window("stopping", 60, YEAR_NS, stops=True), window("other", 55, YEAR_NS)

    async def scene(stores: list[Store]) -> None:
        store = stores[0]
        flying = await held(store, claims(stopping, other), LARGE)
        for tokens, fits in ((10, True), (1, False)):
            told: list[bool] = []
            answer = flying.extend(Spending(0, 0, tokens), store.now_ns(), told.append)
            if answer is None:
                await until(lambda: told, "the server's answer")  # noqa: B023
                answer = told[0]
            assert answer == fits
        assert flying.covered_tokens == 30
        flying.settle(Spending(30, 0, 30, 1), store.now_ns())
        await settled(stores)
        assert await left(store, stopping) == 0
        assert await left(store, other) == -5

    run(kind, tmp_path, server, proxy, scene)


@KINDS
def test_shadows_count_and_places_come_back(kind: str, tmp_path: Path, server: Server, proxy: Proxy) -> None:
    """A budget that only counts says that it would have refused; a place is free when its request has ended."""
    shadow, places = window("shadow", 1, YEAR_NS, shadow=True), gauge("places", 1)

    async def scene(stores: list[Store]) -> None:
        asked = claims(shadow, places)
        first = await held(stores[0], asked, SMALL)
        assert first.overdrawn == (shadow,)
        assert (await refused(stores[1], asked, SMALL)).terms is places
        first.settle(SMALL, stores[0].now_ns())
        await settled(stores)
        await held(stores[1], asked, SMALL)

    run(kind, tmp_path, server, proxy, scene)


@KINDS
def test_cached_tokens_have_their_weight(kind: str, tmp_path: Path, server: Server, proxy: Proxy) -> None:
    """A quarter of a token each, rounded up."""
    terms = window("w", 1000, YEAR_NS, cached_millionths=250_000)

    async def scene(stores: list[Store]) -> None:
        (await held(stores[0], claims(terms), LARGE)).settle(Spending(101, 100, 9, 1), stores[0].now_ns())
        await settled(stores)
        assert await left(stores[1], terms) == 1000 - 35

    run(kind, tmp_path, server, proxy, scene)
