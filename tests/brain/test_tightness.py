"""Raising predictions until they hold most of the time."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.tightness import MOST, Tightness


def test_it_settles_where_one_in_five_is_late() -> None:
    """With predictions that are right on the average, the ratio becomes the 80th percentile of what comes."""
    tightness, random = Tightness(1.4, 1.0), Random(1)
    ratios, late = [], 0
    for index in range(4000):
        measured_s = random.lognormvariate(0, 0.3)
        if index >= 1000:
            late += measured_s > tightness.ratio(index / 10)
            ratios.append(tightness.ratio(index / 10))
        tightness.learn(1.0, measured_s, index / 10)
    assert late / 3000 == pytest.approx(0.2, abs=0.05)
    assert sum(ratios) / 3000 == pytest.approx(math.exp(0.3 * 0.84), rel=0.1)


def test_wrong_predictions_tighten_within_seconds() -> None:
    """Twenty requests within four seconds that took thrice the prediction make it count for half more at least."""
    tightness = Tightness(1.4, 1.2)
    for index in range(20):
        tightness.learn(1.0, 3.0, index * 0.2)
    assert tightness.ratio(4.0) > 1.5 * 1.4


def test_without_news_it_falls_back() -> None:
    """What was seen is forgotten in minutes, and the ratio is where it began."""
    tightness = Tightness(1.4, 1.2)
    for _ in range(40):
        tightness.learn(1.0, 4.0, 0.0)
    ratios = [tightness.ratio(now_s) for now_s in (0.0, 30.0, 60.0, 600.0)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == pytest.approx(1.4, rel=0.01)


def test_predictions_that_always_hold_loosen_to_the_least() -> None:
    """However early all come, the ratio stays at its least."""
    tightness = Tightness(1.4, 1.2)
    for index in range(200):
        tightness.learn(1.0, 0.5, index / 10)
    assert tightness.ratio(20.0) == pytest.approx(1.2, rel=0.01)


TIMES = st.one_of(st.floats(-1, 1e9), st.sampled_from((math.nan, math.inf)))


@given(st.lists(st.tuples(st.floats(-1, 100), TIMES, st.floats(0, 1000))))
def test_it_stays_within_its_bounds(samples: list[tuple[float, float, float]]) -> None:
    """Whatever is measured, in whatever order of time, the ratio is between its least and the most."""
    tightness = Tightness(1.4, 1.2)
    for predicted_s, measured_s, now_s in samples:
        tightness.learn(predicted_s, measured_s, now_s)
        assert 1.2 - 1e-9 <= tightness.ratio(now_s) <= MOST + 1e-9
