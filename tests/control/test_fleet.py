"""The fleet's JSON."""

import math
from pathlib import Path

from gpubalancer.board.board import Board
from gpubalancer.board.layout import Hardware
from gpubalancer.control.fleet import describe_fleet
from gpubalancer.domain.backend import Kind
from gpubalancer.telemetry.discover import Discovery

from .policies import policy


def test_each_backend_shows_policy_discovery_and_board(tmp_path: Path) -> None:
    """What the policy leaves open comes from discovery, state comes from the board, worker by worker."""
    board = Board.create(tmp_path / "board", workers=2, backends=2)
    rows = board.assign_rows(["gpu-a", "new"])
    board.up[rows["gpu-a"]] = 1
    board.draining[rows["gpu-a"]] = 1
    board.probed_s[rows["gpu-a"]] = 1234.5
    board.in_flight[:, rows["gpu-a"]] = [2, 3]
    found = {"new": Discovery(Kind.CPU, "ollama", ("z", "a")), "gpu-a": Discovery(Kind.CPU, "ollama", ("other",))}
    first, second = describe_fleet(policy(tmp_path), board, found, 100.0)
    assert first == {
        "name": "gpu-a",
        "url": "http://127.0.0.1:9001",
        "kind": "gpu",
        "engine": "vllm",
        "models": ["llama"],
        "clearance": "internal",
        "slots": 8,
        "state": "draining",
        "up": True,
        "draining": True,
        "probed_s": 1234.5,
        "in_flight": 5,
        "in_flight_by_worker": [2, 3],
        "engine_says": None,
        "hardware": None,
    }
    assert (second["kind"], second["engine"], second["models"]) == ("cpu", "ollama", ["a", "z"])
    assert (second["up"], second["probed_s"], second["in_flight"]) == (False, None, 0)
    board.close()


def test_a_backend_that_has_no_row_yet_is_down(tmp_path: Path) -> None:
    """Before a backend has its place on the board it is shown as down and idle, and unknown things as null."""
    board = Board.create(tmp_path / "board", workers=1, backends=2)
    _, second = describe_fleet(policy(tmp_path), board, {}, 0.0)
    assert (second["kind"], second["engine"], second["models"]) == (None, None, [])
    assert (second["up"], second["draining"], second["in_flight"], second["in_flight_by_worker"]) == (
        False,
        False,
        0,
        [],
    )
    board.close()


def test_what_engines_and_gpus_told_is_shown_with_its_age(tmp_path: Path) -> None:
    """A number that nobody told is null, and so is a page that was never read."""
    board = Board.create(tmp_path / "board", workers=1, backends=2)
    row = board.assign_rows(["gpu-a", "new"])["gpu-a"]
    board.running[row], board.waiting[row], board.kv_used_fraction[row] = 3, math.nan, 0.25
    board.scraped_s[row] = 98.5
    board.hardware[row], board.speed_fraction[row], board.power_watts[row] = Hardware.THROTTLED, 0.5, 310.0
    board.gpu_at_s[row] = 99.0
    first, second = describe_fleet(policy(tmp_path), board, {}, 100.0)
    assert first["engine_says"] == {
        "age_s": 1.5,
        "running": 3.0,
        "waiting": None,
        "kv_used_fraction": 0.25,
        "loading": False,
        "sleeping": False,
    }
    assert first["hardware"] == {"age_s": 1.0, "state": "throttled", "speed_fraction": 0.5, "power_watts": 310.0}
    assert (second["engine_says"], second["hardware"]) == (None, None)
    board.close()
