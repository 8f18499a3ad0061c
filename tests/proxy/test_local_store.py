"""The board's budgets as requests use them."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_locks import BusyError
from gpubalancer.board.budget_reservation import Reservation
from gpubalancer.domain.budget import Refusal, Spending
from gpubalancer.domain.errors import RequestError
from gpubalancer.proxy.local_store import LocalStore
from tests.board.budget_terms import claims, till, window


def test_it_reserves_and_refuses(tmp_path: Path) -> None:
    """As its till does, with how all budgets stand."""
    file = BudgetFile.create(tmp_path / "budgets")
    store = LocalStore(till(file.path))
    asked = claims(window("w", 10), window("shadow", 1, shadow=True))
    held = asyncio.run(store.reserve(asked, Spending(5, 0, 5, 1)))
    assert isinstance(held, Reservation)
    assert [terms.shadow for terms in held.overdrawn] == [True]
    refused = asyncio.run(store.reserve(asked, Spending(1, 0, 0, 1)))
    assert isinstance(refused, Refusal)
    assert [stands.remaining for stands in refused.standings] == [0]
    assert store.late == 0
    assert store.enter(b"label").claims.terms == ()
    store.close()
    file.close()


def raising(error: Exception) -> Callable[..., object]:
    """Whatever is called, this comes of it."""

    def fail(*_: object) -> object:
        raise error

    return fail


@pytest.mark.parametrize("error", [BusyError("held"), OSError("full")])
def test_what_can_not_be_had_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The client is told when to come back."""
    file = BudgetFile.create(tmp_path / "budgets")
    own = till(file.path)
    monkeypatch.setattr(own, "reserve", raising(error))
    with pytest.raises(RequestError) as caught:
        asyncio.run(LocalStore(own).reserve(claims(window("w", 10)), Spending(5, 0, 5, 1)))
    assert (caught.value.code, caught.value.status) == ("overloaded", 429)
    assert caught.value.retry_after_s
    monkeypatch.setattr(own, "enter", raising(OSError("full")))
    with pytest.raises(RequestError):
        LocalStore(own).enter(b"label")
    own.close()
    file.close()
