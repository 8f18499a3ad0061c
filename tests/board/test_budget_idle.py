"""Which rows are as good as new."""

import pytest

from gpubalancer.board.budget_idle import is_idle
from gpubalancer.domain.budget import State

BUCKET, WINDOW = (60, 10, 100), (60, 1, 0)


@pytest.mark.parametrize(
    ("state", "kind", "idle"),
    [
        ((0, 0, 0, 0, 0), BUCKET, True),
        ((5, 0, 100, 3, 0), BUCKET, True),
        ((5, 1, 100, 0, 0), BUCKET, False),
        ((100, 0, 100, 0, 0), BUCKET, False),
        ((5, 0, 950, 0, 0), BUCKET, False),
        ((5, 0, 100, 0, 0), WINDOW, True),
        ((5, 0, 100, 3, 0), WINDOW, False),
        ((5, 0, 100, 0, 3), WINDOW, False),
        ((5, 0, 940, 0, 0), WINDOW, False),
    ],
)
def test_idle(state: State, kind: tuple[int, int, int], idle: bool) -> None:
    """Nothing reserved, nothing owed, all refilled, and untouched for its time; at 1000 ns."""
    assert is_idle(state, *kind, 1000) is idle
