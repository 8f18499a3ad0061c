"""What a dead worker had in flight."""

from pathlib import Path

import pytest

from gpubalancer.board import budget_layout as layout
from gpubalancer.board.board import BoardError
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_recovery import Left, counts_since_ns, dead_workers, rebuild, recover
from gpubalancer.board.budget_slots import slots_path
from gpubalancer.domain.budget import NOTHING, Claims, Spending, Terms
from tests.board.budget_terms import bucket, claims, gauge, held, till, window

NOW = 500
EXPECTED = Spending(30, 0, 20, 1)
ASKED = claims(window("w", 1000), gauge("places", 9), bucket("usd", 10**12, 10**9, unit="usd"))


def after(
    file: BudgetFile, terms_of: dict[bytes, Terms] | None = None, asked: Claims = ASKED
) -> tuple[list[Left], list[int]]:
    """What a recovery finds, and what is used of each budget after it; nothing may be reserved."""
    found: list[Left] = []
    known = {terms.id: terms for terms in asked.terms} if terms_of is None else terms_of
    recover(file, 0, known.get, NOW, found.append)
    states = [file.state(file.find(terms.id) or 0) for terms in asked.terms]
    assert [state[1] for state in states] == [0] * len(states)
    return found, [state[0] for state in states]


def test_what_no_backend_had_is_given_back(tmp_path: Path) -> None:
    """All of it."""
    file = BudgetFile.create(tmp_path / "budgets")
    own = till(file.path)
    held(own.reserve(ASKED, EXPECTED, NOW, b"id-1"))
    own.close()
    assert after(file) == ([Left(b"id-1", b"", NOW, NOTHING, was_sent=False, was_settled=False)], [0, 0, 0])


def test_what_was_streamed_is_charged_with_its_prompt(tmp_path: Path) -> None:
    """And with what the backend costs."""
    file = BudgetFile.create(tmp_path / "budgets")
    own = till(file.path)
    flying = held(own.reserve(ASKED, EXPECTED, NOW, b"id-1"))
    flying.sent(25)
    flying.rate(prompt_usd=2.0, completion_usd=4.0, joules=0.5)
    flying.progress(3)
    flying.progress(10)
    own.close()
    spending = Spending(25, 0, 10, 1, 90_000, 5000)
    assert after(file) == ([Left(b"id-1", b"", NOW, spending, was_sent=True, was_settled=False)], [35, 0, 90_000])


def test_what_was_settled_and_not_on_record_is_handed_over(tmp_path: Path) -> None:
    """With its facts, and is not charged again."""
    file = BudgetFile.create(tmp_path / "budgets")
    own = till(file.path)
    fact = Spending(25, 5, 40, 1, 77, 88)
    held(own.reserve(ASKED, EXPECTED, NOW, b"id-1")).settle(fact, NOW, keep=True)
    held(own.reserve(ASKED, EXPECTED, NOW, b"id-2")).settle(fact, NOW)
    own.close()
    assert after(file) == ([Left(b"id-1", b"", NOW, fact, was_sent=True, was_settled=True)], [130, 0, 154])


def test_a_budget_that_the_policy_no_longer_has_keeps_what_was_reserved(tmp_path: Path) -> None:
    """Nobody can say what it would have cost."""
    file = BudgetFile.create(tmp_path / "budgets")
    own = till(file.path)
    held(own.reserve(ASKED, EXPECTED, NOW))
    own.close()
    assert after(file, {})[1] == [50, 1, 0]


def test_a_longer_reservation_is_given_back_whole(tmp_path: Path) -> None:
    """Also what was added to it."""
    file = BudgetFile.create(tmp_path / "budgets")
    own = till(file.path)
    assert held(own.reserve(ASKED, EXPECTED, NOW)).extend(Spending(completion_tokens=100), NOW)
    own.close()
    assert after(file)[1] == [0, 0, 0]


def test_a_second_recovery_finds_nothing(tmp_path: Path) -> None:
    """Each request is settled once, and the row serves a new worker."""
    file = BudgetFile.create(tmp_path / "budgets")
    own = till(file.path)
    held(own.reserve(ASKED, EXPECTED, NOW)).sent(30)
    own.close()
    assert dead_workers(file) == [0]
    assert len(after(file)[0]) == 1
    assert dead_workers(file) == []
    assert after(file) == ([], [30, 0, 0])
    till(file.path).close()


def test_a_request_that_no_budget_counts_is_handed_over_all_the_same(tmp_path: Path) -> None:
    """With what it had taken and who served it, so that it goes on record; there is nothing to settle."""
    file = BudgetFile.create(tmp_path / "budgets")
    own = till(file.path)
    flying, kept = own.enter(NOW, b"id-1"), own.enter(NOW, b"id-2")
    flying.sent(30, b"gpu-1")
    flying.progress(4)
    kept.settle(EXPECTED, NOW, keep=True)
    own.close()
    found: list[Left] = []
    assert recover(file, 0, lambda _: None, NOW, found.append) == 2
    assert found == [
        Left(b"id-1", b"gpu-1", NOW, Spending(30, 0, 4, 1), was_sent=True, was_settled=False),
        Left(b"id-2", b"", NOW, EXPECTED, was_sent=True, was_settled=True),
    ]


def test_a_recovery_that_is_killed_hands_over_again(tmp_path: Path) -> None:
    """What it had settled is told once more, as settled, and charged no second time."""
    file = BudgetFile.create(tmp_path / "budgets")
    own = till(file.path)
    held(own.reserve(ASKED, EXPECTED, NOW)).sent(30)
    own.close()

    def dies(left: Left) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        recover(file, 0, {terms.id: terms for terms in ASKED.terms}.get, NOW, dies)
    found, used = after(file)
    assert [(left.spending.prompt_tokens, left.was_settled) for left in found] == [(30, True)]
    assert used == [30, 0, 0]


def test_a_living_worker_is_left_alone(tmp_path: Path) -> None:
    """Its row is in use, and it is not among the dead."""
    file = BudgetFile.create(tmp_path / "budgets")
    own = till(file.path)
    with pytest.raises(BoardError, match="living"):
        recover(file, 0, lambda _: None, NOW, lambda _: None)
    assert dead_workers(file) == []
    own.close()
    assert recover(file, 5, lambda _: None, NOW, lambda _: None) == 0


def test_a_file_is_rebuilt_from_what_the_ledger_says(tmp_path: Path) -> None:
    """Windows exactly; buckets at least as far as they can be spent; what is in flight is known by nobody."""
    file = BudgetFile.create(tmp_path / "budgets")
    budgets = [window("w", 100, 1000), bucket("b", 10, 1000, burst=20), gauge("g", 5), window("unused", 5, 1000)]
    assert [counts_since_ns(terms, 7500) for terms in (*budgets[:2], budgets[3])] == [7000, 5500, 7000]
    ledger = {budgets[0].id: 130, budgets[1].id: 90, budgets[3].id: 0}
    assert rebuild(file, budgets, ledger, 7500) == 2
    assert file.born_ns(file.find(budgets[0].id) or 0) == 0
    left = [terms.remaining(file.state(file.find(terms.id) or 0)) for terms in budgets[:2]]
    assert left == [-30, 0]
    assert file.find(budgets[2].id) is None
    rows = [terms.at(file.state(file.find(terms.id) or 0), 8500) for terms in budgets[:2]]
    assert [terms.remaining(state) for terms, state in zip(budgets, rows, strict=False)] == [70, 10]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (0, 77),
        (layout.SLOT_COUNT, 99),
        (layout.SLOT_COUNT, -1),
        (layout.SLOT_SERVER_BYTES, 97),
        (layout.SLOT_ROWS, 10**9),
        (layout.SLOT_LABEL_BYTES, -1),
    ],
)
def test_a_slot_with_nonsense_is_freed(tmp_path: Path, cell: int, value: int) -> None:
    """It takes nobody down; what it held stays reserved in budgets that are then rebuilt or swept by hand."""
    file = BudgetFile.create(tmp_path / "budgets")
    own = till(file.path)
    held(own.reserve(ASKED, EXPECTED, NOW))
    own.slots.cells[cell] = value
    own.close()
    assert recover(file, 0, {terms.id: terms for terms in ASKED.terms}.get, NOW, lambda _: None) == 0
    assert slots_path(file.path, 0).exists()
    till(file.path).close()
