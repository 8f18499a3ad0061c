"""Waiting between two readings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.telemetry.pacing import JITTER_FRACTION, LONGEST_PAUSE_S, pause_s


@pytest.mark.parametrize(
    ("interval_s", "failures", "random", "waits_s"),
    [
        (1.0, 0, 0.5, 1.0),
        (1.0, 0, 0.0, 0.8),
        (1.0, 0, 1.0, 1.2),
        (1.0, 1, 0.5, 2.0),
        (1.0, 3, 0.5, 8.0),
        (1.0, 9, 0.5, 30.0),
        (1.0, 10**6, 0.5, 30.0),
        (60.0, 0, 0.5, 60.0),
        (60.0, 5, 0.5, 60.0),
    ],
)
def test_failures_double_the_wait_up_to_a_limit(
    interval_s: float, failures: int, random: float, waits_s: float
) -> None:
    """The interval with jitter, doubled by each failure, at most half a minute or the interval itself."""
    assert pause_s(interval_s, failures, random) == pytest.approx(waits_s)


@given(st.floats(0.01, 1e4), st.integers(0, 10**9), st.floats(0, 1))
def test_nobody_waits_forever_or_not_at_all(interval_s: float, failures: int, random: float) -> None:
    """The wait is never shorter than the interval nor longer than the limit, but for the jitter."""
    waits_s = pause_s(interval_s, failures, random)
    assert interval_s * (1 - JITTER_FRACTION) <= waits_s * 1.000001
    assert waits_s <= max(LONGEST_PAUSE_S, interval_s) * (1 + JITTER_FRACTION) * 1.000001
