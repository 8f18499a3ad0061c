"""Since when an engine's cache holds what it has read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.board.layout import Loaded
from gpubalancer.telemetry.engines import EngineReading
from gpubalancer.telemetry.retention import MARKS, PROMPTS_FRACTION, Retention

HELD = 8_000.0


def reading(
    at_s: float, looked_up: float | None, cached: float = 0.0, capacity: float | None = 10_000
) -> EngineReading:
    """One of an engine that holds 8,000 prompt tokens."""
    return EngineReading(at_s, looked_up_tokens=looked_up, cached_tokens=cached, kv_capacity_tokens=capacity)


def test_what_was_read_is_there_until_as_much_was_read_since() -> None:
    """Tokens that were found in the cache take no further room."""
    retention = Retention()
    assert retention.since_s(reading(10, 0)) == 0
    assert retention.since_s(reading(20, 5_000)) == 0
    assert retention.since_s(reading(30, 50_000, cached=45_000)) == 0
    assert retention.since_s(reading(40, 54_000, cached=45_000)) == 10
    assert retention.since_s(reading(50, 60_000, cached=45_000)) == 20
    assert retention.since_s(reading(60, 160_000, cached=45_000)) == 50


def test_a_counter_that_fell_is_an_engine_that_was_started_anew() -> None:
    """Nothing of before is there, whether it tells its size or not."""
    for capacity in (10_000.0, None):
        retention = Retention()
        retention.since_s(reading(10, 5_000, capacity=capacity))
        assert retention.since_s(reading(20, 6_000, capacity=capacity)) == 0
        assert retention.since_s(reading(30, 100, capacity=capacity)) == 30


def test_an_engine_that_sleeps_lets_everything_go() -> None:
    """As long as it sleeps, and nothing is known of it that would say otherwise."""
    retention = Retention()
    assert retention.since_s(EngineReading(5.0, loaded=Loaded.SLEEPING)) == 5.0
    assert retention.since_s(EngineReading(6.0)) == 5.0


def test_an_engine_that_counts_nothing_is_never_known_to_forget() -> None:
    """Time alone decides then."""
    retention = Retention()
    assert {retention.since_s(reading(at, None)) for at in range(10)} == {0.0}


@given(st.lists(st.floats(0, 3_000), min_size=1, max_size=200))
def test_it_is_known_to_a_part_of_the_cache_in_bounded_memory(steps: list[float]) -> None:
    """What was read since then always fits, and no more than one mark's worth of what fits is given up."""
    retention, total, at_s, history = Retention(), 0.0, 0.0, [(0.0, 0.0)]
    retention.since_s(reading(0, 0))
    for step in steps:
        total, at_s = total + step, at_s + 1
        since_s = retention.since_s(reading(at_s, total))
        history.append((at_s, total))
        after = next(read for at, read in history if at > since_s)
        assert total - after <= PROMPTS_FRACTION * 10_000 + 3_000 + HELD / MARKS
        assert len(retention._marks) <= MARKS + 2


def test_the_share_of_prompts() -> None:
    """The tests' numbers are those of the module."""
    assert pytest.approx(PROMPTS_FRACTION * 10_000) == HELD
