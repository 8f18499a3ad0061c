"""The till: what one worker reserves and settles."""

import os

import pytest

from gpubalancer.board import locks
from gpubalancer.board.board import BoardError
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_locks import BusyError
from gpubalancer.board.budgets import Till
from gpubalancer.domain.budget import Claims, Spending, State
from tests.board.budget_terms import bucket, claims, gauge, held, refused, till, window

SMALL, LARGE = Spending(3, 0, 2, 1), Spending(30, 0, 20, 1)


def states(file: BudgetFile, asked: Claims) -> list[State]:
    """What the file says of each budget."""
    return [file.state(row) for terms in asked.terms if (row := file.find(terms.id)) is not None]


def test_all_or_none(file: BudgetFile, own: Till) -> None:
    """Where one budget refuses, no other has changed."""
    asked = claims(bucket("wide", 1000), window("narrow", 40), gauge("places", 5))
    held(own.reserve(asked, SMALL, 500))
    assert [state[:2] for state in states(file, asked)] == [(5, 5), (5, 5), (1, 1)]
    answer = refused(own.reserve(asked, LARGE, 500))
    assert answer.terms is asked.terms[1]
    assert [state[:2] for state in states(file, asked)] == [(5, 5), (5, 5), (1, 1)]
    assert own.outstanding == 1


def test_a_second_settlement_does_nothing(file: BudgetFile, own: Till) -> None:
    """Neither does a release after it, nor a settlement after a release."""
    asked = claims(window("w", 100))
    first, second = held(own.reserve(asked, LARGE, 500)), held(own.reserve(asked, LARGE, 500))
    assert not first.settled
    first.settle(SMALL, 500)
    first.settle(LARGE, 500)
    first.release(500)
    second.release(500)
    second.settle(LARGE, 500)
    assert first.settled
    assert [state[:2] for state in states(file, asked)] == [(5, 0)]
    assert own.outstanding == 0


def test_over_run_is_debited_in_full(own: Till) -> None:
    """The balance goes below zero, and the next request is refused until it is paid."""
    asked = claims(bucket("b", 10, 10**9))
    held(own.reserve(asked, SMALL, 500)).settle(LARGE, 500)
    answer = refused(own.reserve(asked, SMALL, 500))
    assert answer.standing.remaining == -40
    assert answer.retry_after_s == pytest.approx(4.5)
    held(own.reserve(asked, SMALL, 500 + 4_500_000_000))


def test_a_slot_that_is_kept_stays_until_it_is_forgotten(own: Till) -> None:
    """So that a missing record can be made up for."""
    kept = held(own.reserve(claims(window("w", 100)), SMALL, 500))
    kept.settle(SMALL, 500, keep=True)
    assert own.outstanding == 1
    kept.forget()
    kept.forget()
    assert own.outstanding == 0


def test_more_can_be_reserved_for_a_longer_answer(file: BudgetFile, own: Till) -> None:
    """As long as it fits; the settlement gives all of it back."""
    asked = claims(bucket("b", 60, 10**9, stops=True), gauge("places", 1))
    flying = held(own.reserve(asked, LARGE, 500))
    assert flying.covered_tokens == 20
    assert flying.extend(Spending(completion_tokens=10), 500)
    assert flying.covered_tokens == 30
    assert not flying.extend(Spending(completion_tokens=1), 500)
    assert [state[:2] for state in states(file, asked)] == [(60, 60), (1, 1)]
    flying.settle(SMALL, 500)
    assert not flying.extend(Spending(completion_tokens=1), 500)
    assert [state[:2] for state in states(file, asked)] == [(5, 0), (0, 0)]


def test_standings_are_true_to_the_token(own: Till) -> None:
    """Right after a reservation, and whenever they are asked for; shadows are not told."""
    asked = claims(bucket("b", 100, 10**9), window("shadow", 5, shadow=True))
    flying = held(own.reserve(asked, LARGE, 500))
    assert [(stands.remaining, stands.limit) for stands in flying.standings()] == [(50, 100)]
    flying.settle(SMALL, 500)
    assert [stands.remaining for stands in own.standings(asked, 500)] == [95]
    assert [stands.remaining for stands in own.standings(asked, 10**9)] == [100]


def test_a_limit_that_is_changed_keeps_what_is_spent(own: Till) -> None:
    """The budget's row is found by its id."""
    held(own.reserve(claims(window("w", 100)), LARGE, 500)).settle(LARGE, 500)
    raised, lowered = claims(window("w", 200)), claims(window("w", 20))
    assert own.standings(raised, 500)[0].remaining == 150
    assert own.standings(lowered, 500)[0].remaining == -30


def test_two_workers_see_the_same(file: BudgetFile, own: Till) -> None:
    """What one has reserved, the other cannot."""
    other, asked = till(file.path, 1), claims(window("w", 60))
    held(own.reserve(asked, LARGE, 500))
    refused(other.reserve(asked, LARGE, 500))
    other.close()


def test_budgets_that_meet_later_are_one_group_then(own: Till) -> None:
    """A parent that is given to a tenant in a reload is charged with it at once."""
    child, parent = window("child", 1000), window("parent", 60)
    alone, above, both = claims(child), claims(parent), claims(child, parent)
    held(own.reserve(alone, SMALL, 500))
    held(own.reserve(above, SMALL, 500))
    held(own.reserve(both, LARGE, 500))
    refused(own.reserve(above, LARGE, 500))
    held(own.reserve(alone, LARGE, 500))


def test_a_worker_row_has_one_process(file: BudgetFile, own: Till) -> None:
    """A second one is refused, also one beyond the last."""
    attached = BudgetFile.attach(file.path)
    with pytest.raises(BoardError, match="in use"):
        Till(attached, own.worker)
    with pytest.raises(ValueError, match="128"):
        Till(attached, 128)
    attached.close()


def test_what_a_dead_process_left_must_be_recovered_first(file: BudgetFile) -> None:
    """Else its reservations would be lost among ours."""
    own = till(file.path)
    held(own.reserve(claims(window("w", 100)), SMALL, 500))
    own.close()
    attached = BudgetFile.attach(file.path)
    with pytest.raises(BoardError, match="process that is gone"):
        Till(attached, 0)


def test_many_requests_in_flight(file: BudgetFile, own: Till) -> None:
    """The slots grow, and reservations made before go on as they were."""
    asked = claims(window("w", 10**6))
    flying = [held(own.reserve(asked, SMALL, 500)) for _ in range(300)]
    for each in flying:
        each.progress(7)
        each.settle(SMALL, 500)
    assert own.outstanding == 0
    assert [state[:2] for state in states(file, asked)] == [(1500, 0)]


def test_a_lock_that_is_not_to_be_had_refuses_and_puts_off(file: BudgetFile, own: Till) -> None:
    """A holder that was stopped costs a reservation some milliseconds; a settlement is made up for."""
    asked = claims(window("w", 100))
    flying = held(own.reserve(asked, LARGE, 500))
    row = file.find(asked.terms[0].id)
    assert row is not None
    holder = os.open(file.path, os.O_RDWR)
    assert locks.try_lock(holder, locks.ROW_BYTE + row)
    with pytest.raises(BusyError, match="50 ms"):
        own.reserve(asked, SMALL, 500)
    flying.settle(SMALL, 500)
    assert [state[:2] for state in states(file, asked)] == [(50, 50)]
    os.close(holder)
    held(own.reserve(asked, SMALL, 500)).release(500)
    assert [state[:2] for state in states(file, asked)] == [(5, 0)]
    assert own.outstanding == 0


def test_a_row_that_was_swept_away_is_made_again(file: BudgetFile, own: Till) -> None:
    """A worker that remembers the old place looks again."""
    asked = claims(bucket("b", 100, 1000))
    held(own.reserve(asked, SMALL, 500)).settle(SMALL, 500)
    assert file.sweep() == 1
    assert file.find(asked.terms[0].id) is None
    held(own.reserve(asked, LARGE, 500)).settle(LARGE, 500)
    assert states(file, asked)[0][:2] == (50, 0)
