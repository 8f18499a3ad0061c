"""The choice: constraints, admission, the least cost, ties by share of slots and then at random."""

import math
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpubalancer.brain.choose import choose
from gpubalancer.brain.columns import rows_of
from gpubalancer.brain.live import Live
from gpubalancer.brain.reckon import Others
from gpubalancer.brain.verdict import Choice
from gpubalancer.domain.decision import Decision
from gpubalancer.domain.work import Preference, Selection
from tests.brain import policies
from tests.brain.economies import Case, cases, fleet, live, method, method_with, request, row

FLEET = policies.fleet()
LIVE = ("up", "draining", "in_flight", "prefill_tokens", "context_tokens", "cached_tokens", "speed_fraction")
STATIC = ("names", "served", "apis", "kinds", "engines", "hardware", "labels", "claims", "upgrades")


def state(
    up: tuple[bool, ...] = (True, True, True),
    draining: tuple[bool, ...] = (False, False, False),
    in_flight: tuple[int, ...] = (0, 0, 0),
) -> Live:
    """A state of the three backends of `policies`."""
    return Live(np.array(up), np.array(draining), np.array(in_flight, dtype=np.int32))


def made(case: Case) -> Choice:
    """The choice in a case."""
    return choose(case.fleet, case.work, case.live, case.tried, Random(case.seed), case.method, case.waited_s)


@pytest.mark.parametrize("tokens", [(0, 0), (0, 500), (800, 0), (800, 500)])
def test_equals_are_filled_by_share_of_their_slots(tokens: tuple[int, int]) -> None:
    """Where nothing is known but slots, the backend with the smaller share in use is chosen, whatever the request."""
    work = policies.work()
    work.prompt_tokens, work.output_tokens = tokens
    assert choose(FLEET, work, state(in_flight=(3, 2, 0)), None, Random(1)).index == 0
    assert choose(FLEET, work, state(in_flight=(5, 2, 0)), None, Random(1)).index == 1


def test_equals_spread_as_with_fewest_in_flight() -> None:
    """Requests that stay are spread evenly over equals: no two differ by more than one."""
    count, in_flight, random = 8, np.zeros(8, np.int32), Random(3)
    flags = np.zeros(count, np.bool_)
    for _ in range(100):
        choice = choose(fleet(count), request(900, 200), Live(~flags, flags, in_flight), None, random)
        assert choice.index is not None
        in_flight[choice.index] += 1
        assert in_flight.max() - in_flight.min() <= 1


def test_ties_are_broken_at_random() -> None:
    """Equal backends are chosen about equally often."""
    random = Random(1)
    chosen = Counter(choose(FLEET, policies.work(), state(), None, random).index for _ in range(1000))
    assert set(chosen) == {0, 1}
    assert min(chosen.values()) > 400


def test_near_costs_are_equal_and_others_are_not() -> None:
    """A cost within 3 % of the least gives way to a smaller share of slots, one beyond does not."""
    work = request(1000)
    near, far = row(a1_s=0.41e-3), row(a1_s=0.45e-3)
    for other, expected in ((near, 1), (far, 0)):
        how = method([row(a1_s=0.40e-3), other], weights={"harm": 0})
        assert choose(fleet(2), work, live([1, 0]), None, Random(1), how).index == expected


def test_a_tried_backend_is_left_out() -> None:
    """What has failed this request is not chosen again."""
    tried = np.array([True, False, False])
    assert choose(FLEET, policies.work(), state(in_flight=(0, 3, 0)), tried, Random(1)).index == 1


def test_where_nothing_can_serve_the_reasons_are_told() -> None:
    """Without a candidate, each backend is named the first constraint that dropped it, and waiting will not help."""
    choice = choose(FLEET, policies.work(), state(up=(False, False, True)), None, Random(1))
    assert (choice.index, choice.wait, choice.dropped) == (None, "", ("down", "down", "api"))
    assert not choice.only_full


def test_waiting_helps_only_where_slots_are_missing() -> None:
    """A request is held if a slot would do."""
    assert choose(FLEET, policies.work(), state(in_flight=(8, 4, 0)), None, Random(1)).only_full
    assert choose(FLEET, policies.work(), state(up=(False, True, True), in_flight=(0, 4, 0)), None, Random(1)).only_full
    assert not Decision(0).only_full


def test_a_cached_prefix_is_worth_a_longer_queue() -> None:
    """The backend that has read the prompt before wins over an idle one, until its queue outweighs that."""
    work, how = request(8000, 50), method([row("a100"), row("a100")])
    cached = live([2, 0], cached_tokens=[7500.0, 0.0])
    assert choose(fleet(2), work, cached, None, Random(1), how).index == 0
    busy = live([2, 0], cached_tokens=[7500.0, 0.0], prefill_tokens=[20_000, 0])
    assert choose(fleet(2), work, busy, None, Random(1), how).index == 1


def test_a_throttled_backend_loses_at_once() -> None:
    """Half the clock is twice the cost, before any time was measured."""
    how = method([row("h100"), row("h100")])
    slow = live([0, 4], speed_fraction=[0.5, 1.0])
    assert choose(fleet(2), request(1000, 200), slow, None, Random(1), how).index == 1


def test_a_rule_prefers() -> None:
    """What a rule prefers is taken while it costs less than that much more."""
    work, how = request(100), method([row("h100"), row("cpu")])
    two = fleet(2, kinds=["gpu", "cpu"])
    assert choose(two, work, live([0, 0]), None, Random(1), how).index == 0
    work.preferred = (Preference(Selection(kinds=frozenset({"cpu"})), 10.0),)
    assert choose(two, work, live([0, 0]), None, Random(1), how).index == 1


SLO = {"ttft": "2s", "tpot": "100ms"}


def test_what_would_be_late_is_held() -> None:
    """With an SLO a request waits here while every backend's queue is too long, and goes when one is not."""
    how = method([row("a100"), row("a100")], slo=SLO)
    full = live([5, 5], prefill_tokens=[6000, 7000])
    assert choose(fleet(2), request(500, 100), full, None, Random(1), how).wait == "hold"
    freer = live([5, 5], prefill_tokens=[2000, 7000])
    assert choose(fleet(2), request(500, 100), freer, None, Random(1), how).index == 0


def test_time_already_waited_counts() -> None:
    """What is let in fresh is held after a wait, and refused when no idle backend would be quick enough."""
    how, now = method([row("a100")], slo=SLO), live([3], prefill_tokens=[2000])
    outcomes = [choose(fleet(1), request(500, 100), now, None, Random(1), how, waited) for waited in (0.5, 1.2, 1.9)]
    assert [(outcome.index, outcome.wait) for outcome in outcomes] == [(0, ""), (None, "hold"), (None, "hopeless")]
    assert 1 <= outcomes[2].retry_after_s <= 60


def test_tokens_per_second_of_those_who_run_are_kept() -> None:
    """A batch whose steps are as long as the SLO allows takes no more."""
    how = method([row("cpu", slots=64.0)], slo={"tpot": "100ms"})
    taken = [choose(fleet(1), request(10, 100), live([batch]), None, Random(1), how).index for batch in range(8)]
    assert taken[0] == 0
    assert taken[-1] is None


def test_idle_backends_are_never_refused() -> None:
    """However bad the predictions and long the wait, an idle backend serves."""
    how = method([row("cpu", ttft_ratio=50.0, tpot_ratio=50.0), row("h100")], slo=SLO)
    busy = live([0, 60], prefill_tokens=[0, 50_000])
    for waited_s in (0.0, 1.9, 100.0):
        assert choose(fleet(2), request(20_000, 500), busy, None, Random(1), how, waited_s).index == 0


def test_an_slo_beyond_the_fleet_stops_nobody() -> None:
    """A prompt that even the best idle backend reads too slowly is let in where it is read about as fast."""
    how = method([row("h100"), row("cpu")], slo={"ttft": "100ms"})
    fresh = choose(fleet(2), request(20_000, 10), live([1, 0]), None, Random(1), how)
    assert fresh.index == 0


def test_frugal_takes_the_cheapest_that_keeps_the_slo() -> None:
    """The cheap machine serves while it keeps the SLO, the dear one when it no longer does."""
    rows = [row("h100", usd_per_s=3.2 / 3600), row("l40s", usd_per_s=0.4 / 3600)]
    how, fast = method(rows, mode="frugal", slo=SLO), method(rows, slo=SLO)
    work = request(1000, 200)
    assert choose(fleet(2), work, live([0, 0]), None, Random(1), fast).index == 0
    assert choose(fleet(2), work, live([0, 0]), None, Random(1), how).index == 1
    busy = live([0, 4], prefill_tokens=[0, 4000])
    assert choose(fleet(2), work, busy, None, Random(1), how).index == 0


def test_frugal_packs() -> None:
    """Of equal machines paid by the hour, the busier one is the cheaper one for one request more."""
    rows = [row("h100", usd_per_s=1e-3), row("h100", usd_per_s=1e-3)]
    how = method(rows, mode="frugal", slo=SLO)
    assert choose(fleet(2), request(100, 200), live([1, 0]), None, Random(1), how).index == 0


@settings(max_examples=200)
@given(cases())
def test_no_constraint_is_ever_violated(case: Case) -> None:
    """Whatever the fleet, the request and the telemetry say, who is chosen is cleared, fits, is up and has a slot."""
    choice = made(case)
    fit = _fit(case)
    if choice.index is None:
        # Without an SLO nothing but slots holds a request back.
        assert case.method.slo is not None or not fit
        return
    assert choice.index in fit
    assert choice.wait == ""
    assert choice.forecast is not None
    assert choice.forecast.backend == choice.index


def _fit(case: Case) -> list[int]:
    made, live, work = case.fleet, case.live, case.work
    if work.counted and work.prompt_tokens >= made.contexts.get("m", math.inf):
        return []
    return [
        index
        for index in range(len(made))
        if "m" in made.served[index]
        and "chat" in made.apis[index]
        and (work.kinds is None or made.kinds[index] in work.kinds)
        and work.labels <= made.labels[index]
        and not (work.denied_kinds and made.kinds[index] in (None, *work.denied_kinds))
        and all(made.kinds[index] in selection.kinds for selection in work.required)
        and made.clearance[index] >= case.work.tier
        and live.up[index]
        and not live.draining[index]
        and not (case.tried is not None and case.tried[index])
        and live.in_flight[index] < made.slots[index]
    ]


@settings(max_examples=200)
@given(cases())
def test_an_idle_backend_is_always_taken(case: Case) -> None:
    """A request that some idle backend may serve is neither held nor refused."""
    batches = [case.live.load_of(index).batch for index in range(len(case.fleet))]
    if any(batches[index] == 0 for index in _fit(case)):
        assert made(case).index is not None


@given(cases())
def test_the_same_inputs_give_the_same_choice(case: Case) -> None:
    """The decision is a pure function of its inputs: twice the same, and nothing of them has changed."""
    before = repr((case.live, case.work, case.tried, case.method.economy))
    assert made(case) == made(case)
    assert repr((case.live, case.work, case.tried, case.method.economy)) == before


@settings(max_examples=200)
@given(cases(), st.randoms(use_true_random=False))
def test_the_tier_holds_under_every_permutation(case: Case, random: Random) -> None:
    """However all else is shuffled among the backends, who is chosen is cleared: the clearances stay where they are."""
    order = list(range(len(case.fleet)))
    random.shuffle(order)
    shuffled = _shuffled(case, order)
    assert shuffled.fleet.clearance.tolist() == case.fleet.clearance.tolist()
    for each in (case, shuffled):
        index = made(each).index
        assert index is None or each.fleet.clearance[index] >= each.work.tier


@settings(max_examples=200)
@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_the_backends_does_not_matter(case: Case, random: Random) -> None:
    """With clearances shuffled along, the same is decided: the same wait, or a backend of the same cost."""
    order = list(range(len(case.fleet)))
    random.shuffle(order)
    moved = _shuffled(case, order)
    moved = replace(moved, fleet=replace(moved.fleet, clearance=case.fleet.clearance[order]))
    one, other = made(case), made(moved)
    assert (one.wait, one.index is None) == (other.wait, other.index is None)
    if one.forecast is not None and other.forecast is not None and not case.method.frugal:
        # Costs within 3 % are equal, and chance decides among them.
        least, most = sorted((one.forecast.weight.total_s, other.forecast.weight.total_s))
        assert least >= most - 0.031 * abs(most)


def _shuffled(case: Case, order: list[int]) -> Case:
    """The case with every column but the clearances in another order."""
    rows, made, live = rows_of(case.method.economy), case.fleet, case.live
    columns: dict[str, Any] = {
        name: np.asarray(cells)[order]
        for name in (
            "up",
            "draining",
            "in_flight",
            "prefill_tokens",
            "context_tokens",
            "cached_tokens",
            "speed_fraction",
        )
        if (cells := getattr(live, name)) is not None
    }
    others = live.others and Others(
        live.others.requests[order], live.others.queued_tokens[order], live.others.context_tokens[order]
    )
    static: dict[str, Any] = {name: tuple(getattr(made, name)[index] for index in order) for name in STATIC}
    return replace(
        case,
        fleet=replace(made, slots=made.slots[order], **static, _eligible={}, _preferences={}),
        method=method_with(case.method, [rows[index] for index in order]),
        live=live._replace(**columns, others=others),
        tried=None if case.tried is None else case.tried[order],
    )


@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 63)), min_size=2, max_size=12), st.integers(1, 4000))
def test_equals_are_chosen_in_the_order_of_lmetric(backends: list[tuple[int, int]], prompt_tokens: int) -> None:
    """With identical coefficients and no money or energy the least uncached prefill x batch is chosen, within 3 %."""
    one = row(a0_s=0.0, a1_s=4e-4, a2_s=0.0)
    weights = {"output": 0, "harm": 64, "seconds_per_usd": 0, "seconds_per_joule": 0}
    how = method([one] * len(backends), weights=weights)
    cached = [min(tokens, prompt_tokens) for tokens, _ in backends]
    now = live([batch for _, batch in backends], cached_tokens=[float(tokens) for tokens in cached])
    index = choose(fleet(len(backends)), request(prompt_tokens, 0), now, None, Random(1), how).index
    products = [(prompt_tokens - tokens) * (batch + 1) for tokens, (_, batch) in zip(cached, backends, strict=True)]
    assert index is not None
    assert products[index] <= min(products) * 1.0301
