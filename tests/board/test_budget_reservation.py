"""What one request holds, from its reservation to its record."""

import os

from gpubalancer.board import locks
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budgets import Till
from gpubalancer.domain.budget import Spending
from tests.board.budget_terms import claims, held, window

SMALL, LARGE = Spending(3, 0, 2, 1), Spending(30, 0, 20, 1)


def test_a_settlement_that_was_put_off_is_forgotten_when_it_is_made(file: BudgetFile, own: Till) -> None:
    """Its slot is not given to another request before, and is free after."""
    asked = claims(window("w", 100))
    flying = held(own.reserve(asked, LARGE, 500))
    holder = os.open(file.path, os.O_RDWR)
    assert locks.try_lock(holder, locks.ROW_BYTE + (file.find(asked.terms[0].id) or 0))
    flying.settle(SMALL, 500, keep=True)
    flying.forget()
    assert (own.outstanding, own.late) == (1, 1)
    os.close(holder)
    own.settle_late()
    assert (own.outstanding, own.late) == (0, 0)
    assert file.state(file.find(asked.terms[0].id) or 0)[:2] == (5, 0)


def test_a_request_that_no_budget_counts_holds_a_slot_and_nothing_else(own: Till) -> None:
    """It is entered, served and settled like any other."""
    flying = own.enter(500, b"id")
    flying.sent(3, b"s" * 200)
    flying.progress(9)
    assert (own.outstanding, flying.standings(), len(own.slots.server(0))) == (1, [], 96)
    flying.settle(SMALL, 500)
    assert own.outstanding == 0
