"""What tests of places share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.proxy.floor import Floor


@pytest.fixture
def floors(tmp_path: Path) -> Iterator[Callable[..., Floor]]:
    """Makes floors, and closes them."""
    made: list[Floor] = []

    def make(backends: int, slots: int, workers: int = 1, slo: str = "{}") -> Floor:
        made.append(Floor(tmp_path, backends, slots, workers, slo))
        return made[-1]

    yield make
    for floor in made:
        floor.close()
