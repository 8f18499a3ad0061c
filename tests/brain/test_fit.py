"""A curve learned from samples."""

import json
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.fit import Fit, Three

PRIOR: Three = (0.03, 0.0004, 7e-9)
TYPICAL: Three = (1.0, 1000.0, 1e6)


def point(tokens: float) -> Three:
    """Where a prompt of so many tokens lies."""
    return 1.0, tokens, tokens * tokens


def value(coefficients: Three, tokens: float) -> float:
    """The curve of these coefficients."""
    return sum(each * x for each, x in zip(coefficients, point(tokens), strict=True))


def test_before_any_sample_it_is_the_prior() -> None:
    """What was assumed is what is told."""
    assert Fit(PRIOR, TYPICAL).coefficients == pytest.approx(PRIOR)
    assert Fit(PRIOR, TYPICAL).value(point(2000)) == pytest.approx(value(PRIOR, 2000))


@pytest.mark.parametrize("factor", [0.1, 1.0, 8.0, 40.0])
def test_one_sample_sets_the_level(factor: float) -> None:
    """A machine as many times slower or faster as you like is known within a third after two samples."""
    fit = Fit(PRIOR, TYPICAL)
    for tokens in (700, 1500):
        fit.learn(point(tokens), factor * value(PRIOR, tokens))
    assert fit.value(point(1000)) == pytest.approx(factor * value(PRIOR, 1000), rel=0.34)


def test_the_shape_follows_slowly() -> None:
    """Another shape is known at all lengths after some hundred samples."""
    fit, random, truth = Fit(PRIOR, TYPICAL), Random(1), (0.15, 0.0003, 2e-8)
    for _ in range(300):
        tokens = random.uniform(50, 6000)
        fit.learn(point(tokens), value(truth, tokens) * random.lognormvariate(0, 0.1))
    for tokens in (100, 1000, 5000):
        assert fit.value(point(tokens)) == pytest.approx(value(truth, tokens), rel=0.2)


def test_a_stuck_request_does_not_count() -> None:
    """After a hundred good samples one that took 100 times as long moves nothing by more than a hundredth or so."""
    fit = Fit(PRIOR, TYPICAL)
    for tokens in range(100, 3100, 30):
        fit.learn(point(tokens), value(PRIOR, tokens))
    fit.learn(point(1000), 100 * value(PRIOR, 1000))
    assert fit.value(point(1000)) == pytest.approx(value(PRIOR, 1000), rel=0.02)


@pytest.mark.parametrize("factor", [0.5, 2.0, 10.0])
def test_a_change_is_followed_within_ten_samples(factor: float) -> None:
    """A machine that becomes slower or faster is believed after a few samples in a row."""
    fit, random = Fit(PRIOR, TYPICAL), Random(2)
    for index in range(110):
        tokens, level = random.uniform(100, 3000), factor if index >= 100 else 1.0
        fit.learn(point(tokens), level * value(PRIOR, tokens) * random.lognormvariate(0, 0.1))
    assert fit.value(point(1000)) == pytest.approx(factor * value(PRIOR, 1000), rel=0.25)


MEASURED = st.one_of(st.floats(1e-6, 1e6), st.sampled_from((0.0, -1.0, math.nan, math.inf)))


@given(st.lists(st.tuples(st.integers(0, 200_000), MEASURED), max_size=60))
def test_whatever_is_measured_the_coefficients_are_sane(samples: list[tuple[int, float]]) -> None:
    """Finite, never below zero, never all zero."""
    fit = Fit(PRIOR, TYPICAL)
    for tokens, measured in samples:
        fit.learn(point(tokens), measured)
        assert all(0.0 <= each < math.inf for each in fit.coefficients)
        assert fit.value(point(1000)) > 0.0


def test_the_state_survives() -> None:
    """What was learned is the same after a way through JSON, and goes on the same."""
    fit, again = Fit(PRIOR, TYPICAL), Fit(PRIOR, TYPICAL)
    for tokens in (100, 900, 4000):
        fit.learn(point(tokens), 3 * value(PRIOR, tokens))
    assert again.restore(json.loads(json.dumps(fit.to_state())))
    for each in (fit, again):
        each.learn(point(500), 0.5)
    assert again.coefficients == pytest.approx(fit.coefficients)
    assert again.samples == 4


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"shares": [1, 2], "spread": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "samples": 3},
        {"shares": [1, 2, 3], "spread": [[1, 0, 0], [0, 1, 0]], "samples": 3},
        {"shares": [1, 2, 3], "spread": [[1, 0, 0], [0, 1, 0], [0, 0, "x"]], "samples": 3},
        {"shares": [1, 2, math.nan], "spread": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "samples": 3},
        {"shares": [1, 2, 3], "spread": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "samples": "many"},
        {"shares": [1, -2, 3], "spread": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "samples": 3},
        {"shares": [0, 0, 0], "spread": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "samples": 3},
    ],
)
def test_a_damaged_state_changes_nothing(state: dict[str, object]) -> None:
    """What is no state is refused, and the prior stays."""
    fit = Fit(PRIOR, TYPICAL)
    assert not fit.restore(state)
    assert fit.coefficients == pytest.approx(PRIOR)
