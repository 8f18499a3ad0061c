"""Times of day: what they contain, and what is none."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.policy.hours import Hours, read_hours

WEEK_S = 7 * 86_400
MONDAY_S = 4 * 86_400
"""1970-01-05 00:00 UTC, the first Monday."""


def at(day: int, hour: int, minute: int = 0) -> float:
    """An instant of that week, 0 for Monday."""
    return MONDAY_S + day * 86_400 + hour * 3600 + minute * 60


@pytest.mark.parametrize(
    ("text", "within", "beyond"),
    [
        ("08:00-18:00", [at(0, 8), at(6, 17, 59)], [at(0, 7, 59), at(0, 18)]),
        ("22:00-06:00", [at(0, 22), at(1, 5, 59), at(6, 23), at(0, 0)], [at(0, 6), at(0, 21, 59)]),
        ("22:00-00:00", [at(0, 22), at(0, 23, 59)], [at(0, 0), at(0, 21)]),
        ("00:00-24:00", [at(0, 0), at(3, 23, 59)], []),
        ("mon-fri 08:00-18:00", [at(0, 8), at(4, 17)], [at(5, 8), at(6, 8), at(0, 7)]),
        ("fri 22:00-06:00", [at(4, 22), at(5, 5)], [at(4, 5), at(5, 22), at(6, 5)]),
        ("sun 22:00-06:00", [at(6, 22), at(0, 5)], [at(6, 5), at(0, 22), at(1, 5)]),
        ("sat-mon 00:00-24:00", [at(5, 0), at(6, 12), at(0, 23)], [at(1, 0), at(4, 23, 59)]),
        ("mon,wed-thu 00:00-24:00", [at(0, 0), at(2, 0), at(3, 0)], [at(1, 0), at(4, 0)]),
        ("08:00-09:00 Asia/Kolkata", [at(0, 2, 30), at(0, 3, 29)], [at(0, 8, 30), at(0, 3, 30)]),
        ("08:00-09:00 UTC", [at(0, 8)], [at(0, 9)]),
    ],
)
def test_spans(text: str, within: list[float], beyond: list[float]) -> None:
    """A span holds from its first minute to before its last, past midnight too, on its days, by its zone's clocks."""
    hours = read_hours(text)
    assert all(hours.contain(wall_s) for wall_s in within)
    assert not any(hours.contain(wall_s) for wall_s in beyond)


def test_summer_time() -> None:
    """A zone's own clocks count, in summer and in winter."""
    hours = read_hours("08:00-09:00 Europe/Berlin")
    zone = ZoneInfo("Europe/Berlin")
    for month in (1, 7):
        assert hours.contain(datetime(2026, month, 5, 8, 30, tzinfo=zone).timestamp())
        assert not hours.contain(datetime(2026, month, 5, 9, 30, tzinfo=zone).timestamp())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("8:00-18:00", "a time of day such as"),
        ("08:00", "a time of day such as"),
        ("08:00-18:60", "a time of day such as"),
        ("08:00-25:00", "from 00:00 to 24:00"),
        ("24:00-08:00", "from 00:00 to 24:00"),
        ("08:00-08:00", 'not empty; a whole day is "00:00-24:00"'),
        ("mon-fry 08:00-18:00", "a time of day such as"),
        ("mon- 08:00-18:00", "a time of day such as"),
        ("08:00-18:00 Mars/Olympus", "a time zone that this machine knows"),
        ("08:00-18:00 Europe", "a time zone that this machine knows"),
        ("08:00-18:00 ../../etc/passwd", "a time of day such as"),
        ("08:00-18:00 Europe/../UTC", "a time of day such as"),
        (8, "a time of day such as"),
        (None, "a time of day such as"),
    ],
)
def test_what_is_no_span(value: object, expected: str) -> None:
    """Each slip is told with what was expected."""
    with pytest.raises(ValueError, match=expected):
        read_hours(value)


_MINUTES = st.integers(0, 1439).map(lambda minute: f"{minute // 60:02}:{minute % 60:02}")
_DAYS = st.lists(st.sampled_from(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]), min_size=1).map(",".join)


def _spans(days: str, start: str, end: str) -> list[Hours]:
    return [read_hours(f"{days} {span}") for span in (f"{start}-{end}", f"{end}-{start}")]


@given(_DAYS, _MINUTES, _MINUTES, st.integers(0, WEEK_S))
def test_a_span_and_its_opposite_share_no_instant(days: str, start: str, end: str, offset_s: int) -> None:
    """Of a span and the one with its ends exchanged, at most one holds; on all days, exactly one."""
    if start == end:
        return
    wall_s = MONDAY_S + offset_s
    assert sum(hours.contain(wall_s) for hours in _spans(days, start, end)) <= 1
    assert sum(hours.contain(wall_s) for hours in _spans("mon-sun", start, end)) == 1


@given(_DAYS, _MINUTES, _MINUTES)
def test_a_span_is_written_as_it_was_read(days: str, start: str, end: str) -> None:
    """So that it crosses between processes."""
    if start != end:
        hours = read_hours(f"{days} {start}-{end}")
        assert read_hours(str(hours)) == hours
        assert read_hours(hours) is hours
