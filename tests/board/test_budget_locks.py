"""Waiting for a lock."""

import os
from pathlib import Path

import pytest

from gpubalancer.board import locks
from gpubalancer.board.budget_locks import BusyError, seize


def test_a_lock_is_waited_for_and_asked_for(tmp_path: Path) -> None:
    """Until its holder gives it back, or patience ends."""
    path = tmp_path / "file"
    path.touch()
    first, second = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    assert locks.try_lock(first, 5)
    asked: list[int] = []
    with pytest.raises(BusyError, match="50 ms"):
        seize(second, 5, lambda: asked.append(1))
    assert len(asked) > 8
    seize(second, 5, lambda: locks.unlock(first, 5))
    assert not locks.try_lock(first, 5)
    os.close(first)
    os.close(second)
