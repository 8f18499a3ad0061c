"""A worker's slots."""

from pathlib import Path

from gpubalancer.board.budget_layout import LABEL_BYTES, SLOT_ACTUAL, SLOT_CELLS, SLOTS_LEAST, Slot
from gpubalancer.board.budget_slots import SlotFile, slots_path
from gpubalancer.domain.budget import Spending


def test_what_was_written_is_read_by_the_next(tmp_path: Path) -> None:
    """Rows, amounts and label, by another opening."""
    path = slots_path(tmp_path / "budgets", 3)
    assert path.name == "budgets.worker-3"
    slots = SlotFile(path)
    slot = slots.take()
    slots.begin(slot, 7, 500, (4, 9), (40, 90), b"label")
    slots.write(slot, SLOT_ACTUAL, (1, 2))
    slots.note(slot, Spending(1, 2, 3, 4, 5, 6))
    again = SlotFile(path)
    assert list(again.used()) == [slot]
    assert again.outstanding == 1
    assert (again.state(slot), again.rows(slot), again.held(slot)) == (Slot.RESERVING, (4, 9), (40, 90))
    assert (again.actual(slot), again.label(slot)) == ((1, 2), b"label")
    assert again.is_sane(slot, 10)
    assert not again.is_sane(slot, 9)


def test_slots_grow_and_come_back(tmp_path: Path) -> None:
    """Twice as many each time; a slot that is given back is taken again."""
    slots = SlotFile(tmp_path / "slots")
    taken = [slots.take() for _ in range(SLOTS_LEAST + 1)]
    assert len(set(taken)) == SLOTS_LEAST + 1
    assert slots.count == 2 * SLOTS_LEAST
    slots.give(taken[5])
    assert slots.take() == taken[5]
    slots.close()
    slots.close()


def test_cells_of_before_a_growth_are_the_same_memory(tmp_path: Path) -> None:
    """A reservation goes on writing where it began."""
    slots = SlotFile(tmp_path / "slots")
    before = slots.cells
    for _ in range(SLOTS_LEAST + 1):
        slots.take()
    before[SLOT_CELLS] = 77
    assert slots.cells[SLOT_CELLS] == 77


def test_a_long_label_is_cut(tmp_path: Path) -> None:
    """It never reaches into the next slot."""
    slots = SlotFile(tmp_path / "slots")
    slots.begin(0, 1, 1, (1,), (1,), b"x" * 5000)
    assert slots.label(0) == b"x" * LABEL_BYTES
    assert slots.state(1) == Slot.FREE
