"""The store of shared budgets, before a server that does what the test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gpubalancer.board.budget_layout import SLOT_CELLS, Slot
from gpubalancer.domain.budget import Refusal, Spending
from gpubalancer.domain.errors import RequestError
from gpubalancer.valkey.store import ValkeyStore
from tests.board.budget_terms import bucket, claims, window
from tests.valkey.fake_server import Fake, Handler, bulk, play, serving, until

ASKED = claims(bucket("b", 100, 10**15), window("shadow", 1, 10**15, shadow=True))
SMALL = Spending(3, 0, 2, 1)
RESERVED = bulk(b"1 1700000000000000 2 5 5 1700000000000000 0 0 5 5 1700 0 0")
REFUSED = bulk(b"0 1700000000000000 0 99 0 1700000000000000 0 0 5 5 1700 0 0")
DONE, UNKNOWN = bulk(b"1 1700000000000000 0"), bulk(b"0 1700000000000000 0")


class Lock:
    """A worker's row."""

    closed = False

    def close(self) -> None:
        """It is let go."""
        self.closed = True


def by_step(**replies: bytes | None) -> Handler:
    """A reply for each kind of step."""
    return lambda step: replies.get(step[1].decode())


@asynccontextmanager
async def opened(folder: Path, handler: Handler, goes_on: bool = False) -> AsyncIterator[tuple[Fake, ValkeyStore]]:
    """A store whose server is there."""
    async with serving(handler) as fake:
        store = ValkeyStore(fake.address, "me", folder / "shared.worker-0", lambda: goes_on, Lock())
        await until(lambda: not store.link.breaker.is_open)
        try:
            yield fake, store
        finally:
            store.close()


def state(store: ValkeyStore, slot: int) -> int:
    """What stands in a slot."""
    return store.slots.cells[slot * SLOT_CELLS]


def test_a_reservation_is_one_step_and_its_settlement_another(tmp_path: Path) -> None:
    """In between nothing is sent; the slot goes when the server has confirmed."""

    async def scene() -> None:
        async with opened(tmp_path, by_step(reserve=RESERVED, settle=DONE)) as (fake, store):
            held = await store.reserve(ASKED, SMALL, b"label")
            assert not isinstance(held, Refusal)
            assert [step[1] for step in fake.steps] == [b"reserve"]
            assert fake.steps[0][2:4] == [b"me", b"1"]
            assert [stands.remaining for stands in held.standings()] == [95]
            assert held.overdrawn == (ASKED.terms[1],)
            assert store.slots.label(held.slot) == b"me\nlabel"
            held.sent(3, b"backend\ngpu")
            held.settle(Spending(3, 0, 1, 1), 0)
            held.settle(SMALL, 0)
            await until(lambda: not store.late)
            assert fake.steps[1][1:] == [b"settle", b"me", b"1", b"[3,0,1,1,0,0]", b""]
            assert store.slots.outstanding == 0

    play(scene)


def test_a_slot_that_is_kept_needs_both(tmp_path: Path) -> None:
    """The server's word, and that the record is written, in either order."""

    async def scene() -> None:
        async with opened(tmp_path, by_step(reserve=RESERVED, settle=DONE)) as (_, store):
            for forget_first in (True, False):
                held = await store.reserve(ASKED, SMALL)
                assert not isinstance(held, Refusal)
                held.settle(SMALL, 0, keep=True)
                assert state(store, held.slot) == Slot.SETTLING
                if forget_first:
                    held.forget()
                await until(lambda: not store.late)
                if not forget_first:
                    assert state(store, held.slot) == Slot.SETTLED
                    held.forget()
                assert store.slots.outstanding == 0

    play(scene)


def test_a_refusal_holds_nothing(tmp_path: Path) -> None:
    """It tells how all budgets stand, and there is nothing to settle."""

    async def scene() -> None:
        async with opened(tmp_path, by_step(reserve=REFUSED)) as (_, store):
            refused = await store.reserve(ASKED, SMALL)
            assert isinstance(refused, Refusal)
            assert [stands.remaining for stands in refused.standings] == [1]
            assert (store.slots.outstanding, store.late) == (0, 0)

    play(scene)


@pytest.mark.parametrize("reply", [bulk(b"2 1700000000000000 0"), bulk(b"0 1700000000000000 0 0 0 0 0 0 0 0 0 0 0")])
def test_an_answer_that_makes_no_sense_is_no_admission(tmp_path: Path, reply: bytes) -> None:
    """A server that gave it up, or refuses what fits."""

    async def scene() -> None:
        async with opened(tmp_path, by_step(reserve=reply)) as (_, store):
            with pytest.raises(RequestError) as caught:
                await store.reserve(ASKED, SMALL)
            assert (caught.value.code, store.slots.outstanding) == ("budgets_unreachable", 0)

    play(scene)


def test_what_may_have_been_reserved_is_given_back_with_its_claims(tmp_path: Path) -> None:
    """After a late reply, and after a client that left while it waited."""

    async def scene() -> None:
        async with opened(tmp_path, by_step(settle=DONE)) as (fake, store):
            with pytest.raises(RequestError) as caught:
                await store.reserve(ASKED, SMALL)
            assert (caught.value.code, caught.value.status) == ("budgets_unreachable", 503)
            leaving = asyncio.ensure_future(store.reserve(ASKED, SMALL))
            await asyncio.sleep(0.01)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            await until(lambda: not store.late)
            settled = [step for step in fake.steps if step[1] == b"settle"]
            assert [step[4] for step in settled] == [b"[0,0,0,0,0,0]"] * 2
            assert all(step[5].startswith(b"[[") for step in settled)
            assert store.slots.outstanding == 0

    play(scene)


def test_without_its_server_a_worker_goes_on_with_its_share(tmp_path: Path) -> None:
    """A third of what was left; what it takes is settled with its claims when the server is back."""

    async def scene() -> None:
        async with opened(tmp_path, by_step(reserve=RESERVED, settle=DONE), goes_on=True) as (fake, store):
            first = await store.reserve(ASKED, SMALL)
            assert not isinstance(first, Refusal)
            store.link.breaker.open()
            shared = await store.reserve(ASKED, Spending(20, 0, 10, 1))
            assert not isinstance(shared, Refusal)
            assert [stands.remaining for stands in shared.standings()] == [1]
            assert isinstance(await store.reserve(ASKED, SMALL), Refusal)
            shared.settle(Spending(20, 0, 0, 1), 0)
            store.link.breaker.close()
            store.settle_late()
            await until(lambda: not store.late)
            charged = [step for step in fake.steps if step[1] == b"settle" and step[4] == b"[20,0,0,1,0,0]"]
            assert [step[5][:2] for step in charged] == [b"[["]

    play(scene)


@pytest.mark.parametrize("is_known_away", [True, False])
def test_a_refusal_of_the_share_waits_for_the_server_only_if_it_was_asked(tmp_path: Path, is_known_away: bool) -> None:
    """However long the server is away, requests that nobody asked it about leave nothing behind."""

    async def scene() -> None:
        async with opened(tmp_path, by_step(), goes_on=True) as (_, store):
            if is_known_away:
                store.link.breaker.open()
            assert isinstance(await store.reserve(ASKED, Spending(1000, 0, 0, 1)), Refusal)
            left = 0 if is_known_away else 1
            assert (store.slots.outstanding, store.late) == (left, left)

    play(scene)


def test_without_its_server_a_worker_refuses_where_it_must(tmp_path: Path) -> None:
    """At once, and nothing is written down for it; what no budget counts goes on."""

    async def scene() -> None:
        async with opened(tmp_path, by_step()) as (_, store):
            store.link.breaker.open()
            with pytest.raises(RequestError):
                await store.reserve(ASKED, SMALL)
            assert store.slots.outstanding == 0
            free = store.enter(b"label")
            assert store.slots.outstanding == 1
            free.settle(SMALL, 0, keep=True)
            free.forget()
            assert (store.slots.outstanding, store.late) == (0, 0)

    play(scene)


@pytest.mark.parametrize(("reply", "fits"), [(DONE, True), (UNKNOWN, False), (None, False)])
def test_more_is_asked_for_while_the_answer_comes(tmp_path: Path, reply: bytes | None, fits: bool) -> None:
    """Who asked is told, after the deadline too."""

    async def scene() -> None:
        async with opened(tmp_path, by_step(reserve=RESERVED, extend=reply, settle=DONE)) as (_, store):
            held = await store.reserve(ASKED, SMALL)
            assert not isinstance(held, Refusal)
            told: list[bool] = []
            assert held.extend(Spending(0, 0, 9), 0, told.append) is None
            await until(lambda: told)
            assert (told, held.covered_tokens) == ([fits], 11 if fits else 2)
            held.release(0)
            assert held.extend(Spending(0, 0, 9), 0, told.append) is False

    play(scene)


def test_more_of_a_share_is_known_at_once(tmp_path: Path) -> None:
    """As long as the policy lets us go on."""
    asked = claims(window("w", 100, 10**15, stops=True))

    async def scene() -> None:
        async with opened(tmp_path, by_step(settle=DONE), goes_on=True) as (_, store):
            store.link.breaker.open()
            held = await store.reserve(asked, Spending(10, 0, 10, 1))
            assert not isinstance(held, Refusal)
            assert held.extend(Spending(0, 0, 10), 0, lambda fits: None) is True
            assert held.extend(Spending(0, 0, 10), 0, lambda fits: None) is False
            assert (held.covered_tokens, held.needs) == (20, [30])

    play(scene)


def test_its_row_is_let_go_at_the_end(tmp_path: Path) -> None:
    """After everything else."""

    async def scene() -> None:
        lock = Lock()
        async with serving(by_step()) as fake:
            store = ValkeyStore(fake.address, "me", tmp_path / "shared.worker-0", lambda: False, lock)
            store.close()
            assert lock.closed

    play(scene)
