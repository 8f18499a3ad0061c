"""The report's arithmetic: percentiles by rank, medians with their range, ratios taken round by round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import Spread, difference_by_round, percentile, ratio_by_round, spread

SOME = st.lists(st.floats(-1e9, 1e9), min_size=1)


def test_percentile_of_a_hundred_values() -> None:
    """The nearest rank of 1..100 is the percent itself, and the ends are the least and the greatest."""
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, fraction) for fraction in (0, 0.5, 0.99, 1)] == [1, 50, 99, 100]


@given(SOME, st.floats(0, 1))
def test_percentile_is_a_value_that_enough_do_not_exceed(values: list[float], fraction: float) -> None:
    """A percentile is one of the values, and at least that fraction of all are not above it."""
    found = percentile(values, fraction)
    assert found in values
    assert sum(value <= found for value in values) >= fraction * len(values) - 1e-6


@pytest.mark.parametrize(("values", "fraction"), [([], 0.5), ([1.0], -0.1), ([1.0], 1.1)])
def test_percentile_refuses_what_has_none(values: list[float], fraction: float) -> None:
    """No values, or a fraction that is a percent number, is an error and not a guess."""
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, fraction)


@given(SOME)
def test_spread_holds_its_median(values: list[float]) -> None:
    """The median lies between the least and the greatest."""
    found = spread(values)
    assert found is not None
    assert found.low <= found.median <= found.high
    assert found.rounds == len(values)


def test_no_round_has_no_spread() -> None:
    """Nothing measured is None, not zero."""
    assert spread([]) is None


def test_ratio_is_taken_in_each_round() -> None:
    """A machine that halves its speed in one round changes both sides of it, and not the ratio."""
    assert ratio_by_round({0: 10, 1: 20, 2: 10}, {0: 20, 1: 40, 2: 20}) == Spread(0.5, 0.5, 0.5, 3)


def test_ratio_uses_only_rounds_that_both_have() -> None:
    """A round without one of the two, or with a peer of zero, gives no ratio."""
    assert ratio_by_round({0: 10, 1: 99, 2: 5}, {0: 20, 2: 0, 3: 7}) == Spread(0.5, 0.5, 0.5, 1)
    assert ratio_by_round({0: 10}, {1: 20}) is None


def test_difference_is_taken_in_each_round() -> None:
    """What is added is counted over the same round's base."""
    assert difference_by_round({0: 3.0, 1: 9.0}, {0: 1.0, 1: 8.0, 2: 100.0}) == Spread(1.5, 1.0, 2.0, 2)
