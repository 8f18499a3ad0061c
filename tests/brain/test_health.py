"""What one worker has seen: who is ejected, for how long, and how it comes back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.health import FIRST_S, FORGET_S, LONGEST_S, TRIAL_S, Failure, Health

ROWS = np.array([2, 0], dtype=np.intp)


def avoided(health: Health, now_s: float) -> list[bool] | None:
    """Which of the two backends is avoided; they have the rows 2 and 0."""
    flags = health.avoided(ROWS, now_s)
    return None if flags is None else flags.tolist()


def test_who_cannot_be_connected_to_is_ejected_at_once() -> None:
    """Only the backend that failed, and only for `FIRST_S`."""
    health = Health(4)
    assert avoided(health, 10.0) is None
    assert health.failed(2, 10.0)
    assert avoided(health, 10.0) == [True, False]
    assert avoided(health, 10.0 + FIRST_S * 0.99) == [True, False]
    assert avoided(health, 10.0 + FIRST_S) is None


@pytest.mark.parametrize(("failure", "times"), [("broken", 2), ("unavailable", 4)])
def test_weaker_signs_must_come_in_a_row(failure: Failure, times: int) -> None:
    """One more before an answer changes nothing; that many without one eject."""
    health = Health(4)
    for _ in range(times - 1):
        assert not health.failed(2, 10.0, failure)
    assert avoided(health, 10.0) is None
    health.answered(2)
    health.served(2)
    for number in range(times):
        assert health.failed(2, 11.0, failure) == (number == times - 1)
    assert avoided(health, 11.0) == [True, False]


@given(st.integers(1, 20))
def test_ejections_grow_up_to_a_limit(ejections: int) -> None:
    """Each further one within `FORGET_S` lasts twice as long."""
    health, now_s, pause_s = Health(4), 0.0, 0.0
    for number in range(ejections):
        assert health.failed(0, now_s)
        pause_s = min(LONGEST_S, FIRST_S * 2.0**number)
        assert avoided(health, now_s + pause_s * 0.999) == [False, True]
        assert avoided(health, now_s + pause_s) is None
        now_s += pause_s
        health.answered(0)
        health.served(0)
    assert health.failed(0, now_s + FORGET_S + 1)
    assert avoided(health, now_s + FORGET_S + 1 + FIRST_S) is None


def test_of_many_that_fail_at_once_one_counts() -> None:
    """A hundred requests in flight on a backend that dies make one ejection, the shortest."""
    health = Health(4)
    assert [health.failed(0, 0.0) for _ in range(100)].count(True) == 1
    assert avoided(health, FIRST_S) is None


def test_half_open_lets_one_request_through() -> None:
    """Others follow when it is answered; while it is not, another is let through after `TRIAL_S`."""
    health = Health(4)
    health.failed(2, 0.0)
    assert avoided(health, FIRST_S) is None
    health.sent(2, FIRST_S)
    assert avoided(health, FIRST_S) == [True, False]
    assert avoided(health, FIRST_S + TRIAL_S) is None
    health.sent(2, FIRST_S + TRIAL_S)
    assert avoided(health, FIRST_S + TRIAL_S) == [True, False]
    health.answered(2)
    assert avoided(health, FIRST_S + TRIAL_S) is None
    health.sent(2, FIRST_S + TRIAL_S)
    assert avoided(health, FIRST_S + TRIAL_S) is None


def test_a_trial_that_fails_ejects_for_longer() -> None:
    """Though the time of the trial itself has not passed."""
    health = Health(4)
    health.failed(2, 0.0)
    health.sent(2, FIRST_S)
    assert health.failed(2, FIRST_S + 0.1, "broken")
    assert avoided(health, FIRST_S + 0.1 + 2 * FIRST_S * 0.99) == [True, False]
    assert avoided(health, FIRST_S + 0.1 + 2 * FIRST_S) is None


def test_who_breaks_every_answer_off_is_ejected() -> None:
    """That the answers began does not save it; one that ended well in between does."""
    health = Health(4)
    for _ in range(3):
        health.answered(2)
        assert not health.failed(2, 0.0, "cut")
        health.answered(2)
        health.served(2)
    assert not health.failed(2, 1.0, "cut")
    health.answered(2)
    assert health.failed(2, 2.0, "cut")
    assert avoided(health, 2.0) == [True, False]


def test_an_answer_of_one_says_nothing_of_another() -> None:
    """The others' pauses stay."""
    health = Health(4)
    health.failed(0, 0.0)
    health.failed(2, 0.0)
    health.answered(2)
    assert avoided(health, 0.0) == [False, True]


def test_rows_that_are_not_asked_for_do_not_count() -> None:
    """A backend outside the fleet is nobody's concern."""
    health = Health(4)
    health.failed(3, 0.0)
    assert avoided(health, 0.0) is None
