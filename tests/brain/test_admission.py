"""What a request may still take, and when to come back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.admission import SLACK, Limits, is_bounding, limits, retry_after_s
from gpubalancer.policy.routing import Slo
from tests.brain.economies import request

SLO = Slo.model_validate({"ttft": "2s", "ttft_per_1k_prompt_tokens": "100ms", "tpot": "100ms"})


def test_the_limit_is_the_slo_less_the_wait() -> None:
    """A prompt of 5000 tokens is given half a second more; what was waited is gone."""
    assert limits(SLO, request(5000, 100), 0.7, 0.1, 0.01) == pytest.approx((2.0 + 0.5 - 0.7, 0.1))


def test_what_is_not_asked_for_is_not_limited() -> None:
    """Without TTFT or TPOT in the policy any will do."""
    assert limits(Slo.model_validate({"tpot": "50ms"}), request(100, 100), 5.0, 0.1, 0.01) == (math.inf, 0.05)
    assert limits(Slo.model_validate({"ttft": "1s"}), request(100, 100), 0.0, 0.1, 0.01) == (1.0, math.inf)


@pytest.mark.parametrize("output_tokens", [0, 1])
def test_what_writes_nothing_has_no_time_per_token(output_tokens: int) -> None:
    """An embedding, or an answer of one token, is held back by TTFT alone."""
    assert limits(SLO, request(100, output_tokens), 0.0).tpot_s == math.inf


def test_what_no_backend_can_keep_is_no_limit() -> None:
    """Beyond the best that the fleet can do, the limit follows the fleet."""
    assert limits(SLO, request(0, 100), 1.0, 30.0, 0.5) == pytest.approx((SLACK * 30.0 - 1.0, SLACK * 0.5))


@given(st.floats(0, 1e4), st.floats(1e-3, 1e4), st.integers(0, 100_000))
def test_nobody_is_refused_who_has_not_waited(best_ttft_s: float, best_tpot_s: float, prompt_tokens: int) -> None:
    """At the start the best backend, idle, keeps the limits, whatever the predictions."""
    most = limits(SLO, request(prompt_tokens, 100), 0.0, best_ttft_s, best_tpot_s)
    assert best_ttft_s <= most.ttft_s
    assert best_tpot_s <= most.tpot_s


@pytest.mark.parametrize(
    ("least_ttft_s", "left_s", "expected"),
    [
        (5.0, 2.0, 3.0),
        (1.0, 2.0, 1.0),
        (500.0, 2.0, 60.0),
        (5.0, -3.0, 5.0),
        (5.0, math.inf, 1.0),
        (math.inf, 1.0, 1.0),
    ],
)
def test_come_back_when_the_queue_has_shrunk(least_ttft_s: float, left_s: float, expected: float) -> None:
    """The time to come back is how much the shortest queue exceeds the limit, 1 to 60 s."""
    assert retry_after_s(least_ttft_s, Limits(left_s, 0.1)) == expected


def test_an_slo_without_a_figure_bounds_nothing() -> None:
    """Only TTFT or TPOT hold anything back."""
    assert is_bounding(SLO)
    assert not is_bounding(Slo())
    assert not is_bounding(None)
