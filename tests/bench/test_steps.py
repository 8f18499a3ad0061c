"""The step-level simulation: what arrives is judged once, and the policies are what they are called."""

from collections import Counter
from typing import get_args

import pytest

from bench.fleets import FLEETS, Simulated
from bench.steps import Policy, Stage, stage
from bench.traces import Arrival

PAIR = (Simulated("a", "h100"), Simulated("b", "l40s"))


def steady(count: int, gap_s: float) -> list[Arrival]:
    """Chats of 500 tokens with answers of 20, evenly spaced."""
    return [Arrival(number * gap_s, 500, 20) for number in range(count)]


@pytest.mark.parametrize("policy", get_args(Policy))
def test_everybody_is_well_served_without_load(policy: Policy) -> None:
    """One request a second on two GPUs keeps the SLO whatever the policy; the first two seconds do not count."""
    played = stage(PAIR, policy, warm_s=2.0)
    assert played.play(steady(10, 1.0)) == 1.0
    assert (played.judged, played.good, played.refused) == (8, 8, 0)


def test_nothing_is_left_behind() -> None:
    """After the end no slot is taken and nothing waits."""
    played = stage(PAIR, "choice")
    played.play(steady(40, 0.05))
    assert (played.in_flight, played.queued, played.context) == ([0, 0], [0, 0], [0, 0])
    assert not played.line
    assert not played.sent


@pytest.mark.parametrize("policy", ["round robin", "random", "least in flight"])
def test_the_simple_ones_go_by_slots(policy: Policy) -> None:
    """A machine of four slots gets far less than one of 256; round robin exactly its share."""
    played = stage(FLEETS["mixed"], policy)
    sent: Counter[str] = Counter()
    for _ in range(1948):
        index = played._simple()
        sent[played.machines[index].name] += 1
        played.in_flight[index] += 1
    assert sent["h100-1"] > 20 * sent["cpu-1"]
    if policy == "round robin":
        assert [sent[each.name] for each in played.machines] == [
            pytest.approx(1948 * each.slots / _slots(played), abs=1) for each in played.machines
        ]


def _slots(played: Stage) -> int:
    return sum(each.slots for each in played.machines)


def test_the_choice_learns_and_the_oracle_need_not() -> None:
    """After a while the choice reckons with other speeds than the class's; the oracle has the engines' own at once."""
    choice, oracle = stage(PAIR, "choice"), stage(PAIR, "oracle")
    claimed = choice.method.economy.a1_s.tolist()
    known = oracle.method.economy.a1_s.tolist()
    for played in (choice, oracle):
        played.play(steady(60, 0.1))
    assert choice.method.economy.a1_s.tolist() != claimed
    assert oracle.method.economy.a1_s.tolist() == known == [0.15e-3, 0.65e-3]
