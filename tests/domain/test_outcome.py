"""What an outcome says of its request."""

import pytest

from gpubalancer.domain.outcome import Outcome


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (200, "", 200), (0, "client_left", 499), (200, "client_left", 499), (200, "backend_failed", 502),
        (200, "timed_out", 502), (504, "timed_out", 504), (502, "backend_failed", 502), (401, "x", 401),
    ],
)  # fmt: skip
def test_the_code_tells_what_the_status_hides(status: int, reason: str, code: int) -> None:
    """The metrics' code is 499 when the client left and 502 when a stream broke, whatever had been sent."""
    assert Outcome("r", 0.0, status=status, reason=reason).code == code


def test_times_are_counted_from_the_head() -> None:
    """Overhead and TTFT begin with the head; TPOT spreads the rest over the tokens after the first."""
    outcome = Outcome("r", 10.0, sent_s=10.5, first_token_s=11.0, last_token_s=13.0, completion_tokens=5, streamed=True)
    assert (outcome.overhead_s, outcome.ttft_s, outcome.tpot_s) == (0.5, 1.0, 0.5)


def test_what_did_not_happen_takes_no_time() -> None:
    """A request that never went anywhere has no overhead, no TTFT and no TPOT."""
    outcome = Outcome("r", 10.0)
    assert (outcome.overhead_s, outcome.ttft_s, outcome.tpot_s) == (0.0, 0.0, 0.0)
