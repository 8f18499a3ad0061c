"""Both databases for the ledger's tests, and somebody to tell events to."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from gpubalancer.ledger.postgres import PostgresStore
from gpubalancer.ledger.sqlite import SqliteStore
from gpubalancer.ledger.store import Store
from tests.ledger.server import AbsentError, Server, postgres

NewStore = Callable[[], Store]


class Told:
    """Takes what the ledger says."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def __call__(self, event: str, /, **details: object) -> None:
        self.events.append((event, details))

    @property
    def names(self) -> list[str]:
        """The events without their details."""
        return [name for name, _ in self.events]


@pytest.fixture
def told() -> Told:
    """Somebody to tell events to."""
    return Told()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server."""
    try:
        with postgres() as running:
            yield running
    except AbsentError as absent:
        pytest.skip(str(absent))


@pytest.fixture(params=["sqlite", "postgres"])
def new_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NewStore:
    """Makes stores on one database, which is empty at first."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("store") / "ledger.sqlite"
        return lambda: SqliteStore(path)
    url = asyncio.run(request.getfixturevalue("server").new_database())
    return lambda: PostgresStore(url)
