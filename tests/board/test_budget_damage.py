"""What is found wrong with a file of budgets."""

import os
from pathlib import Path

import pytest

from gpubalancer.board import budget_layout as layout
from gpubalancer.board.budget_damage import boot_fold, damage, set_aside
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.domain.budget import SECOND_NS
from tests.board.budget_terms import bucket, window


def broken(path: Path, at_bytes: int, value: int) -> str | None:
    """What is said of a good file with two budgets after one cell of it was changed; from the first row if negative."""
    file = BudgetFile.create(path)
    first, _ = sorted(file.place([bucket("a", 5), bucket("b", 5)]))
    place = at_bytes if at_bytes >= 0 else layout.ROWS_AT + first * layout.ROW_BYTES - at_bytes - 1
    file.cells[place // 8] = value
    file.close()
    fd = os.open(path, os.O_RDWR)
    said = damage(fd)
    os.close(fd)
    return said


@pytest.mark.parametrize(
    ("at_bytes", "value", "said"),
    [
        (4000, 7, None),
        (0, 7, "does not begin like"),
        (8, 9, "version 9"),
        (16, 0, "0 sets"),
        (24, 0, "0 segments"),
        (24, 3, "too few for 3 segments"),
        (-1 - 0, 12345, "does not stand where"),
        (-1 - 16, -5, "no budget can have"),
        (-1 - 24, (1 << 62) + 1, "no budget can have"),
        (-1 - 56, 10**6, "points at nothing"),
        (-1 - 64, 999, "points at nothing"),
        (-1 - 56, 1024, "point at each other"),
    ],
)
def test_each_damage_is_told(tmp_path: Path, at_bytes: int, value: int, said: str | None) -> None:
    """In one sentence; a page that nobody uses may hold anything."""
    found = broken(tmp_path / "budgets", at_bytes, value)
    assert (found is None) if said is None else said in (found or "")


def test_a_file_cut_short_is_damaged_and_an_empty_one_is_not(tmp_path: Path) -> None:
    """The latter has only just been made."""
    path = tmp_path / "budgets"
    BudgetFile.create(path).close()
    for length, said in ((200_000, "too few for 1 segments"), (20, "too few for a header"), (0, None)):
        with path.open("r+b") as content:
            content.truncate(length)
            found = damage(content.fileno())
        assert (found is None) if said is None else said in (found or "")


def test_a_future_that_will_not_come_is_healed_at_the_start(tmp_path: Path) -> None:
    """A state from a year ahead is of now, with what was spent; one from an hour ahead stays."""
    path = tmp_path / "budgets"
    file = BudgetFile.create(path)
    now_ns = file.now_ns()
    far, near = now_ns + 365 * 86_400 * SECOND_NS, now_ns + 3600 * SECOND_NS
    file.put(window("far", 5), (3, 0, far, 0, 0))
    file.put(window("near", 5), (3, 0, near, 0, 0))
    file.close()
    again = BudgetFile.create(path)
    rows = [again.find(window(name, 5).id) or 0 for name in ("far", "near")]
    assert [again.state(row)[0] for row in rows] == [3, 3]
    assert now_ns <= again.state(rows[0])[2] <= again.now_ns()
    assert again.state(rows[1])[2] == near


def test_names_of_what_is_set_aside_are_counted_up(tmp_path: Path) -> None:
    """Nothing is written over."""
    path = tmp_path / "budgets"
    names = []
    for _ in range(2):
        path.touch()
        names.append(set_aside(path))
    assert names == ["budgets.aside-1", "budgets.aside-2"]


def test_the_boot_is_known_by_a_number() -> None:
    """The same one all the time."""
    assert boot_fold() == boot_fold() < 1 << 60
