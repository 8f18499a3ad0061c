"""One budget's arithmetic, kind by kind."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.domain.budget import NEW, NOTHING, Claims, Spending, Terms, refusal, standing
from tests.board.budget_terms import bucket, claims, gauge, window


def took(terms: Terms, now_ns: int, amount: int) -> tuple[int, int, int, int, int]:
    """A new budget in which so much was taken and settled at once."""
    return terms.settle(terms.take(terms.at(NEW, now_ns), amount), amount, amount)


def test_what_a_request_is_charged_depends_on_the_unit() -> None:
    """Each unit counts its own part of a spending."""
    spending = Spending(100, 40, 20, 1, 7_000_000_000, 1500)
    units = ("tokens", "prompt_tokens", "completion_tokens", "requests", "usd", "joules", "concurrent")
    charges = [bucket(unit, 5, unit=unit).charge(spending) for unit in units]
    assert charges == [120, 100, 20, 1, 7_000_000_000, 1500, 0]
    assert gauge("places", 5).need(NOTHING) == 1


@pytest.mark.parametrize(("weight", "tokens"), [(0, 80), (100_000, 84), (333_333, 94), (1_000_000, 120)])
def test_cached_tokens_have_their_own_weight(weight: int, tokens: int) -> None:
    """A cached prompt token counts as much as the weight says, rounded up."""
    assert bucket("b", 5, cached_millionths=weight).charge(Spending(100, 40, 20, 1)) == tokens


def test_more_cached_tokens_than_tokens_are_worth_nothing() -> None:
    """Usage that lies gives no tokens back."""
    assert bucket("b", 5, unit="prompt_tokens", cached_millionths=0).charge(Spending(10, 40, 0, 1)) == 0


@given(st.lists(st.integers(0, 10**7), max_size=30), st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_bucket_refills_to_the_last_fraction(steps: list[int], limit: int, period_ns: int) -> None:
    """However often it is looked at, what came back is what the whole time is worth, rounded down."""
    terms = bucket("b", limit, period_ns, burst=10**15)
    state, now_ns = took(terms, 1, 10**15), 1
    for step in steps:
        now_ns += step
        state = terms.at(state, now_ns)
    worth = Fraction((now_ns - 1) * limit, period_ns)
    assert terms.remaining(state) == min(10**15, worth.numerator // worth.denominator)


def test_a_bucket_says_when_enough_is_back() -> None:
    """At that time it fits, a nanosecond before it does not."""
    terms = bucket("b", 7, 1000, burst=20)
    state = took(terms, 50, 20)
    wait_ns = terms.wait_ns(state, 3, 50)
    assert wait_ns == 429
    assert terms.remaining(terms.at(state, 50 + 429)) == 3
    assert terms.remaining(terms.at(state, 50 + 428)) == 2
    assert terms.reset_ns(state, 50) == 2858
    assert terms.wait_ns(state, 21, 50) is None


def test_over_run_is_debt() -> None:
    """What was taken beyond the balance is paid before anything else."""
    terms = bucket("b", 10, 1000)
    state = terms.settle(terms.take(terms.at(NEW, 1), 10), 10, 35)
    assert terms.remaining(state) == -25
    assert terms.remaining(terms.at(state, 1001)) == -15
    assert terms.wait_ns(state, 1, 1) == 2600


def test_giving_back_never_fills_above_the_brim() -> None:
    """What was refilled meanwhile is not given twice."""
    terms = bucket("b", 10, 1000)
    state = terms.at(terms.take(terms.at(NEW, 1), 8), 1001)
    assert terms.remaining(terms.settle(state, 8, 0)) == 10


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """Neither a bucket nor a window is refilled twice for the same time."""
    terms = bucket("b", 10, 1000)
    state = terms.at(took(terms, 5000, 10), 5500)
    assert terms.at(state, 4000) == state
    assert terms.at(terms.at(state, 4000), 5500) == state
    days = window("w", 10, 1000)
    later = took(days, 3500, 4)
    assert days.at(later, 2999) == later


def test_a_window_begins_anew_with_what_is_in_flight() -> None:
    """What ends in a window counts there."""
    terms = window("w", 10, 1000)
    state = terms.take(took(terms, 500, 3), 5)
    assert terms.remaining(state) == 2
    state = terms.at(state, 1500)
    assert terms.remaining(state) == 5
    assert terms.remaining(terms.settle(state, 5, 2)) == 8


def test_a_windows_debt_is_paid_by_the_next_ones() -> None:
    """An over-run of two and a half limits leaves half of the third window."""
    terms = window("w", 10, 1000)
    state = terms.settle(terms.take(terms.at(NEW, 500), 10), 10, 35)
    assert [terms.remaining(terms.at(state, now_ns)) for now_ns in (600, 1500, 2500, 3500, 4500)] == [
        -25,
        -15,
        -5,
        5,
        10,
    ]


def test_a_lowered_limit_is_no_debt() -> None:
    """What was spent under the old limit does not burden the next window."""
    state = took(window("w", 100, 1000), 500, 90)
    lower = window("w", 10, 1000)
    assert lower.remaining(state) == -80
    assert lower.remaining(lower.at(state, 1500)) == 10


def test_a_shadow_window_makes_no_debt() -> None:
    """Who is never refused owes nothing."""
    terms = window("w", 10, 1000, shadow=True)
    state = terms.settle(terms.take(terms.at(NEW, 500), 10), 10, 35)
    assert terms.remaining(terms.at(state, 1500)) == 10


def test_places_come_back() -> None:
    """A gauge holds what is reserved, and nothing of what was."""
    terms = gauge("g", 2)
    state = terms.take(terms.take(NEW, 1), 1)
    assert terms.remaining(state) == 0
    assert terms.wait_ns(state, 1, 5) == 10**9
    assert terms.remaining(terms.at(terms.settle(state, 1, 0), 5)) == 1


def test_the_refusal_is_that_of_the_budget_which_takes_longest() -> None:
    """Retry-After is true for all of them; never is longest."""
    asked = claims(bucket("quick", 10, 1000), window("slow", 10, 10**12), bucket("free", 10**9, 1000))
    states = [took(terms, 500, 10) for terms in asked.terms]
    found = refusal(asked, states, [5, 5, 5], 500)
    assert found is not None
    assert found.terms is asked.terms[1]
    assert found.retry_after_s == pytest.approx(1000.0)
    found = refusal(asked, states, [11, 5, 5], 500)
    assert found is not None
    assert (found.terms, found.retry_after_s) == (asked.terms[0], None)
    assert refusal(asked, states, [0, 0, 5], 500) is None


def test_who_owes_is_refused_also_what_costs_nothing() -> None:
    """A budget whose estimate is unknown still refuses once it is in debt."""
    asked = Claims((bucket("b", 10, 10**9, unit="joules"),), stops=False)
    state = took(asked.terms[0], 500, 11)
    assert refusal(asked, [state], [0], 500) is not None


def test_a_shadow_refuses_nobody() -> None:
    """It only counts."""
    asked = claims(bucket("b", 10, shadow=True))
    assert refusal(asked, [took(asked.terms[0], 500, 10)], [5], 500) is None


def test_standings_are_in_the_units_own_measure() -> None:
    """Dollars, not nano-dollars."""
    terms = bucket("b", 2_500_000_000, 10**9, unit="usd")
    stands = standing(terms, took(terms, 500, 500_000_000), 500)
    assert (stands.limit, stands.remaining, stands.reset_s) == (2.5, 2.0, 0.2)


def test_a_window_needs_a_calendar() -> None:
    """One without is a mistake of ours."""
    broken = type(window("w", 5))(b"i" * 16, "t", "tokens", "day", 5, 5)
    with pytest.raises(ValueError, match="calendar"):
        broken.at(NEW, 5)
