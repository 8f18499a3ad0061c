"""The supervisor's end of the budgets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpubalancer.board.board import BoardError
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budgets import Reservation, Till
from gpubalancer.brain.budget import BudgetPlan
from gpubalancer.domain.budget import Spending
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.treasury import SWEEP_S, Treasury

POLICY = Policy.model_validate(
    {
        "backends": [{"url": "http://127.0.0.1:9", "models": ["m"]}],
        "tenants": [{"name": "acme", "budgets": [{"unit": "tokens", "limit": 1000, "per": "month"}]}],
    }
)
PLACE = ("acme", "tokens", "month")


class Clock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def treasury(tmp_path: Path) -> Iterator[Treasury]:
    """Of one budget."""
    made = Treasury(tmp_path / "budgets", Clock())
    made.adopt(POLICY)
    yield made
    made.close()


def reserve(folder: Path) -> tuple[Till, Reservation]:
    """A worker with 100 tokens reserved."""
    till = Till(BudgetFile.attach(folder / "budgets"), 3)
    claims = BudgetPlan(POLICY).claims("acme", "m")
    assert claims is not None
    reservation = till.reserve(claims, Spending(10, 0, 90, 1), till.now_ns(), b"r-1\nacme\nm")
    assert isinstance(reservation, Reservation)
    return till, reservation


def test_what_is_left_is_told_also_of_budgets_that_nobody_has_touched(tmp_path: Path, treasury: Treasury) -> None:
    """With what is reserved taken off."""
    assert dict(treasury.remaining()) == {PLACE: 1000}
    till, _ = reserve(tmp_path)
    assert dict(treasury.remaining()) == {PLACE: 900}
    till.close()


def test_a_dead_workers_requests_are_settled(tmp_path: Path, treasury: Treasury) -> None:
    """One that was sent for its prompt and what was streamed, while one that was not costs nothing."""
    till, reservation = reserve(tmp_path)
    reservation.sent(10)
    reservation.progress(5)
    treasury.recover()
    assert treasury.recovered == 0
    till.close()
    treasury.recover()
    assert treasury.recovered == 1
    assert dict(treasury.remaining()) == {PLACE: 985}
    treasury.recover()
    assert treasury.recovered == 1


def test_a_second_supervisor_is_refused(tmp_path: Path, treasury: Treasury) -> None:
    """One owns the file."""
    with pytest.raises(BoardError):
        Treasury(tmp_path / "budgets")


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    """And said once."""
    (tmp_path / "budgets").write_bytes(b"nonsense" * 1000)
    made = Treasury(tmp_path / "budgets")
    assert made.set_aside is not None
    made.close()
    again = Treasury(tmp_path / "budgets")
    assert again.set_aside is None
    again.close()


def test_it_is_tidied_once_a_minute(tmp_path: Path) -> None:
    """And not before there is a policy, which changes nothing."""
    clock = Clock()
    made = Treasury(tmp_path / "budgets", clock)
    made.recover()
    made.tidy()
    clock.now_s += SWEEP_S
    made.tidy()
    assert list(made.remaining()) == []
    made.close()
