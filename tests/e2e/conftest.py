"""One balancer in front of one scripted backend, for the tests of a module that need nothing special."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.backends import Backend, answer_ok, backend
from tests.e2e.processes import Balancer, serving


@dataclass(frozen=True, slots=True)
class Front:
    """The two, of which a test sets the backend's handler."""

    server: Backend
    balancer: Balancer


@pytest.fixture(scope="module")
def shared_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Start both once for a module."""
    with (
        backend(answer_ok) as server,
        serving(tmp_path_factory.mktemp("front"), [server.settings(upgrades=["/v1/realtime"])]) as balancer,
    ):
        yield Front(server, balancer)


@pytest.fixture
def front(shared_front: Front) -> Front:
    """Both, with nothing recorded yet and a backend that answers 200."""
    shared_front.server.calls.clear()
    shared_front.server.handler = answer_ok
    return shared_front
