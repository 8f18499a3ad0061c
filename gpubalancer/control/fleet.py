"""The fleet as the admin API shows it: what the policy says, what servers said of themselves, what the board holds."""

from collections.abc import Mapping
from typing import Any, Protocol

from gpubalancer.board.board import Board
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


def describe_fleet(policy: Policy, board: Board, discovered: Mapping[str, Discovered]) -> list[dict[str, Any]]:
    """One JSON object for each backend of the policy, in its order. What the policy gives goes before `discovered`."""
    rows = board.rows()
    return [
        _fixed(backend, discovered.get(backend.name)) | _live(board, rows.get(backend.name))
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


def _live(board: Board, row: int | None) -> dict[str, Any]:
    if row is None:
        return {"up": False, "draining": False, "probed_s": None, "in_flight": 0, "in_flight_by_worker": []}
    by_worker = [int(count) for count in board.in_flight[:, row]]
    return {
        "up": bool(board.up[row]),
        "draining": bool(board.draining[row]),
        "probed_s": float(board.probed_s[row]) or None,
        "in_flight": sum(by_worker),
        "in_flight_by_worker": by_worker,
    }
