"""Durations, sizes, counts and periods."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.policy import units
from gpubalancer.policy.units import Period


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("10s", 10.0), ("5m", 300.0), ("1h", 3600.0), ("1d", 86_400.0), ("1.5h", 5400.0), ("0s", 0.0)],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    """Each unit gives its seconds."""
    assert units.duration_s(text) == seconds


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (10, '"10" has no unit'),
        ("10", '"10" has no unit'),
        ("10x", "units: ms s m h d"),
        ("5M", 'did you mean the unit "m"'),
        ("-5s", "not negative"),
        ("nan", "a duration such as"),
        ("infs", "a duration such as"),
        ("9999999999d", "at most ten years"),
        ("1e9s", "a duration such as"),
        ("", "a duration such as"),
        (None, "a duration such as"),
        (True, "a duration such as"),
        ("\u0661s", "a duration such as"),
        ("month", "a duration such as"),
    ],
)
def test_a_wrong_duration_says_what_was_expected(value: object, said: str) -> None:
    """What is no duration is refused with a message that helps."""
    with pytest.raises(ValueError, match="duration") as caught:
        units.duration_s(value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("value", "size"),
    [("64KiB", 65_536), ("32MiB", 33_554_432), ("1GiB", 1 << 30), (17, 17), ("17", 17), ("17B", 17), ("1.5KiB", 1536)],
)
def test_sizes_are_bytes(value: object, size: int) -> None:
    """Binary units and plain numbers give bytes."""
    assert units.size_bytes(value) == size


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("64KB", 'did you mean the unit "KiB"'),
        ("64kib", 'did you mean the unit "KiB"'),
        ("64x", "units: B KiB MiB GiB TiB"),
        (-1, "not negative"),
        (0.5, "whole bytes"),
        ("0.3B", "whole bytes"),
        (float("nan"), "a size such as"),
        (float("inf"), "a size such as"),
        ("9999999TiB", "at most 1024TiB"),
        (False, "a size such as"),
    ],
)
def test_a_wrong_size_says_what_was_expected(value: object, said: str) -> None:
    """What is no size is refused with a message that helps."""
    with pytest.raises(ValueError, match="size") as caught:
        units.size_bytes(value)
    assert said in str(caught.value)


@pytest.mark.parametrize(("value", "number"), [("100k", 100_000), ("2M", 2_000_000), ("1G", 10**9), (600, 600)])
def test_counts_are_whole(value: object, number: int) -> None:
    """Counts come in powers of 1000."""
    assert units.count(value) == number


@pytest.mark.parametrize("value", ["1.5", 1.5, "2m", "2KiB", -1, "1.0001k", None, True, 10**16, "10000000G"])
def test_wrong_counts_are_refused(value: object) -> None:
    """Fractions, other units, negatives and what is too large are refused."""
    with pytest.raises(ValueError, match="a whole number such as"):
        units.count(value)


def test_amounts_may_be_fractions() -> None:
    """Money comes in fractions, energy in millions."""
    assert (units.amount(0.25), units.amount("0.25"), units.amount("2M")) == (0.25, 0.25, 2_000_000.0)


def test_a_period_is_a_duration_or_a_month() -> None:
    """A month has no length in seconds, everything else has."""
    assert units.period("month") == Period("month", None)
    assert units.period("1d") == Period("1d", 86_400.0)


@pytest.mark.parametrize("value", ["0s", "0ms", "year", 60, None, "-1m"])
def test_wrong_periods_are_refused(value: object) -> None:
    """A period is above zero and has a unit, and the message names month."""
    with pytest.raises(ValueError, match="month"):
        units.period(value)


@given(st.decimals(0, units.MAX_DURATION_S, places=3).map(float))
def test_durations_survive_being_written(seconds: float) -> None:
    """What is written reads as the same number."""
    assert units.duration_s(units.write_duration(seconds)) == seconds


@given(st.decimals(0, 1000, places=9).map(float))
def test_tiny_durations_survive_being_written(seconds: float) -> None:
    """Down to nanoseconds."""
    assert units.duration_s(units.write_duration(seconds)) == seconds


@given(st.integers(0, units.MAX_SIZE_BYTES))
def test_sizes_survive_being_written(size: int) -> None:
    """What is written reads as the same number."""
    assert units.size_bytes(units.write_size(size)) == size


@given(st.integers(0, units.MAX_COUNT) | st.floats(0, units.MAX_COUNT, allow_subnormal=False).map(lambda x: x / 7))
def test_amounts_survive_being_written(number: float) -> None:
    """What is written reads as the same number."""
    assert units.amount(units.write_count(number)) == number


@given(st.one_of(st.text(max_size=30), st.floats(), st.integers(), st.none(), st.booleans(), st.binary(max_size=4)))
def test_anything_is_read_or_refused(value: object) -> None:
    """No value whatever raises anything but ValueError, and no number is negative or not finite."""
    for reader in (units.duration_s, units.size_bytes, units.count, units.amount):
        try:
            number = reader(value)
        except ValueError:
            continue
        assert 0 <= number < float("inf")


@given(st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,12})?(ms|s|m|h|d|KiB|MiB|GiB|k|M|G)?", fullmatch=True))
def test_anything_like_a_number_is_read_or_refused(value: str) -> None:
    """Numbers of any length with any unit are read or refused."""
    for reader in (units.duration_s, units.size_bytes, units.count, units.amount):
        try:
            assert reader(value) >= 0
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (600.0, "10m"),
        (0.25, "250ms"),
        (86_400.0, "1d"),
        (90.0, "90s"),
        (0.0, "0s"),
        (1.5, "1500ms"),
        (1e-7, "0.0000001s"),
    ],
)
def test_durations_are_written_short(seconds: float, text: str) -> None:
    """The largest unit that fits is taken."""
    assert units.write_duration(seconds) == text
