"""Readings on the board."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpubalancer.board.board import Board
from gpubalancer.board.layout import Hardware, Loaded
from gpubalancer.telemetry.columns import SHOWN_S, Columns
from gpubalancer.telemetry.engines import EngineReading
from gpubalancer.telemetry.gpus import Gpu, Snapshot
from gpubalancer.telemetry.hardware import State

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


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_last_snapshot_of_each_backend_is_kept_for_a_minute(board: Board) -> None:
    """By name, as it came; what its host told late is old from the start, and what is old is not shown."""
    clock = Clock()
    columns = Columns(board, clock)
    hot, calm = Snapshot(1.0, "h", gpus=(HOT,)), Snapshot(1.0, "h", gpus=(Gpu(1, "GPU-1"),), age_s=30.0)
    for snapshot in (calm, hot):
        columns.record_gpus("a", snapshot)
    columns.record_gpus("b", calm)
    columns.record_gpus("never", hot)
    assert columns.gpus() == {"a": hot, "b": calm}
    clock.now_s += 31.0
    assert columns.gpus() == {"a": hot}
    clock.now_s += SHOWN_S
    assert columns.gpus() == {}


def test_snapshots_of_what_is_no_longer_read_are_forgotten(board: Board) -> None:
    """A backend whose agent a reload took away has no GPUs any more."""
    columns = Columns(board, Clock())
    for name in "ab":
        columns.record_gpus(name, Snapshot(1.0, "h", gpus=(HOT,)))
    columns.keep(engines=(), gpus={"b"})
    assert list(columns.gpus()) == ["b"]
    assert list(columns.hardware()) == ["b"]


def test_the_age_is_that_of_the_older_word(board: Board) -> None:
    """Of the engine's and the GPUs'; one that was never read has none, and with it neither has the backend."""
    clock = Clock()
    columns = Columns(board, clock)
    assert columns.ages_s() == {}
    columns.record_engine("a", EngineReading(98.0))
    assert columns.ages_s() == {"a": 2.0}
    columns.record_gpus("a", Snapshot(1.0, "h", gpus=(HOT,), age_s=5.0))
    columns.record_gpus("b", Snapshot(1.0, "h", gpus=(HOT,)))
    clock.now_s += 1.0
    assert columns.ages_s() == {"a": 6.0, "b": 1.0}


def test_the_state_of_the_hardware_is_what_the_board_says(board: Board) -> None:
    """What is not known is None, and a backend that nobody tells of is left out."""
    columns = Columns(board, Clock())
    columns.record_gpus("a", Snapshot(1.0, "h", gpus=(HOT,)))
    assert columns.hardware() == {"a": State(Hardware.THROTTLED, 0.5, 300.0)}
    columns.record_gpus("a", Snapshot(1.0, "h", gpus=(Gpu(0, "GPU-0"),)))
    assert columns.hardware() == {"a": State(Hardware.WELL, 1.0, None)}


def test_what_a_backend_has_forgotten_is_on_the_board(board: Board) -> None:
    """When it is down, or its own counters tell; the time never goes back."""
    row = board.rows()["a"]
    columns = Columns(board, lambda: 50.5)
    columns.record_engine("a", EngineReading(10.0, looked_up_tokens=500.0))
    assert board.cached_since_s[row] == 0
    columns.record_engine("a", EngineReading(11.2, looked_up_tokens=5.0))
    assert board.cached_since_s[row] == 12
    columns.record_down("a")
    columns.record_engine("a", EngineReading(20.0, looked_up_tokens=1.0))
    assert board.cached_since_s[row] == 51
    columns.record_down("nobody")


def test_a_shared_gpu_is_drawn_by_each_in_equal_parts(board: Board) -> None:
    """Two backends on one card that idles at 300 W have 150 W each; what they draw is on the board once they work."""
    clock = Clock()
    columns = Columns(board, clock)
    for _ in range(2):
        for name in ("a", "b"):
            columns.record_gpus(name, Snapshot(1.0, "h", gpus=(HOT,)))
        clock.now_s += 1.0
    rows = board.rows()
    for name in ("a", "b"):
        columns.record_gpus(name, Snapshot(1.0, "h", gpus=(HOT,)))
    assert columns.idle_joules()["b"] == pytest.approx(300.0)
    assert math.isnan(board.active_watts[rows["b"]])
    board.in_flight[0, rows["b"]] = 1
    board.all_of("worked_us")[0, rows["b"]] = 2_000_000
    clock.now_s += 1.0
    columns.record_gpus("b", Snapshot(1.0, "h", gpus=(replace(HOT, power_watts=500.0),)))
    assert board.active_watts[rows["b"]] == pytest.approx((200.0 - 150.0) / 2.0)
    columns.keep((), ())
    assert columns.idle_joules() == {}
    assert math.isnan(board.active_watts[rows["b"]])
