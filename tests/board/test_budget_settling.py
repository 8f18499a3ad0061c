"""The last step of a request on its budgets."""

from pathlib import Path

from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_layout import SLOT_OP
from gpubalancer.board.budget_settling import NEVER, settle_rows
from gpubalancer.board.budget_slots import SlotFile
from tests.board.budget_terms import window


def test_known_and_unknown_budgets_are_settled_in_one_change(tmp_path: Path) -> None:
    """One that the policy no longer has keeps what was reserved."""
    file, slots = BudgetFile.create(tmp_path / "budgets"), SlotFile(tmp_path / "slots")
    terms = [window("a", 100), window("b", 100)]
    for each in terms:
        file.put(each, (50, 50, 1000, 0, 0))
    rows = file.place(terms)
    slots.cells[SLOT_OP] = NEVER
    places, root = [file.state_at(row) for row in rows], file.root(rows[0])
    file.lock(root)
    settle_rows(file, slots, (0, 1, 0), [terms[0], None], places, ([50, 50], [20, 20]), root, 1500)
    file.unlock(root)
    assert [file.state(row)[:2] for row in rows] == [(20, 0), (50, 0)]
    assert slots.cells[SLOT_OP] == 1
