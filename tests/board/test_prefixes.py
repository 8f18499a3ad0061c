"""The table of prefixes: who has read what, in a fixed number of bytes, seen alike by all processes."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpubalancer.board.board import Board
from gpubalancer.board.prefixes import LEAST_BYTES, MOST_AGE_S, PAGE_BYTES, Prefixes, open_table

NAMES = [(at * 0x9E3779B97F4A7C15) % 2**64 for at in range(1, 11)]
NOW_S = 5_000
LONG_S = 3600

names = st.lists(st.integers(1 << 32, 2**64 - 1), min_size=1, max_size=20)
"""One hash in 2**32 has the 32 bits of an empty entry."""


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """A board of three backends."""
    made = Board.create(tmp_path / "board", workers=1, backends=3)
    made.assign_rows(["a", "b", "c"])
    yield made
    made.close()


@pytest.fixture
def table(tmp_path: Path, board: Board) -> Prefixes:
    """The least table."""
    return Prefixes.create(tmp_path / "prefixes", LEAST_BYTES, board)


def test_the_longest_beginning_that_each_has_read(table: Prefixes) -> None:
    """Who has read the most is known exactly, others to the name before."""
    table.enter(NAMES[:7], 0, NOW_S)
    table.enter(NAMES[:5], 1, NOW_S)
    assert table.find(NAMES, NOW_S, LONG_S) == {0: 7, 1: 4}
    assert table.find(NAMES[:4], NOW_S, LONG_S) == {0: 4, 1: 4}
    assert table.find([5, 6, 7, 8], NOW_S, LONG_S) == {}
    assert table.find([], NOW_S, LONG_S) == {}


@pytest.mark.parametrize("depth", range(2, 11))
def test_every_length_is_found(table: Prefixes, depth: int) -> None:
    """Though only every second name is looked up at first."""
    table.enter(NAMES[:depth], 2, NOW_S)
    assert table.find(NAMES, NOW_S, LONG_S) == {2: depth}


def test_all_processes_have_the_same_view(tmp_path: Path, board: Board, table: Prefixes) -> None:
    """What one enters another finds, under the same salt."""
    other = Prefixes.attach(tmp_path / "prefixes", board)
    assert other is not None
    assert other.salt == table.salt
    table.enter(NAMES, 1, NOW_S)
    assert other.find(NAMES, NOW_S, LONG_S) == {1: 10}


def test_without_a_file_nobody_remembers(tmp_path: Path, board: Board) -> None:
    """A worker then does without."""
    assert Prefixes.attach(tmp_path / "prefixes", board) is None


def test_a_size_that_is_too_small_is_no_table(tmp_path: Path, board: Board, table: Prefixes) -> None:
    """And what was there goes, so that workers do without too."""
    assert open_table(tmp_path / "prefixes", LEAST_BYTES, board) is not None
    assert open_table(tmp_path / "prefixes", LEAST_BYTES - 1, board) is None
    assert Prefixes.attach(tmp_path / "prefixes", board) is None


def test_a_new_table_is_empty_and_has_another_salt(tmp_path: Path, board: Board, table: Prefixes) -> None:
    """What engines hold is not known after a start."""
    table.enter(NAMES, 1, NOW_S)
    fresh = Prefixes.create(tmp_path / "prefixes", LEAST_BYTES, board)
    assert fresh.find(NAMES, NOW_S, LONG_S) == {}
    assert fresh.salt != table.salt


@given(st.integers(LEAST_BYTES, 1 << 20))
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_never_takes_more_than_it_was_given(tmp_path: Path, board: Board, size_bytes: int) -> None:
    """The file has one page more than the greatest power of two that fits, however much is entered."""
    table = Prefixes.create(tmp_path / "prefixes", size_bytes, board)
    for number in range(200):
        table.enter([number * 0x9E3779B97F4A7C15 % 2**64], number % 3, NOW_S)
    assert size_bytes / 2 < table.size_bytes <= size_bytes
    assert (tmp_path / "prefixes").stat().st_size == table.size_bytes + PAGE_BYTES


@given(names, st.integers(0, 2), st.integers(0, 10**6), st.integers(0, MOST_AGE_S))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_entered_last_is_found_until_it_is_old(
    table: Prefixes, entered: list[int], row: int, at_s: int, age_s: int
) -> None:
    """At any time, of any row."""
    table.enter(entered, row, at_s)
    assert table.find(entered[-1:], at_s + age_s, age_s).get(row) == 1
    if age_s:
        assert row not in table.find(entered[-1:], at_s + age_s, age_s - 1)


def test_nothing_counts_from_before_a_backend_began_anew(board: Board, table: Prefixes) -> None:
    """A backend that was restarted holds nothing of before."""
    table.enter(NAMES[:6], 0, NOW_S)
    table.enter(NAMES[:4], 1, NOW_S)
    board.cached_since_s[0] = NOW_S + 1
    assert table.find(NAMES, NOW_S + 2, LONG_S) == {1: 4}
    table.enter(NAMES[:2], 0, NOW_S + 2)
    assert table.find(NAMES, NOW_S + 2, LONG_S) == {1: 4, 0: 2}


def test_eight_neighbours_hold_one_beginning(tmp_path: Path) -> None:
    """A system prompt that a whole fleet has read is remembered of each."""
    board = Board.create(tmp_path / "many", workers=1, backends=8)
    table = Prefixes.create(tmp_path / "prefixes", LEAST_BYTES, board)
    for row in range(8):
        table.enter(NAMES[:2], row, NOW_S)
    assert table.find(NAMES[:2], NOW_S, LONG_S) == dict.fromkeys(range(8), 2)
    board.close()


def test_one_entry_that_was_overwritten_does_not_hide_the_rest(table: Prefixes) -> None:
    """A hole in a chain is jumped over."""
    table.enter(NAMES[:3] + NAMES[4:8], 0, NOW_S)
    assert table.find(NAMES[:8], NOW_S, LONG_S) == {0: 8}


def _write(path: Path, board_path: Path, row: int, until: int) -> None:
    board = Board.attach(board_path)
    table = Prefixes.attach(path, board)
    assert table is not None
    for number in range(until):
        table.enter([name + number % 7 for name in NAMES], row, NOW_S)
    board.close()


def test_writers_in_each_others_way_leave_nothing_but_entries(tmp_path: Path, board: Board, table: Prefixes) -> None:
    """While two processes write the same sets, a reader sees only rows and places that one of them wrote."""
    spawn = multiprocessing.get_context("spawn")
    arguments = [(tmp_path / "prefixes", tmp_path / "board", row, 2_000) for row in (1, 2)]
    writers = [spawn.Process(target=_write, args=each) for each in arguments]
    for writer in writers:
        writer.start()
    seen: set[int] = set()
    while any(writer.is_alive() for writer in writers):
        found = table.find(NAMES, NOW_S, LONG_S)
        seen |= set(found)
        assert set(found) <= {1, 2}
        assert all(place in (2, 4, 6, 8, 9, 10, 3, 5, 7) for place in found.values())
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert seen == {1, 2}
