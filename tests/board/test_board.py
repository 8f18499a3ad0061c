"""The board's file: made, shared, taken over, set aside; rows given to names."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpubalancer.board import locks
from gpubalancer.board.board import Board, BoardError
from gpubalancer.board.layout import COLUMNS, HEADER, NAME_BYTES, RESET, Hardware, Layout, Loaded


def test_what_the_supervisor_writes_a_reader_sees(tmp_path: Path) -> None:
    """Columns, rows, workers and epoch of an attached board are those of the created one."""
    board = Board.create(tmp_path / "board", workers=2, backends=3)
    rows = board.assign_rows(["a", "b"])
    reader = Board.attach(tmp_path / "board")
    board.up[rows["b"]] = 1
    board.probed_s[rows["b"]] = 1234.5
    assert reader.rows() == rows
    assert (reader.workers, reader.epoch, reader.pid) == (2, 1, os.getpid())
    assert reader.up[rows["b"]] == 1
    assert reader.probed_s[rows["b"]] == 1234.5
    assert reader.up[rows["a"]] == 0
    board.bump_epoch()
    assert reader.epoch == 2
    board.close()
    reader.close()


def test_the_print_tells_the_state(tmp_path: Path) -> None:
    """The board's repr counts live rows, workers and slots."""
    board = Board.create(tmp_path / "board", workers=2, backends=3)
    rows = board.assign_rows(["a", "b"])
    board.in_flight[1, rows["a"]] = 5
    assert repr(board) == "<Board 2 of 1024 rows, 2 workers, 5 in flight>"
    board.close()


def test_a_restart_keeps_rows_and_drains_and_forgets_slots(tmp_path: Path) -> None:
    """A new supervisor takes the file over: columns stay, the slots of dead workers are free, the epoch has risen."""
    first = Board.create(tmp_path / "board", workers=4, backends=3)
    rows = first.assign_rows(["a", "b"])
    first.draining[rows["a"]] = 1
    first.in_flight[3, rows["b"]] = 7
    first.close()
    second = Board.create(tmp_path / "board", workers=1, backends=3)
    assert second.set_aside is None
    assert second.epoch == 2
    assert second.assign_rows(["b", "a"]) == rows
    assert second.draining[rows["a"]] == 1
    assert second.in_flight.shape == second.prefill_tokens.shape == (1, 1024)
    assert not second.in_flight.any()
    second.close()


def test_a_second_supervisor_is_refused(tmp_path: Path) -> None:
    """While one board is owned, another `create` on the same path raises; after `close` it does not."""
    board = Board.create(tmp_path / "board", workers=1, backends=1)
    with pytest.raises(BoardError, match="in use by another balancer"):
        Board.create(tmp_path / "board", workers=1, backends=1)
    board.close()
    board.close()
    Board.create(tmp_path / "board", workers=1, backends=1).close()


def write_header(path: Path, field: str, value: int) -> None:
    """Change one field of a board's header."""
    data = bytearray(path.read_bytes())
    header = np.frombuffer(data, dtype=HEADER, count=1)
    header[field] = value
    path.write_bytes(data)


def damage_name(path: Path, row: int, name: bytes) -> None:
    """Write raw bytes as the name of a row."""
    with path.open("r+b") as file:
        file.seek(Layout(1024).offset_bytes("name") + row * NAME_BYTES)
        file.write(name.ljust(NAME_BYTES, b"\0"))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: path.write_bytes(b"not a board"), "too few"),
        (lambda path: path.write_bytes(b"x" * 100_000), "begin like a board"),
        (lambda path: write_header(path, "version", 99), "version 99"),
        (lambda path: os.truncate(path, 8192), "do not fit"),
        (lambda path: damage_name(path, 9, b"\xff\xfe"), "UTF-8"),
        (lambda path: damage_name(path, 9, b"a"), "two rows have one name"),
    ],
)
def test_an_unusable_file_is_set_aside_and_built_anew(tmp_path: Path, damage: object, why: str) -> None:
    """A damaged file is renamed, the reason is told, its bytes are kept, and the new board works."""
    path = tmp_path / "board"
    old = Board.create(path, workers=1, backends=1)
    old.assign_rows(["a"])
    old.close()
    assert callable(damage)
    damage(path)
    before = path.read_bytes()
    board = Board.create(path, workers=1, backends=1)
    assert board.set_aside is not None
    assert why in board.set_aside
    assert "board.aside-1" in board.set_aside
    assert (tmp_path / "board.aside-1").read_bytes() == before
    assert board.rows() == {}
    assert board.epoch == 1
    board.close()


def test_a_file_too_small_for_the_fleet_is_set_aside(tmp_path: Path) -> None:
    """More backends than rows means a new file, also when one was set aside before."""
    path = tmp_path / "board"
    (tmp_path / "board.aside-1").touch()
    Board.create(path, workers=1, backends=1).close()
    board = Board.create(path, workers=1, backends=1025)
    assert board.set_aside is not None
    assert "too few for 1025" in board.set_aside
    assert (tmp_path / "board.aside-2").exists()
    assert board.layout.backends_limit >= 2050
    board.close()


def test_attach_refuses_what_is_not_a_board(tmp_path: Path) -> None:
    """A reader never rebuilds: a wrong file is an error that names it, a missing one is the system's."""
    (tmp_path / "board").write_bytes(b"nothing")
    with pytest.raises(BoardError, match="is not a usable board"):
        Board.attach(tmp_path / "board")
    with pytest.raises(FileNotFoundError):
        Board.attach(tmp_path / "none")


@pytest.mark.parametrize("workers", [0, 65])
def test_the_number_of_workers_has_limits(tmp_path: Path, workers: int) -> None:
    """No worker, and more than 64, are refused."""
    with pytest.raises(ValueError, match="expected 1 to 64"):
        Board.create(tmp_path / "board", workers=workers, backends=1)


@pytest.mark.parametrize("name", ["", "x" * 265, "\N{SNOWMAN}" * 89, "a\0b"])
def test_a_name_that_does_not_fit_changes_nothing(tmp_path: Path, name: str) -> None:
    """Names are 1 to 264 bytes of UTF-8 without a NUL; otherwise the rows stay as they were."""
    board = Board.create(tmp_path / "board", workers=1, backends=1)
    rows = board.assign_rows(["a"])
    with pytest.raises(BoardError, match="1 to 264 bytes"):
        board.assign_rows(["b", name])
    assert board.rows() == rows
    board.close()


def test_too_many_backends_change_nothing(tmp_path: Path) -> None:
    """When the rows do not suffice, an error names both numbers and nothing has moved."""
    board = Board.create(tmp_path / "board", workers=1, backends=1)
    rows = board.assign_rows(["a"])
    with pytest.raises(BoardError, match="1025 backends do not fit the board's 1024 rows"):
        board.assign_rows(["a", *(str(number) for number in range(1024))])
    assert board.rows() == rows
    board.close()


def test_a_row_with_leases_is_not_given_to_another_name(tmp_path: Path) -> None:
    """A removed backend keeps its row while requests are on it, and gets the same row when it comes back."""
    board = Board.create(tmp_path / "board", workers=2, backends=1)
    full = [str(number) for number in range(1024)]
    rows = board.assign_rows(full)
    board.in_flight[1, rows["7"]] = 1
    board.assign_rows(full[:7] + full[9:])
    assert board.assign_rows([*full[:7], *full[9:], "new"])["new"] == rows["8"]
    with pytest.raises(BoardError):
        board.assign_rows([*full[:7], *full[9:], "new", "newer"])
    assert board.assign_rows([*full[:8], *full[9:], "new"])["7"] == rows["7"]
    board.close()


def test_a_returning_backend_starts_unproven(tmp_path: Path) -> None:
    """Health and drain of a backend that was away are zero when it is live again; those that stayed keep theirs."""
    board = Board.create(tmp_path / "board", workers=1, backends=1)
    rows = board.assign_rows(["a", "b"])
    board.up[:2], board.draining[:2], board.probed_s[:2] = 1, 1, 9.0
    board.assign_rows(["b"])
    board.assign_rows(["a", "b"])
    a, b = rows["a"], rows["b"]
    assert (board.up[a], board.draining[a], board.probed_s[a]) == (0, 0, 0.0)
    assert (board.up[b], board.draining[b], board.probed_s[b]) == (1, 1, 9.0)
    board.close()


def test_a_new_backend_starts_unknown(tmp_path: Path) -> None:
    """A row that becomes live says that nothing is known of its engine and its GPUs, whatever stood there before."""
    board = Board.create(tmp_path / "board", workers=1, backends=1)
    rows = board.assign_rows(["a", "b"])
    a, b = rows["a"], rows["b"]
    for column in RESET:
        getattr(board, column.name)[[a, b]] = 3
    board.assign_rows(["b"])
    assert board.hardware[a] == board.hardware[b] == Hardware.FAULTY
    board.assign_rows(["a", "b"])
    unknown = (board.running[a], board.waiting[a], board.kv_used_fraction[a], board.kv_capacity_tokens[a])
    assert np.isnan([*unknown, board.power_watts[a]]).all()
    assert (board.scraped_s[a], board.scraped_in_flight[a], board.loaded[a]) == (0, 0, Loaded(0))
    assert (board.hardware[a], board.speed_fraction[a], board.gpu_at_s[a]) == (Hardware.UNKNOWN, 1.0, 0)
    assert all(getattr(board, column.name)[b] == 3 for column in RESET)
    board.close()


def test_every_telemetry_column_is_reset() -> None:
    """All that the supervisor writes into a row, but its name and that it is live, is reset with it."""
    assert {each.name for each in COLUMNS if each.writer == "supervisor"} - {each.name for each in RESET} == {
        "name",
        "live",
    }


def test_times_of_another_boot_are_forgotten(tmp_path: Path) -> None:
    """A supervisor that takes a file over keeps what was read, but not when: the clock may have begun anew."""
    first = Board.create(tmp_path / "board", workers=1, backends=1)
    row = first.assign_rows(["a"])["a"]
    first.scraped_s[row] = first.gpu_at_s[row] = 1e9
    first.hardware[row] = Hardware.FAULTY
    first.close()
    second = Board.create(tmp_path / "board", workers=1, backends=1)
    assert second.assign_rows(["a"])["a"] == row
    assert (second.scraped_s[row], second.gpu_at_s[row]) == (0, 0)
    assert second.hardware[row] == Hardware.FAULTY
    second.close()


PER_WORKER = [each.name for each in COLUMNS if each.per_worker]


@pytest.mark.parametrize("column", PER_WORKER)
def test_a_dead_worker_leaves_nothing_and_a_living_one_all(tmp_path: Path, column: str) -> None:
    """Clearing zeroes every count of a worker whose process has ended, and none of one that lives."""
    board = Board.create(tmp_path / "board", workers=2, backends=1)
    counts = getattr(board, column)
    fd = locks.reopen(board.fd)
    assert board.claim_worker_row(fd, 1) == 1
    counts[:, 5] = 7
    board.clear_worker()
    assert counts[:, 5].tolist() == [0, 7]
    os.close(fd)
    board.clear_worker(1)
    assert not counts.any()
    board.close()


@pytest.mark.parametrize("column", PER_WORKER)
def test_a_worker_begins_with_nothing(tmp_path: Path, column: str) -> None:
    """Whoever takes a row finds zeros in all its counts."""
    board = Board.create(tmp_path / "board", workers=2, backends=1)
    getattr(board, column)[:, 5] = 7
    fd = locks.reopen(board.fd)
    board.claim_worker_row(fd, 0)
    assert getattr(board, column)[:, 5].tolist() == [0, 7]
    os.close(fd)
    board.close()


@pytest.mark.parametrize("column", PER_WORKER)
def test_cells_are_the_column(tmp_path: Path, column: str) -> None:
    """What is written to a cell as a plain integer stands in the column, row after row, below zero too."""
    board = Board.create(tmp_path / "board", workers=2, backends=1)
    cells = board.cells(column)
    cells[1 * board.layout.backends_limit + 9] = -5
    assert getattr(board, column)[1, 9] == -5
    assert len(cells) == board.all_in_flight.size
    cells.release()
    board.close()


def test_there_are_no_cells_of_no_column(tmp_path: Path) -> None:
    """A name that no column has is an error."""
    board = Board.create(tmp_path / "board", workers=1, backends=1)
    with pytest.raises(KeyError, match="no_such"):
        board.cells("no_such")
    board.close()


@settings(max_examples=50)
@given(st.lists(st.lists(st.text("abcdef\N{SNOWMAN}", min_size=1, max_size=4), max_size=8), max_size=12))
def test_rows_are_one_to_one_and_stay(tmp_path_factory: pytest.TempPathFactory, reloads: list[list[str]]) -> None:
    """After any reloads the live rows are exactly the names, all different, and a name that stays keeps its row."""
    board = Board.create(tmp_path_factory.mktemp("state") / "board", workers=1, backends=1)
    before: dict[str, int] = {}
    for names in reloads:
        rows = board.assign_rows(names)
        assert set(rows) == set(names)
        assert len(set(rows.values())) == len(rows)
        assert board.rows() == rows
        assert all(rows[name] == row for name, row in before.items() if name in rows)
        before = rows
    board.close()
