"""Three balancers in front of one engine, with their budgets on one server."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import Answer, ask, chat, connect, read_until, request_bytes
from tests.e2e.processes import Balancer, engine, eventually, serving
from tests.real.valkey_server import Server, running

pytestmark = pytest.mark.real


@pytest.fixture(name="server")
def started_server() -> Iterator[Server]:
    """One for each test."""
    with running() as server:
        yield server


@contextmanager
def replicas(
    folder: Path, server: Server, url: str, *budgets: dict[str, Any], count: int = 3
) -> Iterator[list[Balancer]]:
    """Balancers with two workers each, one state folder each, and the same tenant."""
    with ExitStack() as stack:
        made = []
        for number in range(count):
            (folder / str(number)).mkdir(exist_ok=True)
            made.append(
                stack.enter_context(
                    serving(
                        folder / str(number),
                        [{"name": "e", "url": url, "models": ["m"], "slots": 100}],
                        listen={"workers": 2},
                        state={"budgets": server.url},
                        tenants=[{"name": "acme", "budgets": list(budgets)}],
                        anonymous="acme",
                        models={"m": {"tokenizer": "cl100k_base"}},
                    )
                )
            )
        yield made


def said(balancer: Balancer) -> Answer:
    """A chat of a known length."""
    return ask(balancer.port, body=chat(max_tokens=3))


def said_in_the_end(balancer: Balancer) -> Answer:
    """The same, asked again while a busy machine keeps the budgets' server from answering in time."""
    answers: list[Answer] = []

    def is_known() -> bool:
        answers.append(said(balancer))
        return answers[-1].status != 503

    eventually(is_known, "an answer that the budgets decide", 30)
    return answers[-1]


def test_exactly_what_fits_is_admitted_by_three_balancers(tmp_path: Path, server: Server) -> None:
    """90 clients at once on a budget for 60 requests: 60 are served, whoever they ask."""
    with (
        engine("m") as url,
        replicas(tmp_path, server, url, {"unit": "requests", "limit": 60, "per": "month"}) as balancers,
        ThreadPoolExecutor(90) as pool,
    ):
        answers = list(pool.map(lambda number: said_in_the_end(balancers[number % 3]), range(90)))
        codes = [answer.status for answer in answers]
        assert codes.count(200) + codes.count(429) == 90
        # Where a reply was late, what it had reserved came back only after others had been refused.
        eventually(
            lambda: not sum(each.metric("gpubalancer_reservations_outstanding") for each in balancers), "nothing held"
        )
        admitted = codes.count(200)
        while (refused := said_in_the_end(balancers[0])).status == 200:
            admitted += 1
        assert admitted == 60
        assert refused.json()["error"]["code"] == "insufficient_quota"
        assert refused.fields["x-ratelimit-remaining-requests"] == "0"
        for balancer in balancers:
            eventually(lambda: balancer.metric("gpubalancer_reservations_outstanding") == 0, "nothing to be reserved")  # noqa: B023
            eventually(lambda: balancer.metric("gpubalancer_budget_remaining") == 0, "the metric")  # noqa: B023


def test_a_balancer_that_stops_leaves_nothing_to_be_settled(tmp_path: Path, server: Server) -> None:
    """Its last requests are charged before it ends."""
    budget = {"unit": "completion_tokens", "limit": 1000, "per": "month"}
    with engine("m") as url:
        with replicas(tmp_path, server, url, budget, count=1) as (balancer,):
            assert said(balancer).status == 200
            balancer.process.terminate()
            balancer.process.wait(20)
        keys = server.ask("KEYS", "{gpubalancer}:h:*")
        assert keys == ""
        (budget_key,) = server.ask("KEYS", "{gpubalancer}:b:*").splitlines()
        assert server.ask("GET", budget_key).split()[:2] == ["3", "0"]


@pytest.mark.parametrize("victim", ["worker", "all"])
def test_a_killed_process_leaves_nothing_reserved(tmp_path: Path, server: Server, victim: str) -> None:
    """What it had in flight is charged for its prompt and what was streamed, by its own supervisor or the next one."""
    budget = {"unit": "tokens", "limit": 50_000, "per": "month"}
    with engine("m", speedup=0.5) as url:
        with replicas(tmp_path, server, url, budget, count=2) as (first, second):
            client = connect(first.port)
            client.sendall(request_bytes(body=chat(stream=True, max_tokens=2000)))
            read_until(client, b"data: ")
            read_until(client, b"data: ")
            eventually(lambda: 50_000 - second.metric("gpubalancer_budget_remaining") > 0, "a reservation")
            workers = first.workers()
            for pid in [*([first.process.pid] if victim == "all" else []), *workers]:
                os.kill(pid, signal.SIGKILL)
            client.close()
            if victim == "worker":
                eventually(lambda: 0 < 50_000 - second.metric("gpubalancer_budget_remaining") < 500, "a settlement", 20)
        if victim == "all":
            with replicas(tmp_path, server, url, budget, count=1) as (again,):
                eventually(lambda: 0 < 50_000 - again.metric("gpubalancer_budget_remaining") < 500, "a settlement", 20)


def test_a_server_that_is_away_refuses_or_lets_go_on(tmp_path: Path, server: Server) -> None:
    """503 `budgets_unreachable` at once, and service again when it is back."""
    with (
        engine("m") as url,
        replicas(tmp_path, server, url, {"unit": "requests", "limit": 60, "per": "month"}, count=1) as (balancer,),
    ):
        assert said(balancer).status == 200
        server.stop()
        answers = [said(balancer) for _ in range(8)]
        assert {answer.status for answer in answers} == {503}
        assert answers[-1].json()["error"]["code"] == "budgets_unreachable"
        server.go_on()
        eventually(lambda: said(balancer).status == 200, "the budgets to be reachable")
