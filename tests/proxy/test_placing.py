"""Places: never over slots, evenly spread, and in the order of arrival when all are taken."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpubalancer.board.prefixes import LEAST_BYTES, Prefixes
from gpubalancer.brain.fleet import build_fleet
from gpubalancer.brain.prefix import CacheShares
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Prefix
from gpubalancer.policy.routing import Queue
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.judging import Judge
from gpubalancer.proxy.outlook import FRESH_S
from gpubalancer.proxy.placing import Place, Placer
from tests.proxy.floor import DEADLINE_S, PATIENT, Floor, refusal, run, turns, work


def test_64_simultaneous_requests_on_8_idle_backends(floors: Callable[..., Floor]) -> None:
    """Choosing and taking are one step, so exactly 8 go to each."""
    floor = floors(8, 64)

    async def scene() -> None:
        places = await asyncio.gather(*(floor.place() for _ in range(64)))
        assert Counter(place.index for place in places) == dict.fromkeys(range(8), 8)
        assert floor.in_flight() == [8] * 8

    run(scene())


def test_requests_of_two_workers_spread_too(floors: Callable[..., Floor]) -> None:
    """Workers see one another's slots."""
    floor = floors(4, 64, 2)
    for number in range(32):
        assert isinstance(floor.placers[number % 2].place_nowait(floor.judge, work(), None), Place)
    assert floor.in_flight() == [8] * 4


def test_a_full_fleet_makes_requests_wait_in_order(floors: Callable[..., Floor]) -> None:
    """Slots that come back go to whoever has waited longest, one each, and never more are held than exist."""
    floor = floors(2, 2)
    order: list[int] = []
    places: list[Place] = []

    async def one(number: int) -> None:
        places.append(await floor.place())
        order.append(number)
        assert sum(floor.in_flight()) <= 4

    async def scene() -> None:
        held = [await floor.place() for _ in range(4)]
        tasks = []
        for number in range(10):
            tasks.append(asyncio.ensure_future(one(number)))
            await turns()
        assert (order, floor.placer.waiting) == ([], 10)
        for count in range(1, 5):
            floor.placer.give_back(held.pop())
            await turns()
            assert order == list(range(count))
        while len(order) < 10:
            floor.placer.give_back(places.pop(0))
            await turns()
        await asyncio.gather(*tasks)
        assert order == list(range(10))
        assert floor.placer.waiting == 0
        assert floor.placer._lines == {}

    run(scene())


def test_a_newcomer_does_not_overtake(floors: Callable[..., Floor]) -> None:
    """A slot that is free while others wait goes to the line's head, not to who comes just then."""
    floor = floors(1, 1)
    order: list[str] = []

    async def one(name: str) -> None:
        place = await floor.place()
        order.append(name)
        floor.placer.give_back(place)

    async def scene() -> None:
        held = await floor.place()
        first = asyncio.ensure_future(one("first"))
        await turns()
        floor.placer.give_back(held)
        await asyncio.gather(one("late"), first)
        assert order == ["first", "late"]

    run(scene())


def test_a_cancelled_request_leaves_the_line(floors: Callable[..., Floor]) -> None:
    """A client that leaves while it waits holds nobody up and keeps no slot, even at the very moment of its turn."""
    floor = floors(1, 1)

    async def scene() -> None:
        held = await floor.place()
        first, second = asyncio.ensure_future(floor.place()), asyncio.ensure_future(floor.place())
        await turns()
        floor.placer.give_back(held)
        first.cancel()
        place = await second
        assert first.cancelled()
        assert (floor.in_flight(), floor.placer.waiting) == ([1], 0)
        floor.placer.give_back(place)
        assert floor.in_flight() == [0]

    run(scene())


def test_a_slot_of_another_worker_is_found(floors: Callable[..., Floor]) -> None:
    """Slots that others give back are not announced here, and are found all the same."""
    floor = floors(1, 1, 2)

    async def scene() -> None:
        held = floor.placers[1].place_nowait(floor.judge, work(), None)
        assert isinstance(held, Place)
        waiting = asyncio.ensure_future(floor.place())
        await turns()
        assert not waiting.done()
        held.lease.release()
        assert (await waiting).index == 0

    run(scene())


def test_a_full_queue_refuses_at_once(floors: Callable[..., Floor]) -> None:
    """Beyond the limit a request is told to come back."""
    floor = floors(1, 1)
    short = Queue.model_validate({"limit": 1, "timeout": "60s"})

    async def scene() -> None:
        await floor.place()
        waiting = asyncio.ensure_future(floor.place(short))
        await turns()
        error = await refusal(floor.place(short))
        assert (error.code, error.retry_after_s) == ("overloaded", 1)
        waiting.cancel()
        await turns()
        assert floor.placer.waiting == 0

    run(scene())


def test_waiting_ends_with_the_queues_timeout(floors: Callable[..., Floor]) -> None:
    """After `queue.timeout` a request is refused as overloaded; those behind it go on waiting."""
    floor = floors(1, 1)

    async def scene() -> None:
        await floor.place()
        waiting = asyncio.ensure_future(floor.place(Queue.model_validate({"timeout": "5s"})))
        behind = asyncio.ensure_future(floor.place())
        await turns()
        floor.clock.now_s += 5.1
        error = await refusal(asyncio.wait_for(waiting, DEADLINE_S))
        assert error.code == "overloaded"
        assert not behind.done()
        behind.cancel()
        await turns()

    run(scene())


def test_waiting_ends_with_the_requests_deadline(floors: Callable[..., Floor]) -> None:
    """A deadline that passes in the queue is a timeout."""
    floor = floors(1, 1)

    async def scene() -> None:
        await floor.place()
        waiting = asyncio.ensure_future(floor.place(asked=work(deadline_s=101.0)))
        await turns()
        floor.clock.now_s += 1.5
        assert (await refusal(asyncio.wait_for(waiting, DEADLINE_S))).code == "timed_out"

    run(scene())


def test_where_waiting_cannot_help_nobody_waits(floors: Callable[..., Floor]) -> None:
    """With every backend down, draining or tried, a request is refused at once."""
    floor = floors(2, 1)

    async def scene() -> None:
        rows = list(floor.rows.values())
        floor.board.up[rows[0]], floor.board.draining[rows[1]] = 0, 1
        assert (await refusal(floor.place())).code == "no_backend"
        floor.board.up[rows[0]], floor.board.draining[rows[1]] = 1, 0
        floor.clock.now_s += 1.0
        tried = np.array([True, True])
        error = await refusal(floor.placer.place(floor.judge, work(), tried, PATIENT))
        assert (error.code, error.retry_after_s) == ("no_backend", 2)

    run(scene())


def test_those_who_wait_are_told_when_the_fleet_goes_down(floors: Callable[..., Floor]) -> None:
    """When waiting can help no more, it ends."""
    floor = floors(1, 1)

    async def scene() -> None:
        await floor.place()
        waiting = asyncio.ensure_future(floor.place())
        await turns()
        floor.board.up[floor.rows["b0"]] = 0
        floor.clock.now_s += 1.0
        assert (await refusal(asyncio.wait_for(waiting, DEADLINE_S))).code == "no_backend"

    run(scene())


def test_a_backend_that_failed_is_avoided_not_forbidden(floors: Callable[..., Floor]) -> None:
    """While another one is free the failed one is left alone; alone it is tried."""
    floor = floors(2, 4)
    floor.health.failed(floor.rows["b0"], floor.clock())
    for _ in range(4):
        place = floor.placer.place_nowait(floor.judge, work(), None)
        assert isinstance(place, Place)
        assert place.index == 1
    last = floor.placer.place_nowait(floor.judge, work(), None)
    assert isinstance(last, Place)
    assert last.index == 0


def test_kinds_of_work_wait_in_lines_of_their_own(floors: Callable[..., Floor]) -> None:
    """A request of another tier is not stuck behind one that waits for the same slot."""
    floor = floors(1, 1)

    async def scene() -> None:
        held = await floor.place()
        low, high = asyncio.ensure_future(floor.place()), asyncio.ensure_future(floor.place(asked=work(tier=1)))
        await turns()
        assert len(floor.placer._lines) == 2
        floor.placer.give_back(held)
        done, _ = await asyncio.wait((low, high), return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == 1
        floor.placer.give_back(done.pop().result())
        await asyncio.gather(low, high)
        assert floor.in_flight() == [1]

    run(scene())


def test_a_clearance_that_is_taken_away_holds_for_who_waits(floors: Callable[..., Floor]) -> None:
    """When a newer policy lowers or removes what a request waits for, it goes elsewhere, or is refused."""
    floor = floors(2, 1)
    judges = [_judge(floor, *clearances) for clearances in (("internal",) * 2, ("public", "internal"), ("public",) * 2)]

    async def scene() -> None:
        held = [await floor.placer.place(judges[0], work(tier=1), None, PATIENT) for _ in range(2)]
        held.sort(key=lambda place: place.index)
        waiting = [asyncio.ensure_future(floor.placer.place(judges[0], work(tier=1), None, PATIENT)) for _ in range(2)]
        await turns()
        floor.placer.newest = judges[1]
        floor.placer.give_back(held[0])
        await turns()
        assert not any(each.done() for each in waiting)
        floor.placer.give_back(held[1])
        assert (await waiting[0]).index == 1
        floor.placer.newest = judges[2]
        with pytest.raises(RequestError, match="No backend"):
            await waiting[1]

    run(scene())


def _judge(floor: Floor, *clearances: str) -> Judge:
    """The floor's two backends with other clearances."""
    backends = [
        {
            "name": f"b{number}",
            "url": f"http://127.0.0.1:{9000 + number}",
            "models": ["llama"],
            "slots": 1,
            "clearance": each,
        }
        for number, each in enumerate(clearances)
    ]
    policy = Policy.model_validate({"tiers": [{"name": "public"}, {"name": "internal"}], "backends": backends})
    return Judge(policy, build_fleet(policy, floor.rows, {}))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.lists(st.integers(0, 9), max_size=40))
def test_never_over_slots(
    tmp_path_factory: pytest.TempPathFactory, backends: int, slots: int, steps: list[int]
) -> None:
    """Requests that come, leave and finish in any order never hold more than a backend's slots, and lose none."""
    floor = Floor(tmp_path_factory.mktemp("floor"), backends, slots)

    async def scene() -> None:
        tasks: list[asyncio.Task[Place]] = []
        for step in steps:
            if step < 6:
                tasks.append(asyncio.ensure_future(floor.place()))
            elif tasks:
                task = tasks.pop(step % len(tasks))
                if task.done():
                    floor.placer.give_back(task.result())
                else:
                    task.cancel()
            await turns(step % 3)
            assert max(floor.in_flight()) <= slots
        await turns(10)
        assert sum(floor.in_flight()) == sum(task.done() for task in tasks) == min(len(tasks), backends * slots)
        while tasks:
            floor.placer.give_back(await tasks.pop(0))
        assert sum(floor.in_flight()) == floor.placer.waiting == 0

    run(scene())
    floor.close()


def test_the_picture_of_the_fleet_is_renewed(floors: Callable[..., Floor]) -> None:
    """What goes down is chosen no more once `FRESH_S` have passed, while slots are read anew each time."""
    floor = floors(2, 1)
    floor.board.up[floor.rows["b0"]] = 0
    floor.clock.now_s += FRESH_S * 1.01
    place = floor.placer.place_nowait(floor.judge, work(), None)
    assert isinstance(place, Place)
    assert place.index == 1
    assert not isinstance(floor.placer.place_nowait(floor.judge, work(), None), Place)


def test_a_prompt_goes_to_who_has_read_its_beginning(floors: Callable[..., Floor], tmp_path: Path) -> None:
    """Once an answer has begun, by any worker's choice; its weight there is what is left to read."""
    floor = floors(4, 64, 2)
    table, shares = Prefixes.create(tmp_path / "prefixes", LEAST_BYTES, floor.board), CacheShares()
    placers = [Placer(floor.board, own, floor.health, floor.clock, Random(7), table, shares) for own in floor.slots]
    asked = work()
    asked.prompt_tokens, asked.prefix = 10_000, Prefix((1 << 40, 2 << 40), (256, 512), 512)
    first = placers[0].place_nowait(floor.judge, asked, None)
    assert isinstance(first, Place)
    assert first.foreseen_tokens == 0.0
    placers[0].began(first, asked)
    placers[0].give_back(first)
    for placer in placers * 3:
        place = placer.place_nowait(floor.judge, asked, None)
        assert isinstance(place, Place)
        assert (place.index, place.foreseen_tokens) == (first.index, 10_000.0)
        assert floor.board.prefill_tokens[:, place.lease.row].sum() == 1
        placer.give_back(place)
    placers[1].learn(replace(first, foreseen_tokens=10_000.0), "b0", 5_000)
    assert shares.share("b0") == pytest.approx((2_000 * 0.75 + 5_000) / (2_000 * 0.75 + 10_000))


def test_an_adapter_goes_to_who_has_it_loaded(floors: Callable[..., Floor], tmp_path: Path) -> None:
    """By as many seconds as loading it takes: an idle backend is taken all the same where that one is long busy."""
    floor = floors(4, 64)
    floor.judge.fleet = replace(floor.fleet, adapters=frozenset({"llama"}))
    table = Prefixes.create(tmp_path / "prefixes", LEAST_BYTES, floor.board)
    placer = Placer(floor.board, floor.slots[0], floor.health, floor.clock, Random(7), table)
    asked = work()
    asked.prompt_tokens, asked.output_tokens = 1_000, 200
    first = placer.place_nowait(floor.judge, asked, None)
    assert isinstance(first, Place)
    placer.began(first, asked)
    placer.give_back(first)
    for _ in range(6):
        place = placer.place_nowait(floor.judge, asked, None)
        assert isinstance(place, Place)
        assert place.index == first.index
        placer.give_back(place)
    places = [placer.place_nowait(floor.judge, asked, None) for _ in range(64)]
    assert {place.index for place in places if isinstance(place, Place)} == {0, 1, 2, 3}
