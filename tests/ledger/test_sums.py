"""Sums: groups, days and what counts as a request."""

from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.ledger.records import LAST_US, Entry
from gpubalancer.ledger.sums import NOTHING, Group, Sums, day_of, roll_up, sums_of, total
from tests.ledger.entries import ENTRIES, entry


def test_a_day_is_of_utc() -> None:
    """A microsecond before midnight is still the day before, up to the end of the calendar."""
    assert day_of(86_400_000_000 - 1) == "1970-01-01"
    assert day_of(86_400_000_000) == "1970-01-02"
    assert day_of(LAST_US) == "9999-12-31"


def test_a_request_counts_when_it_was_charged() -> None:
    """One that was refused is counted apart."""
    assert sums_of(entry(0)) == Sums(1, 0, 100, 0, 10, 5, 7)
    assert sums_of(entry(0, requests=0, prompt_tokens=0, completion_tokens=0)) == Sums(0, 1, 0, 0, 0, 5, 7)


def test_entries_of_one_group_are_one_row() -> None:
    """Day, tenant, key, model, backend and tier tell rows apart, and nothing else does."""
    rows = roll_up([entry(0), entry(1, status=500, api="chat"), entry(2, tier="internal"), entry(3, tenant="other")])
    assert rows == {
        Group("2026-11-23", "team", "-", "llama", "gpu-1", "-"): Sums(2, 0, 201, 0, 20, 10, 14),
        Group("2026-11-23", "team", "-", "llama", "gpu-1", "internal"): Sums(1, 0, 102, 0, 10, 5, 7),
        Group("2026-11-23", "other", "-", "llama", "gpu-1", "-"): Sums(1, 0, 103, 0, 10, 5, 7),
    }


@given(st.lists(ENTRIES, max_size=20))
def test_rows_add_up_to_the_entries(entries: list[Entry]) -> None:
    """However entries fall into groups, nothing comes and nothing goes."""
    alone = NOTHING
    for each in entries:
        alone = alone.plus(sums_of(each))
    assert total(roll_up(entries).values()) == total(map(sums_of, entries)) == alone
