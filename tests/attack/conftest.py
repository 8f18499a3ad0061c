"""One balancer process for all tables of requests."""

from collections.abc import Iterator

import pytest

from tests.attack.arena import Arena, balancer_arena


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """A balancer in front of a recording backend."""
    with balancer_arena(tmp_path_factory.mktemp("attack")) as arena:
        yield arena
