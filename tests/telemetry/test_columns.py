"""Readings on the board."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpubalancer.board.board import Board
from gpubalancer.board.layout import Hardware, Loaded
from gpubalancer.telemetry.columns import Columns
from gpubalancer.telemetry.engines import EngineReading
from gpubalancer.telemetry.gpus import Gpu, Snapshot

HOT = Gpu(
    0,
    "GPU-0",
    power_watts=300.0,
    utilization_fraction=1.0,
    sm_clock_mhz=500.0,
    expected_sm_clock_mhz=1000.0,
    throttle_reasons=("hw_thermal",),
)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """A board with backends a and b."""
    made = Board.create(tmp_path / "board", workers=2, backends=2)
    made.assign_rows(["a", "b"])
    yield made
    made.close()


def test_a_reading_is_on_the_board_with_what_we_had_there(board: Board) -> None:
    """Numbers, unknown ones as NaN, the time, and our own requests at that time, all workers together."""
    row = board.rows()["b"]
    board.in_flight[0, row], board.in_flight[1, row] = 3, 4
    reading = EngineReading(12.5, running=8.0, kv_used_fraction=0.5, kv_capacity_tokens=1000.0, loaded=Loaded.SLEEPING)
    Columns(board).record_engine("b", reading)
    assert (board.running[row], board.kv_used_fraction[row], board.kv_capacity_tokens[row]) == (8.0, 0.5, 1000.0)
    assert math.isnan(board.waiting[row])
    assert (board.scraped_s[row], board.scraped_in_flight[row], board.loaded[row]) == (12.5, 7, Loaded.SLEEPING)
    assert board.hardware[row] == Hardware.UNKNOWN
    assert board.gpu_at_s[row] == 0
    assert board.scraped_s[board.rows()["a"]] == 0


def test_hardware_mapped_by_hand_is_on_the_board(board: Board) -> None:
    """Power and speed out of a page's own series are written with the reading's time."""
    row = board.rows()["a"]
    Columns(board).record_engine("a", EngineReading(3.0, speed_fraction=0.5))
    assert (board.speed_fraction[row], board.gpu_at_s[row]) == (0.5, 3.0)
    assert math.isnan(board.power_watts[row])


def test_gpus_are_on_the_board_with_their_age(board: Board) -> None:
    """The state of a backend's GPUs, as of when they were read, by this machine's clock."""
    row = board.rows()["a"]
    Columns(board, lambda: 100.0).record_gpus("a", Snapshot(5e8, "h", gpus=(HOT,), age_s=1.5))
    assert (board.hardware[row], board.speed_fraction[row]) == (Hardware.THROTTLED, 0.5)
    assert (board.power_watts[row], board.gpu_at_s[row]) == (300.0, 98.5)


def test_a_host_without_gpus_is_unknown(board: Board) -> None:
    """A snapshot without GPUs is no word on any, and has no time."""
    row = board.rows()["a"]
    columns = Columns(board, lambda: 100.0)
    columns.record_gpus("a", Snapshot(1.0, "h", gpus=(HOT,)))
    columns.record_gpus("a", Snapshot(1.0, "h", problem="no driver"))
    assert (board.hardware[row], board.speed_fraction[row], board.gpu_at_s[row]) == (Hardware.UNKNOWN, 1.0, 0)


def test_unknown_backends_are_ignored(board: Board) -> None:
    """A reading that outlives a reload changes nothing, also when its row is another's by then."""
    columns = Columns(board)
    row = board.rows()["b"]
    columns.record_engine("b", EngineReading(1.0, running=1.0))
    board.assign_rows(["a"])
    columns.record_engine("b", EngineReading(2.0, running=2.0))
    columns.record_gpus("b", Snapshot(1.0, "h", gpus=(HOT,)))
    assert (board.running[row], board.hardware[row]) == (1.0, Hardware.UNKNOWN)
    assert columns.in_flight("b") == columns.in_flight("never") == 0


def test_what_is_no_longer_read_is_forgotten(board: Board) -> None:
    """A reload that takes a backend's source away leaves no word of it behind; others keep theirs."""
    columns = Columns(board, lambda: 9.0)
    a, b = board.rows()["a"], board.rows()["b"]
    for name in "ab":
        columns.record_engine(name, EngineReading(5.0, running=1.0, loaded=Loaded.LOADING))
        columns.record_gpus(name, Snapshot(1.0, "h", gpus=(HOT,)))
    columns.keep(engines={"a"}, gpus={"b"})
    assert (board.running[a], board.scraped_s[a], board.loaded[a]) == (1.0, 5.0, Loaded.LOADING)
    assert (board.hardware[a], board.speed_fraction[a], board.gpu_at_s[a]) == (Hardware.UNKNOWN, 1.0, 0)
    assert math.isnan(board.running[b])
    assert (board.scraped_s[b], board.scraped_in_flight[b], board.loaded[b]) == (0, 0, Loaded.READY)
    assert board.hardware[b] == Hardware.THROTTLED
