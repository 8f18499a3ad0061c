"""Budgets as they are written, and the calendars of their windows."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.domain.budget import Bucket, Gauge, Window
from gpubalancer.policy.budgets import Budget, Days, zone_of


def budget(**settings: object) -> Budget:
    """A budget with these settings."""
    return Budget.model_validate({"unit": "tokens", "limit": 5, "per": "1m", **settings})


def ns(text: str, zone: str = "UTC") -> int:
    """An instant in nanoseconds."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 10**9


def test_what_is_written() -> None:
    """Limits take counts and fractions, periods take durations and windows."""
    found = budget(unit="usd", limit="0.5", per="month", when_spent="downgrade")
    assert found.per is not None
    assert (found.limit, found.per.length_s, found.overrun, found.scaled_limit) == (0.5, None, "debt", 500_000_000)
    found = budget(limit="100k", burst=200_000)
    assert found.per is not None
    assert (found.scaled_limit, found.per.length_s, found.scaled_capacity) == (100_000, 60.0, 200_000)


@pytest.mark.parametrize(
    "change",
    [
        {"limit": 0},
        {"limit": -5},
        {"limit": "many"},
        {"limit": float("nan")},
        {"limit": 1e16},
        {"unit": "euros"},
        {"per": 60},
        {"per": "year"},
        {"per": "0s"},
        {"per": "forever"},
        {"burst": 0},
        {"when_spent": "panic"},
        {"overrun": "forgive"},
        {"cached_weight": 1.1},
        {"cached_weight": -0.1},
        {"cached_weight": True},
        {"shadow": "maybe so"},
        {"models": ["a b"]},
    ],
)
def test_slips_are_refused(change: dict[str, object]) -> None:
    """A limit of nothing, an unknown unit, a period without a unit and their like."""
    with pytest.raises(ValueError, match="validation error"):
        budget(**change)


def test_terms_by_kind() -> None:
    """A duration is a bucket, a day a window, and places a gauge."""
    made = budget(limit=6, burst=9, cached_weight=0.25, overrun="stop").terms("t", "", "UTC")
    assert isinstance(made, Bucket)
    assert (made.limit, made.capacity, made.period_ns, made.cached_millionths, made.stops) == (
        6,
        9,
        60 * 10**9,
        250_000,
        True,
    )
    assert isinstance(budget(per="day").terms("t", "", "UTC"), Window)
    assert isinstance(Budget.model_validate({"unit": "concurrent", "limit": 5}).terms("t", "", "UTC"), Gauge)


def test_an_id_survives_what_a_reload_may_change() -> None:
    """Limit, burst, behaviour and spelling change nothing; tenant, key, models, unit and period make another budget."""
    made = budget().terms("t", "", "UTC").id
    same = [budget(limit=9, burst=99), budget(per="60s"), budget(shadow=True), budget(models=["*"])]
    assert {each.terms("t", "", "Asia/Tokyo").id for each in same} == {made}
    others = [budget(unit="requests"), budget(per="1h"), budget(models=["a"]), budget(per="day")]
    ids = {made, budget().terms("u", "", "UTC").id, budget().terms("t", "k", "UTC").id}
    assert len(ids | {each.terms("t", "", "UTC").id for each in others}) == 7
    assert budget(models=["a", "b"]).terms("t", "", "UTC").id == budget(models=["b", "a"]).terms("t", "", "UTC").id


@pytest.mark.parametrize(
    ("per", "zone", "now", "start", "end"),
    [
        ("day", "UTC", "2026-03-29T12:00", "2026-03-29", "2026-03-30"),
        ("day", "Europe/Berlin", "2026-03-29T12:00", "2026-03-29", "2026-03-30"),
        ("week", "UTC", "2026-03-29T23:59:59", "2026-03-23", "2026-03-30"),
        ("week", "UTC", "2026-03-30T00:00", "2026-03-30", "2026-04-06"),
        ("month", "UTC", "2026-12-31T23:00", "2026-12-01", "2027-01-01"),
        ("month", "America/New_York", "2026-02-28T23:59", "2026-02-01", "2026-03-01"),
        ("month", "UTC", "2028-02-29T00:00", "2028-02-01", "2028-03-01"),
    ],
)
def test_windows(per: str, zone: str, now: str, start: str, end: str) -> None:
    """Days, weeks from Monday and months begin at midnight of their zone, whatever the clocks do."""
    assert Days(per, zone_of(zone)).window(ns(now, zone)) == (ns(start, zone), ns(end, zone))


def test_a_day_of_a_change_of_clocks_has_23_or_25_hours() -> None:
    """Berlin in March and in October of 2026."""
    days = Days("day", zone_of("Europe/Berlin"))
    lengths = [
        (end - start) // (3600 * 10**9)
        for start, end in map(days.window, (ns("2026-03-29T12:00"), ns("2026-10-25T12:00")))
    ]
    assert lengths == [23, 25]


ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/Havana", "Asia/Kathmandu", "Pacific/Apia", "Africa/Cairo"])


@given(st.sampled_from(["day", "week", "month"]), ZONES, st.integers(10**9, 4 * 10**9))
def test_windows_follow_each_other(per: str, zone: str, now_s: int) -> None:
    """Every instant is in its window, and the next window begins where this one ends."""
    days = Days(per, zone_of(zone))
    start, end = days.window(now_s * 10**9)
    assert start <= now_s * 10**9 < end
    assert Days(per, zone_of(zone)).window(end)[0] == end
    assert Days(per, zone_of(zone)).window(start) == (start, end)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", 5, "../etc/passwd", "/etc/localtime", "Europe"])
def test_unknown_zones_are_refused(zone: object) -> None:
    """With what was expected."""
    with pytest.raises(ValueError, match="time zone"):
        zone_of(zone)


def test_utc_is_known_everywhere() -> None:
    """Also where the machine has no zones."""
    assert zone_of("UTC") is UTC
