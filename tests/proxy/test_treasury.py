"""The supervisor's end of the budgets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpubalancer.board.board import BoardError
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_recovery import Left
from gpubalancer.board.budget_reservation import Reservation
from gpubalancer.board.budgets import Till
from gpubalancer.brain.budget import BudgetPlan
from gpubalancer.domain.budget import Spending
from gpubalancer.domain.outcome import Outcome
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.treasury import RECOVER_S, SWEEP_S, Treasury

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


class Graveyard:
    """Takes requests of dead workers, unless there is no room."""

    def __init__(self) -> None:
        self.buried: list[tuple[Outcome, Left]] = []
        self.has_room = True

    def __call__(self, outcome: Outcome, left: Left, at_ns: int) -> bool:
        if not self.has_room:
            raise OSError("no room")
        self.buried.append((outcome, left))
        return not left.was_settled


@pytest.fixture
def graves() -> Graveyard:
    """Where they go."""
    return Graveyard()


@pytest.fixture
def clock() -> Clock:
    """The treasury's."""
    return Clock()


@pytest.fixture
def treasury(tmp_path: Path, graves: Graveyard, clock: Clock) -> Iterator[Treasury]:
    """Of one budget."""
    made = Treasury(tmp_path / "budgets", graves, clock)
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


def test_a_dead_workers_requests_are_settled_and_recorded(tmp_path: Path, treasury: Treasury) -> None:
    """One that was sent for its prompt and what was streamed, with what its slot tells of it."""
    till, reservation = reserve(tmp_path)
    reservation.sent(10, b"gpu-1\ngpu")
    reservation.progress(5)
    assert treasury.recover() == []
    till.close()
    (outcome,) = treasury.recover()
    assert (outcome.decision_id, outcome.tenant, outcome.backend, outcome.reason) == (
        "r-1",
        "acme",
        "gpu-1",
        "worker_killed",
    )
    assert dict(treasury.remaining()) == {PLACE: 985}
    assert treasury.recover() == []


def test_what_is_on_record_already_is_not_told_again(tmp_path: Path, treasury: Treasury, graves: Graveyard) -> None:
    """A request that had been settled when its worker died is asked for, and is no news if it was recorded."""
    till, reservation = reserve(tmp_path)
    reservation.settle(Spending(10, 0, 5, 1), till.now_ns(), keep=True)
    till.close()
    assert treasury.recover() == []
    assert [left.was_settled for _, left in graves.buried] == [True]
    assert dict(treasury.remaining()) == {PLACE: 985}


def test_without_room_for_the_record_a_request_waits(
    tmp_path: Path, treasury: Treasury, graves: Graveyard, clock: Clock
) -> None:
    """Its budget is settled; its slot stays until the record is made, which is tried again every few seconds."""
    till, reservation = reserve(tmp_path)
    reservation.sent(10)
    till.close()
    graves.has_room = False
    assert treasury.recover() == []
    assert dict(treasury.remaining()) == {PLACE: 990}
    graves.has_room = True
    assert treasury.tidy() == []
    clock.now_s += RECOVER_S
    treasury.tidy()
    assert [left.spending for _, left in graves.buried] == [Spending(10, 0, 0, 1)]
    assert dict(treasury.remaining()) == {PLACE: 990}


def test_a_second_supervisor_is_refused(tmp_path: Path, treasury: Treasury) -> None:
    """One owns the file."""
    with pytest.raises(BoardError):
        Treasury(tmp_path / "budgets", Graveyard())


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    """And said once."""
    (tmp_path / "budgets").write_bytes(b"nonsense" * 1000)
    made = Treasury(tmp_path / "budgets", Graveyard())
    assert made.set_aside is not None
    made.close()
    again = Treasury(tmp_path / "budgets", Graveyard())
    assert again.set_aside is None
    again.close()


def test_it_is_tidied_once_a_minute(tmp_path: Path) -> None:
    """And not before there is a policy, which changes nothing."""
    clock = Clock()
    made = Treasury(tmp_path / "budgets", Graveyard(), clock)
    made.recover()
    made.tidy()
    clock.now_s += SWEEP_S
    made.tidy()
    assert list(made.remaining()) == []
    made.close()
