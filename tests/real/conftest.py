"""One fleet of real servers with one balancer in front, started once for all modules that ask for it.

Two of NVIDIA's Dynamo mockers serve `tiny`, a llama.cpp server serves `gemma`, and a second one gives the vectors of
`embedder`.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import Balancer, serving
from tests.real import tiny_model
from tests.real.programs import Program, program
from tests.real.servers import Server, llamacpp, mocker

KEY = "a-key-for-tests-only"
WRITE_TIMEOUT_S = 2
TENANT = {"name": "team", "keys": [f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"]}
MODELS = {
    "tiny": {"aliases": ["gpt-4o-mini"]},
    "gemma": {"aliases": ["claude-haiku-4-5"]},
    "embedder": {"aliases": ["text-embedding-3-small"]},
}

_INFLIGHT = "dynamo_frontend_inflight_requests"

Clients = Callable[..., AbstractContextManager[Program]]


@dataclass(frozen=True, slots=True)
class Fleet:
    """The real servers."""

    mockers: tuple[Server, Server]
    llama: Server
    embedder: Server

    def llama_is_busy(self) -> bool:
        """True while llama.cpp computes for anybody."""
        return any(slot["is_processing"] for slot in self.llama.page("/slots"))

    def mockers_are_busy(self) -> bool:
        """True while a mocker holds a request of anybody."""
        lines = [line for server in self.mockers for line in server.text("/metrics").splitlines()]
        return any(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(_INFLIGHT))

    def backends(self) -> list[dict[str, Any]]:
        """Their part of a policy file."""
        generates = ["chat", "completions", "responses", "messages"]
        gpus = [
            {"name": f"mocker-{number}", "url": server.url, "kind": "gpu", "engine": "vllm", "models": ["tiny"]}
            for number, server in enumerate(self.mockers, 1)
        ]
        llamas = [
            {"name": "llama", "url": self.llama.url, "models": {"gemma": "gemma3"}, "apis": generates},
            {"name": "embedder", "url": self.embedder.url, "models": {"embedder": "gemma3"}, "apis": ["embeddings"]},
        ]
        return [{**gpu, "slots": 16} for gpu in gpus] + [
            {**llama, "kind": "cpu", "engine": "llamacpp", "slots": 2} for llama in llamas
        ]


@dataclass(frozen=True, slots=True)
class Front:
    """The balancer and what it stands in front of."""

    balancer: Balancer
    fleet: Fleet

    def is_idle(self) -> bool:
        """True if no backend holds a request for the balancer."""
        return self.balancer.metric("gpubalancer_in_flight") == 0


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model without weights that mockers serve."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_model.write(folder)
    return folder


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Fleet]:
    """The servers, which serve."""
    directory = tmp_path_factory.mktemp("fleet")
    with ExitStack() as stack:
        mockers = [
            stack.enter_context(mocker(directory, model_folder, f"mocker-{number}", "--speedup-ratio", "100"))
            for number in (1, 2)
        ]
        llamas = [stack.enter_context(llamacpp(directory, *options)) for options in ((), ("embeddings",))]
        yield Fleet((mockers[0], mockers[1]), llamas[0], llamas[1])


@pytest.fixture(scope="session")
def front(tmp_path_factory: pytest.TempPathFactory, fleet: Fleet) -> Iterator[Front]:
    """A balancer with one key in front of the fleet; it drops clients that take nothing for two seconds."""
    with serving(
        tmp_path_factory.mktemp("front"),
        fleet.backends(),
        models=MODELS,
        tenants=[TENANT],
        listen={"limits": {"write_timeout": f"{WRITE_TIMEOUT_S}s"}},
    ) as balancer:
        yield Front(balancer, fleet)


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Clients:
    """Starts programs with an SDK, which finds address and key where users put them: in its environment."""
    directory = tmp_path_factory.mktemp("clients")

    def start(
        balancer: Balancer, venv: str, sdk: str, *, module: str = "sdk", key: str = KEY
    ) -> AbstractContextManager[Program]:
        root = f"http://127.0.0.1:{balancer.port}"
        environment = {
            "OPENAI_BASE_URL": f"{root}/v1",
            "OPENAI_API_KEY": key,
            "ANTHROPIC_BASE_URL": root,
            "ANTHROPIC_API_KEY": key,
        }
        return program(venv, module, [sdk], environment, directory / f"{venv}-{module}-{sdk}.log")

    return start
