"""The benchmark of counting: what it sends, how it judges, and that it runs."""

import asyncio
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from bench.classify import SHAPES, SIZES, Case, cases, everything, stepped, summed, worst_bodies, worst_texts
from bench.classify_report import Cost, Hold, markdown, request_us, verdicts
from bench.figures import Spread
from bench.loop_hold import Held
from gpubalancer.brain.content import heavy, read_content


def cost(value: float, size: str = "1 KB", name: str = "chat") -> Cost:
    """The same figure everywhere."""
    each = Spread(value, value, value, 1)
    return Cost(name, size, each, each, each, each)


def hold(step_ms: float) -> Hold:
    """A worst text with a step of this length."""
    return Hold("cl100k_base", "one letter", step_ms, 99.0, 20.0, 125_000)


def test_bodies_have_their_size_and_their_own_text() -> None:
    """Each case's texts are as long as it says, and no two are equal."""
    found = list(cases(2, seed=1))
    assert len(found) == len(SIZES) * (len(SHAPES) + 1)
    for case in found:
        assert len(set(case.bodies)) == 2
        content = read_content(case.api, orjson.loads(case.bodies[0]))
        size = sum(len(text) for message in content.messages for text in message.texts)
        assert size == pytest.approx(SIZES[case.size], abs=550)


def test_a_cached_conversation_grows_by_one_message() -> None:
    """What is sent before is the same conversation without its last message."""
    (case,) = [case for case in cases(1, seed=1) if (case.name, case.size) == ("chat, cached", "10 KB")]
    before, after = (orjson.loads(bodies[0])["messages"] for bodies in (case.earlier, case.bodies))
    assert after[:-1] == before
    assert len(before) > 10


def test_worst_texts_are_a_megabyte() -> None:
    """All but the empty one for comparison, whole or in parts."""
    for name, text in worst_texts().items():
        assert name == "nothing" or len(text.encode()) == pytest.approx(1_000_000, rel=0.3)
    whole, start, parts = (orjson.loads(body)["messages"] for body in worst_bodies("ab" * 5000))
    assert [len(message["content"]) for message in parts] == [4000, 4000, 2000]
    assert whole[-1]["content"] == start[-1]["content"] == "ab" * 5000
    light = list(worst_bodies("\u4e2d" * 300_000))[1]
    assert len(light) > 240_000
    assert not heavy(light)


def test_rounds_are_grouped_by_case() -> None:
    """The median of a case's rounds is what counts."""
    case = Case("chat", "1 KB", "chat", [b"{}"])
    (found,) = summed([(case, (1.0, 2.0, value, 9.0)) for value in (3.0, 5.0, 4.0)])
    assert found.cpu == Spread(4.0, 3.0, 5.0, 3)
    assert (found.name, found.size) == ("chat", "1 KB")


HELD = Held("tiny messages", "read apart", 33_000_000, 200, 1.25, 4.5)


def test_the_longest_hold_of_any_input_is_judged() -> None:
    """By what the loop computed and by what it waited for."""
    assert verdicts([], [], [HELD])[0][2:] == ["4.50", "met"]
    assert verdicts([], [], [HELD, replace(HELD, cpu_ms=5.01)])[0][2:] == ["5.01", "**missed**"]


def test_verdicts() -> None:
    """Cold chats and the longest step are judged, at the limit still met."""
    rows = verdicts([cost(60.0), cost(1000.1, "100 KB"), cost(1e9, "100 KB", "completions")], [hold(1.0), hold(5.1)])
    assert [row[3] for row in rows] == ["met", "met", "**missed**", "**missed**"]
    assert verdicts([], []) == []


def test_share_of_a_whole_request() -> None:
    """The overhead benchmark's median of our rounds, if it was run."""
    points = [
        {"contestant": "gpubalancer", "workload": "unary_1k", "cpu_us": value} for value in (100.0, 300.0, 200.0)
    ] + [{"contestant": "envoy", "workload": "unary_1k", "cpu_us": 1.0}]
    assert request_us(orjson.dumps({"points": points})) == 200.0
    assert request_us(None) is None


def test_the_report() -> None:
    """It tells the command, the machine, the targets, all figures and the share."""
    text = markdown("python -m bench.classify", {"cores": "2"}, [cost(20.0)], [hold(1.5)], [HELD], 200.0)
    for part in ("    python -m bench.classify", "| cores | 2 |", "met", "| chat | 1 KB | 20 |", "1.50 | 99.0", "10%"):
        assert part in text


def test_steps_are_timed() -> None:
    """Each step between two waits is noted, and the result is passed on."""

    class Pause:
        def __await__(self) -> Generator[Any, Any, None]:
            yield

    async def work() -> int:
        await Pause()
        await Pause()
        return 7

    steps_s: list[float] = []

    async def run() -> int:
        return await stepped(work(), steps_s)

    assert asyncio.run(run()) == 7
    assert len(steps_s) == 3


def test_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small run has a figure for every case and every worst text."""
    monkeypatch.setattr("bench.classify.MEGABYTE", 2000)
    monkeypatch.setattr("bench.classify.REPEATS", 1)
    costs, holds = asyncio.run(everything(rounds=1, bodies=1))
    assert len(costs) == len(SIZES) * (len(SHAPES) + 1)
    assert all(each.cpu.median >= each.read.low > 0 for each in costs)
    assert len(holds) == 4 * len(worst_texts())
    assert all(each.tokens > 0 for each in holds)
