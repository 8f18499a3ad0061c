"""The file of all budgets: rows, groups, growth, damage, and changes that a killed process left half done."""

import time
from pathlib import Path

import pytest

from gpubalancer.board import budget_layout as layout
from gpubalancer.board.board import BoardError
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.domain.budget import SECOND_NS, Spending
from tests.board.budget_terms import bucket, claims, held, till, window


def test_rows_are_found_again_after_a_restart(tmp_path: Path) -> None:
    """With what was spent."""
    path, terms = tmp_path / "budgets", window("w", 100)
    file = BudgetFile.create(path)
    file.put(terms, (7, 0, 3000, 1, 2))
    file.close()
    again = BudgetFile.create(path)
    row = again.find(terms.id)
    assert row is not None
    assert (again.state(row), again.identity(row)) == ((7, 0, 3000, 1, 2), terms.id)
    assert repr(again) == "<BudgetFile 1 of 1024 rows>"
    assert again.set_aside is None


def test_a_second_supervisor_is_refused(tmp_path: Path) -> None:
    """While the first one lives."""
    path = tmp_path / "budgets"
    first = BudgetFile.create(path)
    with pytest.raises(BoardError, match="another balancer"):
        BudgetFile.create(path)
    first.close()
    BudgetFile.create(path).close()


def test_another_file_cannot_be_attached(tmp_path: Path) -> None:
    """It says so."""
    path = tmp_path / "budgets"
    path.write_bytes(b"something else")
    with pytest.raises(BoardError, match="no file of budgets"):
        BudgetFile.attach(path)


def test_the_file_grows_and_rows_stay_where_they_are(tmp_path: Path) -> None:
    """Also for who mapped it before."""
    path = tmp_path / "budgets"
    file, other = BudgetFile.create(path), BudgetFile.attach(path)
    terms = [bucket(f"b{number}", 100) for number in range(3000)]
    rows = [file.place([each])[0] for each in terms]
    assert len(set(rows)) == 3000
    assert file.rows > 1024
    assert [other.find(each.id) for each in terms] == rows
    file.close()
    again = BudgetFile.create(path)
    assert again.set_aside is None
    assert [again.find(each.id) for each in terms] == rows


def test_room_is_made_beforehand(tmp_path: Path) -> None:
    """A file for many budgets has rows for twice as many."""
    assert BudgetFile.create(tmp_path / "budgets", 10_000).rows >= 20_000


def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    """Ids that all want one set are a fault, and do not fill the disk."""
    file = BudgetFile.create(tmp_path / "budgets")
    file._first_sets = 1 << 22
    with pytest.raises(OSError, match="grow"):
        file._grow()


def test_rows_that_are_bound_together_have_one_root(tmp_path: Path) -> None:
    """Step by step, in any order."""
    file = BudgetFile.create(tmp_path / "budgets")
    a, b, c, d = (bucket(name, 5) for name in "abcd")
    file.place([a, b])
    file.place([c, d])
    roots = {file.root(row) for row in file.place([b, c])}
    assert {file.root(row) for row in file.place([a]) + file.place([d])} == roots
    assert len(roots) == 1
    assert all(file.is_root(root) for root in roots)


def test_a_change_that_was_left_half_done_is_finished_by_the_next(tmp_path: Path) -> None:
    """Whoever takes the group's lock writes what the redo record says."""
    file = BudgetFile.create(tmp_path / "budgets")
    rows = file.place([bucket("a", 5), bucket("b", 5)])
    root, places = file.root(rows[0]), [file.state_at(row) for row in rows]
    file.lock(root)
    file.commit(3, 1, root, places, [(1, 2, 3, 4, 5), (6, 7, 8, 9, 10)])
    for place in places:
        layout.STATE.pack_into(file.memory, place, 0, 0, 0, 0, 0)
    file.cells[(layout.REDO_AT + 3 * layout.REDO_BYTES) // 8 + layout.REDO_APPLIED] = 0
    file.cells[(layout.ROWS_AT + root * layout.ROW_BYTES) // 8 + layout.PENDING_CELL] = 4
    file.unlock(root)
    assert file.finish(3) == (1, 1)
    assert [file.state(row) for row in rows] == [(1, 2, 3, 4, 5), (6, 7, 8, 9, 10)]


def test_idle_rows_are_swept_and_others_stay(tmp_path: Path) -> None:
    """What is reserved, owed, not yet refilled, or just used stays."""
    path = tmp_path / "budgets"
    file = BudgetFile.create(path)
    now_ns, minute_ns = file.now_ns(), 61 * SECOND_NS
    kept = {
        "reserved": (1, 1, 0, 0, 0),
        "just now": (1, 0, now_ns, 0, 0),
        "slow": (1000, 0, now_ns - 2 * minute_ns, 0, 0),
    }
    for name, state in kept.items():
        file.put(bucket(name, 1, SECOND_NS), state)
    file.put(window("debt", 5), (0, 0, 1000, 7, 0))
    file.put(window("owed", 5), (9, 0, 1000, 0, 4))
    file.put(bucket("refilled", 1, SECOND_NS), (30, 0, now_ns - 2 * minute_ns, 0, 0))
    file.put(window("long ago", 5), (5, 0, 1000, 0, 0))
    shape = file.shape
    assert file.sweep() == 2
    assert file.shape == shape + 2
    assert file.sweep() == 0
    assert repr(file).startswith("<BudgetFile 5 of")


def test_a_groups_root_is_swept_after_its_leaves(tmp_path: Path) -> None:
    """So that no row points at one that is another's now."""
    file = BudgetFile.create(tmp_path / "budgets")
    file.place([bucket("a", 5), bucket("b", 5), bucket("c", 5)])
    assert [file.sweep(), file.sweep()] == [2, 1]


def test_the_clock_follows_the_wall_forward_only(tmp_path: Path) -> None:
    """And begins with it."""
    file = BudgetFile.create(tmp_path / "budgets")
    assert abs(file.now_ns() - time.time_ns()) < SECOND_NS
    file.follow(time.time_ns() + 3600 * SECOND_NS)
    assert file.now_ns() > time.time_ns() + 3599 * SECOND_NS
    file.follow(time.time_ns())
    assert file.now_ns() > time.time_ns() + 3599 * SECOND_NS


def test_a_file_that_was_corrupted_is_set_aside_with_its_workers_slots(tmp_path: Path) -> None:
    """Said once, under a new name, and the budgets begin anew."""
    path, asked = tmp_path / "budgets", claims(window("w", 100))
    file = BudgetFile.create(path)
    own = till(path)
    held(own.reserve(asked, Spending(1, 0, 1, 1), 500))
    own.close()
    file.close()
    with path.open("r+b") as content:
        content.write(b"\0" * 8)
    again = BudgetFile.create(path)
    assert again.set_aside == f"{path} was set aside as budgets.aside-1: it does not begin like a file of budgets"
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "budgets",
        "budgets.aside-1",
        "budgets.aside-1.worker-0",
    ]
    assert again.find(asked.terms[0].id) is None
    till(path).close()
