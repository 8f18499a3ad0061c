"""Exactly what a budget holds is admitted, and a reload keeps what is spent: four workers before a scripted backend."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.backends import Backend, Call, backend, whole
from tests.e2e.clients import CHAT, Answer, ask, chat
from tests.e2e.processes import Balancer, eventually, serving

MONTH = {"unit": "tokens", "limit": 100_000, "per": "month"}
RUNS = 20
ADMITTED, CLIENTS, TRIES = 100, 64, 130


def tenant(name: str, *budgets: dict[str, Any]) -> dict[str, Any]:
    """A tenant whose key is its name."""
    return {"name": name, "keys": [f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"], "budgets": list(budgets)}


async def three_tokens(call: Call) -> None:
    """An answer of three tokens to a prompt of as many as `hello` has."""
    await call.body()
    usage = {"prompt_tokens": 8, "completion_tokens": 3}
    await call.send(whole(json.dumps({"choices": [{"message": {"content": "x"}}], "usage": usage}).encode()))


@dataclass
class Stage:
    """The two."""

    server: Backend
    balancer: Balancer

    def ask(self, payer: str, content: Any = None, path: str = CHAT) -> Answer:
        """Ask with a tenant's key."""
        return ask(self.balancer.port, path, content, {"Authorization": f"Bearer {payer}"})

    def left(self, payer: str) -> float:
        """What is left of a tenant's budget."""
        return self.balancer.metric("gpubalancer_budget_remaining", f'tenant="{payer}"')

    def line(self, payer: str) -> dict[str, Any]:
        """The log's line of a tenant's first request."""
        return self.balancer.logged(tenant=payer)


@pytest.fixture(scope="module", name="stage")
def made_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A tenant for each test."""
    names = ["probe", "reloaded", "removed", *(f"run-{number}" for number in range(RUNS))]
    tenants = [tenant(name, MONTH) for name in names]
    models = {"m": {"tokenizer": "cl100k_base", "aliases": ["gpt-4o-mini"]}}
    with (
        backend(three_tokens) as server,
        serving(
            tmp_path_factory.mktemp("known"),
            [server.settings(slots=1000)],
            listen={"workers": 4},
            tenants=tenants,
            models=models,
        ) as balancer,
    ):
        yield Stage(server, balancer)


def reload(stage: Stage, tenants: list[dict[str, Any]]) -> None:
    """Put other tenants in force."""
    stage.balancer.write(stage.balancer.settings | {"tenants": tenants})
    assert stage.balancer.reload()[1]["result"] == "applied"


def test_exactly_what_fits_is_admitted(stage: Stage) -> None:
    """64 clients at once on a budget for exactly 100 requests' tokens, over four workers: exactly 100 are admitted."""
    admit(stage, 0)


@pytest.mark.soak
def test_exactly_what_fits_is_admitted_in_twenty_runs(stage: Stage) -> None:
    """The same, 20 times."""
    for run in range(1, RUNS):
        admit(stage, run)


def admit(stage: Stage, run: int) -> None:
    """One run, with a tenant of its own."""
    stage.server.handler = three_tokens
    content, name = chat(max_tokens=3), f"run-{run}"
    assert stage.ask("probe", content).status == 200
    each = stage.line("probe")["expected_prompt_tokens"] + 3
    assert each == 8 + 3
    others = [known for known in stage.balancer.settings["tenants"] if known["name"] != name]
    reload(stage, [*others, tenant(name, MONTH | {"limit": ADMITTED * each})])
    with ThreadPoolExecutor(CLIENTS) as pool:
        codes = [answer.status for answer in pool.map(lambda _: stage.ask(name, content), range(TRIES))]
    assert (codes.count(200), codes.count(429)) == (ADMITTED, TRIES - ADMITTED)
    eventually(lambda: stage.left(name) == 0, "all to be spent, and not a token more")


def test_a_reload_keeps_what_is_spent_and_forgets_whom_it_removes(stage: Stage) -> None:
    """With another limit the tenant goes on where it was; a tenant that is gone is refused at its next request."""
    stage.server.handler = three_tokens
    for name in ("reloaded", "removed"):
        assert stage.ask(name, chat()).status == 200
        eventually(lambda: stage.left(name) == 100_000 - 11, "the charge")  # noqa: B023
    others = [known for known in stage.balancer.settings["tenants"] if known["name"] not in ("reloaded", "removed")]
    reload(stage, [*others, tenant("reloaded", MONTH | {"limit": 500})])
    assert stage.left("reloaded") == 500 - 11
    assert stage.ask("removed", chat()).status == 401
