"""The report of counts says what was met and missed, and where."""

import pytest

from bench.counts_report import Learned, Served, Vocabulary, quantile, report

GOOD = Served("vLLM, good", 10, 10, 1000, 400, {}, {"tools": 4, "name": 2}, {}, {})
BAD = Served("vLLM, bad", 10, 8, 900, 300, {"longer than the context": 3}, {"tools": 4}, {"tools": 2}, {-5: 1, 2: 1})
FAIR = Learned([0.5] * 200 + [0.03, -0.05] * 50, 5000, {}, {"english": (90, 0.04)})


def test_targets() -> None:
    """Every count must be exact, every text the same, and the median of the learned ones small after 200 requests."""
    text = report([GOOD, BAD], FAIR, [Vocabulary("qwen3", "its own", 7, 7, 70)], {"cores": "2"}, "--count 10")
    assert "| vLLM, good: exact | all | 10 of 10 | met |" in text
    assert "| vLLM, bad: exact | all | 8 of 10 | **missed** |" in text
    assert "after 200 requests | <= 10% | 4.0% | met |" in text
    assert "| qwen3: same tokens | all | 7 of 7 | met |" in text
    poor = Learned([0.2] * 250, 5000, {}, {})
    assert "| <= 10% | 20.0% | **missed** |" in report([], poor, [], {}, "")


def test_wrong_counts_are_told() -> None:
    """By how much, and in which conversations; and what was refused."""
    text = report([GOOD, BAD], FAIR, [], {}, "")
    assert "| vLLM, bad | 10 | 8 | -5 (1 x), 2 (1 x) | 900 | 300 | longer than the context (3 x) |" in text
    assert "| tools | 0 of 4 | 2 of 4 |" in text
    assert "| name | 0 of 2 | 0 of 0 |" in text


def test_what_was_not_run() -> None:
    """A report without vLLM says so, and one of few requests has no target for what is learned."""
    text = report([], Learned([0.1] * 20, 100, {"400: bad": 1}, {}), [], {}, "")
    assert "vLLM was not asked for" in text
    assert "median error after" not in text
    assert "refused: 400: bad (1 x)" in text


def test_errors_by_hundreds() -> None:
    """Each hundred has its median, its nine tenths, its greatest, and the median with its sign."""
    text = report([], FAIR, [], {}, "")
    assert "| 1 to 100 | 50.0% | 50.0% | 50.0% | +50.0% |" in text
    assert "| 201 to 300 | 4.0% | 5.0% | 5.0% | -1.0% |" in text
    assert "| english | 90 | 4.0% |" in text


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 3), (0.9, 4), (1.0, 4)])
def test_quantiles(share: float, value: float) -> None:
    """The value at a share of the ranks."""
    assert quantile([4, 2, 1, 3], share) == value
