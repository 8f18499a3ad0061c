"""The way to the server: found, greeted, asked for a bounded time, found again."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gpubalancer.policy.valkey_url import Address
from gpubalancer.valkey.connection import GoneError
from gpubalancer.valkey.link import DEADLINE_S, SHA, Link, _master_of, _moved_to
from tests.valkey.fake_server import bulk, play, serving, until


@asynccontextmanager
async def linked(address: Address) -> AsyncIterator[tuple[Link, list[str]]]:
    """A link that looks for its server."""
    ups: list[str] = []
    link = Link(address, "me", lambda: ups.append("up"))
    running = asyncio.ensure_future(link.run())
    try:
        yield link, ups
    finally:
        running.cancel()
        link.close()
        await asyncio.gather(running, return_exceptions=True)


def test_a_server_is_greeted_and_then_asked() -> None:
    """With our password and database; it tells its time and how many there are."""

    async def scene() -> None:
        async with serving(lambda step: bulk(b"1 " + step[2])) as fake:
            address = Address(fake.address.hosts, user="u", password="p", database=2)
            async with linked(address) as (link, ups):
                await until(lambda: not link.breaker.is_open)
                assert await link.ask("read", "x") == b"1 x"
                assert fake.greetings[:2] == [[b"AUTH", b"u", b"p"], [b"SELECT", b"2"]]
                assert fake.greetings[2][:2] == [b"SCRIPT", b"LOAD"]
                assert (link.peers, ups) == (3, ["up"])
                assert abs(link.now_ns() - 1_700_000_000_000_000_000) < 10**9

    play(scene)


def test_a_reply_is_waited_for_no_longer_than_the_deadline() -> None:
    """Three late ones in a row, and nobody asks any more."""

    async def scene() -> None:
        async with serving(lambda step: None) as fake, linked(fake.address) as (link, _):
            await until(lambda: not link.breaker.is_open)
            for _ in range(3):
                began_s = time.monotonic()
                with pytest.raises(GoneError):
                    await link.ask("read", "x")
                assert DEADLINE_S * 0.9 < time.monotonic() - began_s < DEADLINE_S + 0.1
            assert link.breaker.is_open
            with pytest.raises(GoneError):
                await link.ask("read", "x")
            await until(lambda: len(fake.steps) >= 3)
            assert len(fake.steps) == 3

    play(scene)


def test_a_script_that_the_server_forgot_goes_with_the_step() -> None:
    """Nothing was done, so that it can be asked again at once."""

    def answer(step: list[bytes]) -> bytes:
        return b"-NOSCRIPT none\r\n" if step[0] == b"EVALSHA" else bulk(b"1 done")

    async def scene() -> None:
        async with serving(answer) as fake, linked(fake.address) as (link, _):
            await until(lambda: not link.breaker.is_open)
            assert await link.ask("read", "x") == b"1 done"
            assert [step[0] for step in fake.steps] == [b"EVALSHA", b"EVAL"]
            assert len(SHA) == 40

    play(scene)


def test_a_server_that_moved_is_followed() -> None:
    """Where a Cluster's reply points."""

    async def scene() -> None:
        async with serving(lambda step: bulk(b"1 here")) as there:
            moved = b"-MOVED 1 127.0.0.1:%d\r\n" % there.port
            async with serving(lambda step: moved) as first, linked(first.address) as (link, _):
                await until(lambda: not link.breaker.is_open)
                with pytest.raises(GoneError):
                    await link.ask("read", "x")
                await until(lambda: not link.breaker.is_open)
                assert await link.ask("read", "x") == b"1 here"

    play(scene)


def test_a_server_that_went_is_found_again() -> None:
    """Who waited is told, and whoever is to know that it is back, too."""

    async def scene() -> None:
        async with serving(lambda step: None) as fake, linked(fake.address) as (link, ups):
            await until(lambda: not link.breaker.is_open)
            waiting = link.send("settle", "x")
            await until(lambda: bool(fake.steps))
            fake.cut()
            with pytest.raises(GoneError):
                await waiting
            await until(lambda: len(ups) == 2)
            assert not link.breaker.is_open

    play(scene)


def test_sentinels_know_where_it_is() -> None:
    """The first that answers is believed; one that is gone, or knows nothing, is passed over."""

    async def scene() -> None:
        async with serving(lambda step: bulk(b"1 master")) as master:
            place = b"*2\r\n" + bulk(b"127.0.0.1") + bulk(b"%d" % master.port)
            async with serving(lambda step: b"*-1\r\n") as ignorant, serving(lambda step: place) as sentinel:
                hosts = (("127.0.0.1", 1), ignorant.address.hosts[0], sentinel.address.hosts[0])
                async with linked(Address(hosts, sentinel="budgets")) as (link, _):
                    await until(lambda: not link.breaker.is_open)
                    assert await link.ask("read", "x") == b"1 master"
                    assert sentinel.greetings == [[b"SENTINEL", b"get-master-addr-by-name", b"budgets"]]

    play(scene)


def test_who_knows_of_no_server_goes_on_looking() -> None:
    """Nobody is asked, and nothing breaks."""

    async def scene() -> None:
        async with (
            serving(lambda step: b"*-1\r\n") as ignorant,
            linked(Address(ignorant.address.hosts, sentinel="budgets")) as (link, ups),
        ):
            await until(lambda: len(ignorant.greetings) > 1)
            assert (link.breaker.is_open, ups) == (True, [])
            assert repr(link).startswith("<Link to <Address")

    play(scene)


def test_where_replies_point() -> None:
    """Hosts of either kind; nothing else is an address."""
    assert _moved_to("MOVED 3999 127.0.0.1:6381") == ("127.0.0.1", 6381)
    assert _moved_to("ASK 3999 [::1]:7") == ("::1", 7)
    assert _moved_to("OOM command not allowed") is None
    assert _moved_to("MOVED 1 nowhere") is None
    assert _master_of([b"10.0.0.5", b"6379"]) == ("10.0.0.5", 6379)
    assert _master_of(None) is None
