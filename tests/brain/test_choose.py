"""The choice: constraints first, then the least share of slots in use, ties at random."""

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.choose import Live, choose, explain
from gpubalancer.domain.decision import Decision
from tests.brain.policies import fleet, work

FLEET = fleet()


def live(
    up: tuple[bool, ...] = (True, True, True),
    draining: tuple[bool, ...] = (False, False, False),
    in_flight: tuple[int, ...] = (0, 0, 0),
) -> Live:
    """A state of the three backends."""
    return Live(np.array(up), np.array(draining), np.array(in_flight, dtype=np.int32))


def test_the_least_share_of_slots_wins() -> None:
    """The backend with the smaller share of its slots in use is chosen, not the one with fewer requests."""
    assert choose(FLEET, work(), live(in_flight=(3, 2, 0)), None, Random(1)).index == 0
    assert choose(FLEET, work(), live(in_flight=(5, 2, 0)), None, Random(1)).index == 1


def test_ties_are_broken_at_random() -> None:
    """Equal backends are chosen about equally often."""
    random = Random(1)
    chosen = Counter(choose(FLEET, work(), live(), None, random).index for _ in range(1000))
    assert set(chosen) == {0, 1}
    assert min(chosen.values()) > 400


def test_a_tried_backend_is_left_out() -> None:
    """What has failed this request is not chosen again."""
    tried = np.array([True, False, False])
    assert choose(FLEET, work(), live(in_flight=(0, 3, 0)), tried, Random(1)).index == 1


@pytest.mark.parametrize(
    ("state", "tried", "reasons"),
    [
        (live(up=(False, True, True), in_flight=(0, 4, 0)), None, ("down", "slots", "api")),
        (live(draining=(True, True, False)), None, ("draining", "draining", "api")),
        (live(up=(False, False, True), draining=(True, False, False)), None, ("down", "down", "api")),
        (live(in_flight=(8, 4, 0)), (True, False, False), ("tried", "slots", "api")),
    ],
)
def test_the_first_constraint_is_the_reason(
    state: Live, tried: tuple[bool, ...] | None, reasons: tuple[str, ...]
) -> None:
    """Without a choice, each backend is named the first constraint that dropped it."""
    flags = None if tried is None else np.array(tried)
    decision = choose(FLEET, work(), state, flags, Random(1))
    assert (decision.index, decision.dropped) == (None, reasons)


def test_waiting_helps_only_where_slots_are_missing() -> None:
    """`only_full` is true if a slot would do, and false if nothing could serve."""
    assert choose(FLEET, work(), live(in_flight=(8, 4, 0)), None, Random(1)).only_full
    assert choose(FLEET, work(), live(up=(False, True, True), in_flight=(0, 4, 0)), None, Random(1)).only_full
    assert not choose(FLEET, work(), live(up=(False, False, True)), None, Random(1)).only_full
    assert not Decision(0).only_full


STATES = st.tuples(st.booleans(), st.booleans(), st.integers(0, 9), st.booleans())


@given(st.lists(STATES, min_size=3, max_size=3), st.integers(0, 2), st.integers())
def test_a_choice_fulfils_every_constraint(states: list[tuple[bool, bool, int, bool]], tier: int, seed: int) -> None:
    """Whatever the state, the chosen one is up, free, cleared, untried and of least share; else none fits."""
    up, draining, in_flight, tried = (np.array(column) for column in zip(*states, strict=True))
    now = Live(up, draining, in_flight.astype(np.int32))
    asked = work(tier=tier)
    decision = choose(FLEET, asked, now, tried, Random(seed))
    reasons = explain(FLEET, asked, now, tried)
    fit = [index for index, reason in enumerate(reasons) if reason is None]
    if decision.index is None:
        assert fit == []
        assert decision.dropped == tuple(reasons)
        return
    chosen = decision.index
    assert chosen in fit
    assert up[chosen]
    assert not draining[chosen]
    assert not tried[chosen]
    assert in_flight[chosen] < FLEET.slots[chosen]
    assert FLEET.clearance[chosen] >= tier
    share = in_flight / FLEET.slots
    assert share[chosen] == min(share[index] for index in fit)
