"""Shared budgets when their server hangs, goes away, forgets, or is behind a network that cuts and delays."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from gpubalancer.board.budget_recovery import Left
from gpubalancer.domain.budget import Claims, Refusal, Spending
from gpubalancer.domain.errors import RequestError
from gpubalancer.valkey.link import DEADLINE_S
from gpubalancer.valkey.outbox import Outbox
from gpubalancer.valkey.recovery import Leftovers
from gpubalancer.valkey.store import ValkeyStore
from tests.board.budget_terms import bucket, claims, window
from tests.real.test_budget_stores import YEAR_NS, held, left, settled, shared
from tests.real.valkey_server import Faults, Proxy, Server, between, play, running, slots_in, until

pytestmark = pytest.mark.real

SMALL = Spending(3, 0, 2, 1)


@pytest.fixture(name="server")
def started_server() -> Iterator[Server]:
    """One for each test, which may be killed."""
    with running() as server:
        yield server


@pytest.fixture(name="proxy")
def started_proxy(server: Server) -> Iterator[Proxy]:
    """One before it."""
    with between(server) as proxy:
        yield proxy


async def reserve_timed(store: ValkeyStore, asked: Claims) -> tuple[float, object]:
    """How long a reservation took, and what came of it."""
    began_s = time.monotonic()
    try:
        found: object = await store.reserve(asked, SMALL)
    except RequestError as error:
        found = error
    return time.monotonic() - began_s, found


def test_a_server_that_hangs_costs_50_ms_and_is_asked_no_more(tmp_path: Path, server: Server) -> None:
    """Requests are refused then, at once; when it goes on, so do they, and nothing of before is held."""
    terms = window("w", 1000, YEAR_NS)

    async def scene() -> None:
        async with shared(tmp_path, server.url) as stores:
            store, asked = stores[0], claims(terms)
            await held(store, asked, SMALL)
            server.stop()
            waits = []
            for _ in range(20):
                wait_s, found = await reserve_timed(store, asked)
                assert isinstance(found, RequestError)
                assert (found.code, found.status) == ("budgets_unreachable", 503)
                waits.append(wait_s)
            assert max(waits) < DEADLINE_S + 0.05
            assert sum(wait_s > 0.005 for wait_s in waits) <= 3
            server.go_on()
            await until(lambda: not store.link.breaker.is_open, "the server")
            await settled(list(stores))
            assert await left(stores[1], terms) == 995

    play(scene())


def test_with_a_share_requests_go_on_and_are_settled_once(tmp_path: Path, server: Server, proxy: Proxy) -> None:
    """While the server is away all together spend no more than was left, and it learns of each when it is back."""
    terms = window("w", 100, YEAR_NS, unit="requests")

    async def scene() -> None:
        async with shared(tmp_path, proxy.url, goes_on=True) as stores:
            asked = claims(terms)
            for store in stores:
                (await held(store, asked, SMALL)).settle(SMALL, 0)
            await until(lambda: all(store.link.peers == 3 for store in stores), "all to know of all")
            proxy.faults.deaf = True
            admitted = 0
            for _ in range(40):
                for store in stores:
                    found = await store.reserve(asked, SMALL)
                    if not isinstance(found, Refusal):
                        admitted += 1
                        found.settle(SMALL, 0)
            assert 85 <= admitted <= 97
            assert all(store.late for store in stores)
            proxy.faults.deaf = False
            await settled(list(stores))
            assert sum(store.slots.outstanding for store in stores) == 0
            assert await left(stores[0], terms) == 97 - admitted

    play(scene())


def test_through_a_network_that_cuts_and_delays_nothing_is_lost_or_doubled(
    tmp_path: Path, server: Server, proxy: Proxy
) -> None:
    """Connections are cut after some pieces each and overtake one another; each settlement is made once."""
    terms, random = bucket("b", 10**9, YEAR_NS), Random(3)

    async def scene() -> None:
        async with shared(tmp_path, proxy.url) as stores:
            asked, spent, unreachable = claims(terms), 0, 0

            async def one(number: int) -> None:
                nonlocal spent, unreachable
                store = stores[number % 3]
                await asyncio.sleep(random.uniform(0, 6))
                try:
                    found = await store.reserve(asked, SMALL)
                except RequestError:
                    unreachable += 1
                    return
                assert not isinstance(found, Refusal)
                actual = random.randrange(1000)
                found.settle(Spending(actual, 0, 0, 1), 0)
                spent += actual

            proxy.faults = Faults(delay_s=0.004, cut=12)
            await asyncio.gather(*(one(number) for number in range(600)))
            proxy.faults = Faults()
            await until(lambda: not any(store.link.breaker.is_open for store in stores), "the server")
            await settled(list(stores))
            assert proxy.connections > 10
            assert unreachable < 600
            used, reserved, *_ = map(int, server.ask("GET", f"{{gpubalancer}}:b:{terms.id.hex()}").split())
            assert reserved == 0
            # A bucket of a billion a year regains 32 a second.
            assert spent - 40 * 60 <= used <= spent
            assert sum(store.slots.outstanding for store in stores) == 0

    play(scene())


def test_what_a_dead_balancer_held_is_given_back(tmp_path: Path, server: Server) -> None:
    """When it was not heard of for the lease; what it settles after that is charged all the same, once."""
    terms = window("w", 100, YEAR_NS)

    async def scene() -> None:
        async with shared(tmp_path, server.url) as stores:
            asked = claims(terms)
            flying = await held(stores[0], asked, SMALL)
            assert await left(stores[1], terms) == 95
            await asyncio.sleep(0.01)
            await stores[1].link.send("beat", "other", 0)
            assert await left(stores[1], terms) == 100
            flying.settle(Spending(7, 0, 3, 1), 0)
            await settled(list(stores))
            assert await left(stores[1], terms) == 90

    play(scene())


def test_a_server_that_forgot_learns_what_was_in_flight(tmp_path: Path, server: Server) -> None:
    """A reservation that it no longer knows is charged by its claims."""
    terms = window("w", 100, YEAR_NS)

    async def scene() -> None:
        async with shared(tmp_path, server.url) as stores:
            flying = await held(stores[0], claims(terms), SMALL)
            server.ask("FLUSHALL")
            server.ask("SCRIPT", "FLUSH")
            flying.settle(Spending(7, 0, 3, 1), 0)
            await settled(list(stores))
            assert await left(stores[1], terms) == 90

    play(scene())


def test_a_server_that_is_restarted_is_found_again(tmp_path: Path, server: Server) -> None:
    """Within seconds, without anybody's help; requests meanwhile are refused at once."""

    async def scene() -> None:
        async with shared(tmp_path, server.url) as stores:
            store, asked = stores[0], claims(window("w", 100, YEAR_NS))
            server.kill()
            await until(lambda: store.link.breaker.is_open, "the loss")
            wait_s, found = await reserve_timed(store, asked)
            assert wait_s < 0.02
            assert isinstance(found, RequestError)
            server.start()
            await until(lambda: not store.link.breaker.is_open, "the server")
            await held(store, asked, SMALL)

    play(scene())


def test_what_a_killed_worker_had_in_flight_is_settled_from_its_slots(tmp_path: Path, server: Server) -> None:
    """Its prompt and what was streamed; nothing for what no backend had; what it had settled, once."""
    terms = window("w", 1000, YEAR_NS)

    async def scene() -> None:
        async with shared(tmp_path, server.url) as stores:
            dead, asked = stores[0], claims(terms)
            streaming = await held(dead, asked, Spending(10, 0, 90, 1))
            streaming.sent(10, b"backend\ngpu")
            streaming.progress(25)
            await held(dead, asked, SMALL)
            done = await held(dead, asked, SMALL)
            done.settle(Spending(4, 0, 1, 1), 0, keep=True)
            await settled(list(stores))
            dead.close()
            assert await left(stores[1], terms) == 1000 - 100 - 5 - 5
            leftovers = Leftovers(tmp_path, Outbox(stores[1].link.send), lambda label: None, stores[1].link.now_ns)
            leftovers.put_aside(tmp_path / "shared.worker-0")
            found: list[Left] = []
            leftovers.settle(found.append)
            leftovers.settle(found.append)
            await until(lambda: "shared.left-0" not in slots_in(tmp_path), "all to be settled")
            assert sorted(each.spending.completion_tokens for each in found) == [0, 1, 25]
            assert await left(stores[1], terms) == 1000 - 35 - 5

    play(scene())
