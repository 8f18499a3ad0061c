"""The rate limit headers."""

import pytest

from gpubalancer.brain.budget_headers import duration, limit_lines
from gpubalancer.domain.budget import Standing
from tests.board.budget_terms import bucket, gauge


def stands(unit: str, limit: float, remaining: float, reset_s: float) -> Standing:
    """How a budget of a unit stands."""
    return Standing(bucket(unit, 5, unit=unit), limit, remaining, reset_s)


def test_each_family_tells_of_its_tightest() -> None:
    """The least that is left, of tokens of any kind, and of requests."""
    lines = limit_lines(
        [
            stands("tokens", 1000, 900, 5),
            stands("completion_tokens", 500, 20, 90),
            stands("requests", 60, 7, 0.25),
            stands("usd", 1, 0.5, 9),
        ]
    )
    assert lines.decode().split("\r\n") == [
        "x-ratelimit-limit-requests: 60",
        "x-ratelimit-remaining-requests: 7",
        "x-ratelimit-reset-requests: 250ms",
        "x-ratelimit-limit-tokens: 500",
        "x-ratelimit-remaining-tokens: 20",
        "x-ratelimit-reset-tokens: 1m30s",
        "",
    ]


def test_debt_is_nothing_left() -> None:
    """Clients know no negative numbers; of two in debt the deeper one is told."""
    lines = limit_lines([stands("tokens", 10, -5, 3), stands("tokens", 20, -50, 4)])
    assert b"limit-tokens: 20\r\nx-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 4s" in lines


def test_other_units_have_no_headers() -> None:
    """Nor has nothing."""
    assert limit_lines([stands("joules", 1, 0.5, 9), Standing(gauge("g", 5), 5, 3, 0)]) == b""
    assert limit_lines([]) == b""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, b"0ms"), (0.0001, b"1ms"), (0.35, b"350ms"), (1, b"1s"), (11.2, b"12s"), (360, b"6m0s"), (10_800, b"3h0m0s")],
)
def test_durations(seconds: float, text: bytes) -> None:
    """Rounded up, so that asking again then is not too early."""
    assert duration(seconds) == text
