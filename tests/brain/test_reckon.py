"""What is believed between two looks at an engine."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.reckon import believed_speed, reckon_others
from tests.brain.economies import SENSED


def others_of(running: float, waiting: float, ours_then: float, age_s: float) -> tuple[float, float, float]:
    """One backend's others: requests, queued tokens, context tokens."""
    said = (np.array([running]), np.array([waiting]), np.array([ours_then]))
    found = reckon_others(*said, np.array([age_s]), 5.0)
    return float(found.requests[0]), float(found.queued_tokens[0]), float(found.context_tokens[0])


def test_others_are_what_is_not_ours() -> None:
    """Of ten requests in an engine, four of them ours, six are others'; three of those wait, 1000 tokens each."""
    assert others_of(5, 5, 4, 0.0) == (6.0, 3000.0, 7200.0)


def test_what_was_said_fades_towards_what_we_count() -> None:
    """With age a word counts less and less, and in the end not at all."""
    ages = [others_of(10, 0, 0, age_s)[0] for age_s in (0.0, 5.0, 50.0, math.inf)]
    assert ages == pytest.approx([10.0, 10.0 / math.e, 10.0 * math.exp(-10), 0.0])


@pytest.mark.parametrize("said", [(math.nan, math.nan), (math.nan, 0.0), (0.0, 0.0), (math.inf, -1.0)])
def test_silence_is_neither_full_nor_free(said: tuple[float, float]) -> None:
    """An engine that tells nothing, or nonsense, or less than we know, has no others: ours are counted by us."""
    assert others_of(*said, 3, 0.0) == (0.0, 0.0, 0.0)


@given(SENSED, SENSED, st.integers(0, 64), SENSED)
def test_whatever_a_sensor_says_the_figures_are_sane(running: float, waiting: float, ours: int, age_s: float) -> None:
    """Finite, not negative, and no more than an engine could hold."""
    requests, queued_tokens, context_tokens = others_of(running, waiting, ours, age_s)
    assert 0 <= requests <= 2 * 65_536
    assert 0 <= queued_tokens <= requests * 1000 * (1 + 1e-9)
    assert 0 <= context_tokens <= requests * 1200 * (1 + 1e-9)


def test_speed_is_believed_while_it_is_fresh() -> None:
    """A clock at half counts at once, less as the word ages, and what is unknown is full speed."""
    speeds = believed_speed(np.array([0.5, 0.5, math.nan, 0.0, 3.0]), np.array([0.0, 5.0, 0.0, 0.0, 0.0]), fades_s=5.0)
    assert speeds.tolist() == pytest.approx([0.5, 1 - 0.5 / math.e, 1.0, 0.05, 1.0])
