"""A tenant's question for its own usage, on its way to the supervisor and back."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import pytest

from gpubalancer.domain.errors import RequestError
from gpubalancer.proxy import usage_desk
from gpubalancer.proxy.channel import Message
from gpubalancer.proxy.usage_desk import MOST_WAITING, UsageDesk
from gpubalancer.wire.target import read_target
from tests.proxy.office import Office, client, play

PLAIN = read_target(b"/v1/usage")


def run(scene: Callable[[UsageDesk, list[Message]], Awaitable[None]]) -> None:
    """Play a scene with a desk and what it has told its supervisor."""

    async def play_it() -> None:
        told: list[Message] = []
        await scene(UsageDesk(told.append), told)

    asyncio.run(play_it())


async def failure(asking: Awaitable[object]) -> RequestError:
    """How a question ends that is not answered."""
    with pytest.raises(RequestError) as caught:
        await asking
    return caught.value


def test_a_question_is_passed_on_and_its_answer_comes_back() -> None:
    """For the tenant that asks; each answer to its own question."""

    async def scene(desk: UsageDesk, told: list[Message]) -> None:
        first = asyncio.create_task(desk.answer("acme", PLAIN))
        second = asyncio.create_task(desk.answer("other", read_target(b"/v1/usage?by=day&since=7d&tenant=acme")))
        await asyncio.sleep(0)
        assert told == [
            {"kind": "usage", "number": 1, "tenant": "acme", "by": "model", "since": None},
            {"kind": "usage", "number": 2, "tenant": "other", "by": "day", "since": "7d"},
        ]
        desk.hear({"number": 2, "report": {"rows": [2]}})
        desk.hear({"number": 1, "report": {"rows": [1]}})
        desk.hear({"number": 1, "report": {"rows": [3]}})
        assert [orjson.loads((await each)[1]) for each in (first, second)] == [{"rows": [1]}, {"rows": [2]}]

    run(scene)


def test_a_question_that_makes_no_sense_is_the_clients_fault() -> None:
    """What was expected is said."""

    async def scene(desk: UsageDesk, told: list[Message]) -> None:
        asking = asyncio.create_task(desk.answer("acme", read_target(b"/v1/usage?by=wine")))
        await asyncio.sleep(0)
        desk.hear({"number": 1, "code": "invalid_query", "message": "wine: expected some of day"})
        error = await failure(asking)
        assert (error.status, error.message) == (400, "wine: expected some of day")

    run(scene)


def test_without_a_supervisor_nobody_waits() -> None:
    """Those who wait when it goes are told so, and those who come after."""

    async def scene(desk: UsageDesk, told: list[Message]) -> None:
        asking = asyncio.create_task(desk.answer("acme", PLAIN))
        await asyncio.sleep(0)
        desk.close()
        for each in (asking, desk.answer("acme", PLAIN)):
            assert (await failure(each)).code == "usage_unavailable"

    run(scene)


def test_a_supervisor_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the client is told to come back."""
    monkeypatch.setattr(usage_desk, "ANSWER_S", 0.01)

    async def scene(desk: UsageDesk, told: list[Message]) -> None:
        error = await failure(desk.answer("acme", PLAIN))
        assert (error.status, error.code, error.retry_after_s) == (503, "usage_unavailable", 5)

    run(scene)


def test_only_so_many_may_ask_at_one_time() -> None:
    """One tenant's curiosity is not to keep the ledger from its work."""

    async def scene(desk: UsageDesk, told: list[Message]) -> None:
        asking = [asyncio.create_task(desk.answer("acme", PLAIN)) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        assert (await failure(desk.answer("acme", PLAIN))).code == "overloaded"
        asking[0].cancel()
        await asyncio.wait(asking[:1])
        asking.append(asyncio.create_task(desk.answer("acme", PLAIN)))
        await asyncio.sleep(0)
        assert len(told) == MOST_WAITING + 1
        desk.close()
        await asyncio.gather(*asking, return_exceptions=True)

    run(scene)


def test_a_worker_answers_with_what_its_supervisor_says(tmp_path: Path) -> None:
    """The path is served to whoever has a key, and recorded as a request that takes nothing."""

    async def scene(office: Office) -> None:
        async with client(office) as one:
            await office.hand(office.policy("a"))
            one.send(target="/v1/usage?by=day")
            await office.hear(lambda: any(message["kind"] == "usage" for message in office.messages))
            (question,) = [message for message in office.messages if message["kind"] == "usage"]
            assert (question["tenant"], question["by"]) == ("anonymous", "day")
            office.channel.send({"kind": "usage", "number": question["number"], "report": {"rows": []}})
            answer = await one.answer()
        assert (answer.status, answer.body) == (200, b'{"rows":[]}')
        ((outcome, spending, _),) = office.notebook.lines
        assert (outcome.api, outcome.status, any(spending)) == ("usage", 200, False)

    play(tmp_path, scene)
