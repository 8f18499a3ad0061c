"""The decision as a table."""

import json
from random import Random

import pytest
from hypothesis import given, settings

from gpubalancer.brain.choose import choose
from gpubalancer.brain.cost import Terms
from gpubalancer.brain.explain import Evidence, Explanation, explain
from gpubalancer.brain.live import Live
from gpubalancer.brain.method import Method
from gpubalancer.domain.work import Work
from tests.brain.economies import Case, cases, fleet, live, method, request, row

SLO = {"ttft": "2s", "tpot": "100ms"}
ROWS = [row("h100"), row("a100"), row("l40s"), row("cpu")]


def table(work: Work, state: Live, how: Method, waited_s: float = 0.0) -> Explanation:
    """What was chosen of four backends, the first of which alone is cleared for tier 1, and why."""
    four = fleet(4, clearance=[1, 0, 0, 0])
    choice = choose(four, work, state, None, Random(1), how, waited_s)
    return explain(Evidence(four, work, state, None, how, waited_s, choice), "f00")


def test_the_json() -> None:
    """The shape that programs rely on."""
    state = live([64, 0, 3, 0], draining=[False, False, False, True], prefill_tokens=[0, 0, 3000, 0])
    shown = json.loads(json.dumps(table(request(1000, 200), state, method(ROWS, slo=SLO)).to_json()))
    assert (shown["choice"], shown["reason"], shown["policy"]) == ("b1", "the least cost", "f00")
    assert [(each["name"], each["dropped"]) for each in shown["backends"]] == [
        ("b0", "slots"), ("b1", None), ("b2", "slo"), ("b3", "draining"),
    ]  # fmt: skip
    assert set(shown["backends"][1]["terms"]) == set(Terms._fields)
    assert shown["backends"][3]["terms"] == {}
    assert shown["backends"][3]["total_s"] is None
    assert shown["work"]["prompt_tokens"] == 1000
    assert shown["margin_s"] is None


@pytest.mark.parametrize(
    ("tier", "in_flight", "queued", "waited_s", "expected"),
    [
        (1, [0, 0, 0, 0], 0, 0.0, "the only one that may serve this and is fit to"),
        (2, [0, 0, 0, 0], 0, 0.0, "no backend may serve this or is fit to"),
        (0, [9, 9, 9, 9], 50_000, 0.0, "waits until one is free and keeps the SLO"),
        (0, [9, 9, 9, 9], 50_000, 3.0, "the SLO can no longer be met; worth another try in 21 s"),
        (0, [9, 9, 9, 0], 50_000, 3.0, "none keeps the SLO, and this one is idle"),
    ],
)
def test_the_reason(tier: int, in_flight: list[int], queued: int, waited_s: float, expected: str) -> None:
    """Why it was chosen, or why none was."""
    state = live(in_flight, prefill_tokens=[queued] * 4)
    assert table(request(1000, 200, tier), state, method(ROWS, slo=SLO), waited_s).reason == expected


def test_money_decides_in_frugal_mode() -> None:
    """Where prices decide, the table says so, and the margin in seconds may be below zero."""
    rows = [row("h100", usd_per_s=1e-3), row("a100", usd_per_s=1e-4), row("l40s", usd_per_s=1e-3), row("cpu")]
    state = live([0, 0, 0, 0], up=[True, True, True, False])
    shown = table(request(1000, 200), state, method(rows, mode="frugal", slo=SLO))
    assert (shown.choice, shown.reason) == ("b1", "the least money of those that keep the SLO")
    assert shown.margin_s is not None
    assert shown.margin_s < 0


@settings(max_examples=100)
@given(cases(most=20))
def test_the_table_agrees_with_the_decision(case: Case) -> None:
    """Whoever was chosen is not dropped, terms add up to the total, and JSON and text can be made of it."""
    choice = choose(case.fleet, case.work, case.live, case.tried, Random(case.seed), case.method, case.waited_s)
    evidence = Evidence(case.fleet, case.work, case.live, case.tried, case.method, case.waited_s, choice)
    shown = explain(evidence, "f00")
    assert shown.choice == (None if choice.index is None else case.fleet.names[choice.index])
    for index, each in enumerate(shown.rows):
        assert index != choice.index or each.dropped is None
        if each.total_s is not None:
            assert sum(each.terms.values()) == pytest.approx(each.total_s)
    if choice.index is None:
        assert all(each.dropped for each in shown.rows)
    json.dumps(shown.to_json())
