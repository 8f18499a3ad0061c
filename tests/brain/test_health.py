"""What one worker has seen: pauses that double, and one success that forgets them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.health import FIRST_S, LONGEST_S, Health

ROWS = np.array([2, 0], dtype=np.intp)


def avoided(health: Health, now_s: float) -> list[bool] | None:
    """Which of the two backends is avoided; they have the rows 2 and 0."""
    flags = health.avoided(ROWS, now_s)
    return None if flags is None else flags.tolist()


def test_a_failure_is_avoided_for_a_moment() -> None:
    """Only the backend that failed is avoided, and only for `FIRST_S`."""
    health = Health(4)
    assert avoided(health, 10.0) is None
    health.failed(2, 10.0)
    assert avoided(health, 10.0) == [True, False]
    assert avoided(health, 10.0 + FIRST_S * 0.99) == [True, False]
    assert avoided(health, 10.0 + FIRST_S) is None


@given(st.integers(1, 60))
def test_the_pause_doubles_up_to_its_limit(failures: int) -> None:
    """After n failures in a row the pause is twice that of n - 1, and at most `LONGEST_S`."""
    health = Health(4)
    for _ in range(failures):
        health.failed(0, 0.0)
    pause_s = min(LONGEST_S, FIRST_S * 2.0 ** (failures - 1))
    assert avoided(health, pause_s * 0.999) == [False, True]
    assert avoided(health, pause_s) is None


def test_one_answer_forgets() -> None:
    """An answer ends the pause, and the next failure begins with the shortest one."""
    health = Health(4)
    for _ in range(5):
        health.failed(0, 0.0)
    health.answered(0)
    assert avoided(health, 0.0) is None
    health.failed(0, 0.0)
    assert avoided(health, FIRST_S) is None


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
