"""The least policy file, a list of URLs, is enough in front of real servers: what they are is asked of themselves."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.clients import ask
from tests.e2e.processes import Balancer, eventually, serving
from tests.real.conftest import Fleet

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def least(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    """A balancer that is told only where its backends are."""
    urls = [{"url": server.url} for server in (*fleet.mockers, fleet.llama)]
    with serving(tmp_path_factory.mktemp("least"), urls) as balancer:
        eventually(lambda: all(one["models"] for one in _backends(balancer)), "the models to be asked for")
        yield balancer


def test_engines_kinds_and_models_are_found(least: Balancer) -> None:
    """llama.cpp is known by its header and taken for a CPU's; Dynamo is one more OpenAI-compatible server."""
    found = [(one["engine"], one["kind"], len(one["models"])) for one in _backends(least)]
    assert found == [("openai", None, 1), ("openai", None, 1), ("llamacpp", "cpu", 1)]


def test_everybody_on_this_machine_is_served(least: Balancer) -> None:
    """Without tenants no key is needed, and every model that the servers name is answered for."""
    names = [model["id"] for model in ask(least.port, "/v1/models").json()["data"]]
    assert len(names) == 2
    for name in names:
        said = {"role": "user", "content": "Say hello."}
        answer = ask(least.port, body={"model": name, "messages": [said], "max_tokens": 4})
        assert answer.json()["usage"]["completion_tokens"] == 4


def _backends(balancer: Balancer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(balancer.admin("GET", "/admin/v1/fleet")[1])["backends"]
    return found
