"""A real server that dies in the middle of a stream: the SDKs raise, and never take the piece for the whole."""

from pathlib import Path

import pytest

from tests.e2e.processes import eventually, serving
from tests.real.conftest import TENANT, Clients
from tests.real.servers import mocker

pytestmark = pytest.mark.real

CASES = [
    ("openai2", "openai", "chat.completions.create", "APIError"),
    ("openai3", "openai", "chat.completions.create", "APIError"),
    ("openai3", "anthropic", "messages.create", "APIStatusError"),
]


@pytest.mark.parametrize(("venv", "name", "method", "kind"), CASES)
def test_a_killed_server_ends_the_stream_with_an_error(
    tmp_path: Path, model_folder: Path, clients: Clients, venv: str, name: str, method: str, kind: str
) -> None:
    """After a SIGKILL of the server the SDK raises what the terminal event says, and the log counts a 502."""
    with mocker(tmp_path, model_folder, "doomed", "--speedup-ratio", "2") as server:
        backend = {"name": "doomed", "url": server.url, "kind": "gpu", "engine": "vllm", "models": ["tiny"]}
        with serving(tmp_path, [backend], tenants=[TENANT]) as balancer, clients(balancer, venv, name) as sdk:
            messages = [{"role": "user", "content": "Count."}]
            sdk.ask("begin", method=method, events=8, model="tiny", messages=messages, max_tokens=8000)
            server.process.kill()
            error = sdk.refused("count")
            assert kind in error.kinds
            assert "backend" in error.carried["message"]
            assert balancer.logged(model="tiny")["code"] == 502
            eventually(lambda: balancer.metric("gpubalancer_in_flight") == 0, "the slot to be free")
            eventually(lambda: balancer.metric("gpubalancer_backend_up") == 0, "the probes to notice")
