"""What is believed of readings: ranges, what disappears, what stands still."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.board.layout import Loaded
from gpubalancer.telemetry.engines import FROZEN_AFTER, SLACK_REQUESTS, EngineReading, Watch, within

READING = EngineReading(1.0, running=4.0, waiting=2.0, kv_used_fraction=0.5)


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("running", 0.0, True),
        ("running", -1.0, False),
        ("running", 4294967295.0, False),
        ("waiting", math.nan, False),
        ("waiting", math.inf, False),
        ("waiting", None, False),
        ("kv_used_fraction", 1.0, True),
        ("kv_used_fraction", 1.01, False),
        ("kv_used_fraction", 55.0, False),
        ("kv_capacity_tokens", 0.0, False),
        ("kv_capacity_tokens", 524288.0, True),
        ("speed_fraction", 0.0, False),
        ("power_watts", -0.1, False),
    ],
)
def test_what_cannot_be_true_is_unknown(field: str, value: float | None, kept: bool) -> None:
    """A number outside of its field's range is None, never a limit and never zero."""
    assert within(field, value) == (value if kept else None)


@given(st.floats())
def test_a_fraction_is_one(value: float) -> None:
    """Whatever a page says, a fraction that is kept is from 0 to 1."""
    kept = within("kv_used_fraction", value)
    assert kept is None or 0 <= kept <= 1


def test_a_field_that_disappears_is_told_of_once() -> None:
    """An update that renames a metric warns the operator, by name, and only the first time."""
    watch = Watch()
    gone = replace(READING, waiting=None)
    assert watch.look(READING, 1) == (READING, [])
    assert watch.look(gone, 2) == (gone, ["tells no usable waiting any more"])
    assert watch.look(gone, 9)[1] == []
    assert watch.look(READING, 4)[1] == []
    assert watch.look(gone, 15)[1] == []


def test_a_field_that_was_never_told_is_no_news() -> None:
    """An engine that never had a metric is as it always was."""
    watch = Watch()
    assert not watch.has_told
    assert watch.look(EngineReading(1.0, running=1.0), 0)[1] == []
    assert watch.has_told


@pytest.mark.parametrize("loaded", [Loaded.LOADING, Loaded.SLEEPING])
def test_a_loading_engine_has_lost_nothing(loaded: Loaded) -> None:
    """While a model is read, or sleeps, missing numbers are no warning."""
    watch = Watch()
    watch.look(READING, 1)
    assert watch.look(EngineReading(2.0, loaded=loaded), 0)[1] == []


def looked(reading: EngineReading, ours: list[int], watch: Watch | None = None) -> tuple[EngineReading, list[str]]:
    """The outcome after the same reading came with each of these counts of ours."""
    watch = watch or Watch()
    warnings = []
    for count in ours:
        last, said = watch.look(reading, count)
        warnings += said
    return last, warnings


@pytest.mark.parametrize(
    ("ours", "frozen"),
    [
        ([6, 6, 6, 6, 6], False),
        ([6, 7, 8, 7, 6], False),
        ([0, 1, 0, 2, 1], False),
        ([6, 7, 9, 6, 5], True),
        ([0, 9, 1], False),
        ([40, 40, 40, 40, 40], True),
    ],
)
def test_gauges_that_stand_still_while_ours_move_are_not_believed(ours: list[int], frozen: bool) -> None:
    """Five times the same while our own count moved by more than requests under way explain, or lies above theirs."""
    reading, warnings = looked(READING, ours)
    assert (reading.running is None) == frozen
    assert reading.suspect == (("running", "waiting", "kv_used_fraction") if frozen else ())
    assert warnings == (["running and waiting and kv_used_fraction stand still while requests come and go"] * frozen)
    assert reading.at_s == READING.at_s


def test_zero_under_load_is_not_believed() -> None:
    """A gauge stuck at 0 with our requests on it is as unknown as any other."""
    stuck = EngineReading(1.0, running=0.0, waiting=0.0)
    assert looked(stuck, [SLACK_REQUESTS + 1] * FROZEN_AFTER)[0].running is None
    assert looked(stuck, [SLACK_REQUESTS] * FROZEN_AFTER)[0] == stuck


def test_gauges_that_move_again_are_believed_again() -> None:
    """One reading that differs ends the suspicion; the warning is not repeated."""
    watch = Watch()
    assert looked(READING, [0, 9, 0, 9, 0], watch)[0].running is None
    moved = replace(READING, running=5.0)
    assert watch.look(moved, 3) == (moved, [])
    assert looked(moved, [0, 9, 0, 9], watch)[1] == []


def test_an_engine_without_gauges_is_never_frozen() -> None:
    """Unknown stays unknown without a suspicion."""
    silent = EngineReading(1.0, cached_tokens=5.0)
    assert looked(silent, [0, 90, 0, 90, 0, 90]) == (silent, [])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), max_size=40))
def test_a_reading_is_either_whole_or_without_its_gauges(steps: list[tuple[int, int]]) -> None:
    """Nothing else is ever changed, and a reading that differs from the one before is always whole."""
    watch, before = Watch(), -1
    for running, ours in steps:
        reading = EngineReading(1.0, running=float(running), waiting=0.0, cached_tokens=3.0)
        checked, _ = watch.look(reading, ours)
        assert checked.cached_tokens == 3.0
        assert checked == reading or checked.told == {"cached_tokens"}
        assert checked == reading or running == before
        before = running
