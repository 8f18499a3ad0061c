"""The placement report: means, intervals, and ours against the best other."""

import pytest

from bench.openloop import Told
from bench.peers import OURS
from bench.placement_cells import Cell
from bench.placement_report import TARGETS, Findings, Target, interval, markdown


def cell(load: str, contestant: str, seed: int, good: int) -> Cell:
    """A result of ten requests."""
    return Cell("mixed", load, "mixed", "t.csv", contestant, "", 5.0, seed, Told(judged=10, good=good))


def test_an_interval_is_students() -> None:
    """For five values half of it is 2.78 standard errors; one value has none."""
    found = interval([0.8, 0.9, 1.0, 0.9, 0.9])
    assert found.mean == pytest.approx(0.9)
    assert found.half == pytest.approx(2.78 * 0.0707107 / 5**0.5)
    assert str(interval([0.5])) == "0.500 ± 0.000"


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        (Target(1.5), "at least 1.5 x: met"),
        (Target(1.5, 0.9), "at least 1.5 x and 0.9: **missed**"),
        (Target(2.0), "at least 2 x: **missed**"),
        (Target(3.0), "at least 3 x: **missed**, 2.22 x is possible"),
    ],
)
def test_targets_are_judged(monkeypatch: pytest.MonkeyPatch, target: Target, verdict: str) -> None:
    """A missed target says what would be possible where even a goodput of 1 would miss it."""
    monkeypatch.setitem(TARGETS, ("mixed", "100%"), target)
    cells = [cell("100%", OURS, 1, 8), cell("100%", "smg", 1, 4), cell("100%", OURS, 2, 9), cell("100%", "smg", 2, 5)]
    rates = {"mixed": {"100%": 5.0}}
    page = markdown(Findings("x", "now", {}, [], {"mixed": {"least": 5.0}}, rates, {}, [], cells, {}))
    assert f"| wanted | {verdict} |" in page


def test_the_page_holds_ours_against_the_best() -> None:
    """The ratio is to the contestant with the highest mean at that load, with its least and greatest by seed."""
    cells = [cell("100%", OURS, seed, good) for seed, good in enumerate((9, 8))]
    cells += [cell("100%", "smg", seed, good) for seed, good in enumerate((4, 5))]
    cells += [cell("100%", "nginx", seed, 3) for seed in range(2)]
    lines = {"100%": {"oracle": [0.9, 0.95], "random": [0.1, 0.2]}}
    steps, capacities = {"mixed": lines, "code": lines}, {"mixed": {"least": 5.0}, "code": {"least": 3.0}}
    rates = {"mixed": {"100%": 5.0}, "code": {"100%": 3.0}}
    words = {OURS: "slo"}
    found = Findings("python -m x", "now", {"cores": "2"}, ["two seeds"], capacities, rates, words, [], cells, steps)
    page = markdown(found)
    assert "**1.89** [1.60 to 2.25] (smg)" in page
    assert page.count("| oracle | 0.925") == 2
    assert page.count("| on sockets |") == 1
    assert "* two seeds" in page
    assert "`least` is 5 requests per second" in page
