"""The fleet as the admin API shows it: what the policy says, what servers said of themselves, what the board holds."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

from gpubalancer.board.board import Board
from gpubalancer.board.layout import Hardware, Loaded
from gpubalancer.domain.backend import Kind
from gpubalancer.policy.backends import Backend
from gpubalancer.policy.schema import Policy


class Discovered(Protocol):
    """What a server said of itself; None and empty where it did not."""

    @property
    def kind(self) -> Kind | None:
        """The hardware."""

    @property
    def engine(self) -> str | None:
        """The program."""

    @property
    def models(self) -> tuple[str, ...]:
        """What it serves."""


_NOWHERE: Mapping[str, Any] = {
    "state": "down",
    "up": False,
    "draining": False,
    "probed_s": None,
    "in_flight": 0,
    "in_flight_by_worker": [],
    "engine_says": None,
    "hardware": None,
}
"""The state of a backend that has no row on the board yet."""


def describe_fleet(
    policy: Policy, board: Board, discovered: Mapping[str, Discovered], now_s: float
) -> list[dict[str, Any]]:
    """One JSON object for each backend of the policy, in its order. What the policy gives goes before `discovered`.

    Arguments:
        policy: in force.
        board: where telemetry and workers write.
        discovered: by backend.
        now_s: of the monotonic clock, for the ages of readings.
    """
    rows = board.rows()
    return [
        _fixed(backend, discovered.get(backend.name)) | _live(board, rows.get(backend.name), now_s)
        for backend in policy.backends
    ]


def _fixed(backend: Backend, found: Discovered | None) -> dict[str, Any]:
    return {
        "name": backend.name,
        "url": backend.url,
        "kind": backend.kind or (found.kind if found else None),
        "engine": backend.engine or (found.engine if found else None),
        "models": sorted(backend.models if backend.models is not None else (found.models if found else ())),
        "clearance": backend.clearance,
        "slots": backend.slots,
    }


def _live(board: Board, row: int | None, now_s: float) -> dict[str, Any]:
    if row is None:
        return {**_NOWHERE}
    by_worker = [int(count) for count in board.in_flight[:, row]]
    return {
        "state": _state(board, row),
        "up": bool(board.up[row]),
        "draining": bool(board.draining[row]),
        "probed_s": float(board.probed_s[row]) or None,
        "in_flight": sum(by_worker),
        "in_flight_by_worker": by_worker,
        "engine_says": _engine(board, row, now_s) if board.scraped_s[row] else None,
        "hardware": _hardware(board, row, now_s) if board.gpu_at_s[row] else None,
    }


def _state(board: Board, row: int) -> str:
    """In one word why it gets new requests, or none: the first that holds of what `brain/constraints` would object."""
    if board.loaded[row] & Loaded.LOADING:
        return "loading"
    if board.loaded[row] & Loaded.SLEEPING:
        return "sleeping"
    if not board.up[row]:
        return "down"
    return "draining" if board.draining[row] or board.hardware[row] == Hardware.FAULTY else "ready"


def _engine(board: Board, row: int, now_s: float) -> dict[str, Any]:
    return {
        "age_s": _known(now_s - board.scraped_s[row]),
        "running": _known(board.running[row]),
        "waiting": _known(board.waiting[row]),
        "kv_used_fraction": _known(board.kv_used_fraction[row]),
        "loading": bool(board.loaded[row] & Loaded.LOADING),
        "sleeping": bool(board.loaded[row] & Loaded.SLEEPING),
    }


def _hardware(board: Board, row: int, now_s: float) -> dict[str, Any]:
    return {
        "age_s": _known(now_s - board.gpu_at_s[row]),
        "state": Hardware(int(board.hardware[row])).name.lower(),
        "speed_fraction": _known(board.speed_fraction[row]),
        "power_watts": _known(board.power_watts[row]),
    }


def _known(number: float) -> float | None:
    return None if math.isnan(number) else round(float(number), 3)
