"""Classes in the line, what is refused for good, and what requests weigh."""

import asyncio
from collections.abc import Callable

from gpubalancer.domain.work import Priority
from gpubalancer.proxy.placing import RETRY_NO_BACKEND_S
from tests.proxy.floor import Floor, refusal, run, turns, work


def test_a_higher_class_goes_first_and_a_class_keeps_its_order(floors: Callable[..., Floor]) -> None:
    """Who came later with a higher class is served before all lower ones, and after its own."""
    floor = floors(1, 1)
    order: list[str] = []

    async def one(name: str, priority: Priority) -> None:
        asked = work()
        asked.priority = priority
        place = await floor.place(asked=asked)
        order.append(name)
        floor.placer.give_back(place)

    async def scene() -> None:
        held = await floor.place()
        tasks = []
        for name, priority in (
            ("batch 1", Priority.BATCH),
            ("standard 1", Priority.STANDARD),
            ("interactive 1", Priority.INTERACTIVE),
            ("standard 2", Priority.STANDARD),
            ("interactive 2", Priority.INTERACTIVE),
        ):
            tasks.append(asyncio.ensure_future(one(name, priority)))
            await turns()
        floor.placer.give_back(held)
        await asyncio.gather(*tasks)
        assert order == ["interactive 1", "interactive 2", "standard 1", "standard 2", "batch 1"]

    run(scene())


def test_what_no_time_heals_need_not_be_asked_again(floors: Callable[..., Floor]) -> None:
    """A model that nobody serves comes without `Retry-After`; a backend that is down comes with it."""
    floor = floors(1, 1)

    async def scene() -> None:
        lasting = await refusal(floor.place(asked=work(model="other")))
        assert (lasting.code, lasting.retry_after_s) == ("no_backend", None)
        floor.board.up[:] = 0
        floor.clock.now_s += 1
        passing = await refusal(floor.place())
        assert (passing.code, passing.retry_after_s) == ("no_backend", RETRY_NO_BACKEND_S)

    run(scene())


def test_what_a_request_weighs_goes_with_it(floors: Callable[..., Floor]) -> None:
    """Its tokens stand on the board while it is there."""
    floor = floors(1, 4)

    async def scene() -> None:
        asked = work()
        asked.prompt_tokens, asked.output_tokens = 1000, 200
        place = await floor.place(asked=asked)
        row = floor.rows["b0"]
        assert int(floor.board.all_of("prefill_tokens")[:, row].sum()) == 1000
        assert int(floor.board.all_of("context_tokens")[:, row].sum()) == 1100
        floor.placer.give_back(place)
        assert int(floor.board.all_of("context_tokens")[:, row].sum()) == 0

    run(scene())
