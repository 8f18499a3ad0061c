"""Budgets on real sockets: exact over workers, settled whatever happens, surviving a kill."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import Answer, ask, chat, connect, read_until, request_bytes
from tests.e2e.processes import Balancer, engine, eventually, serving

MODELS = {"m": {"tokenizer": "cl100k_base"}}
HOUR = {"per": "1h"}


def tenants(*budgets: dict[str, Any]) -> dict[str, Any]:
    """One tenant, who pays for everybody, with these budgets."""
    return {"tenants": [{"name": "acme", "budgets": list(budgets)}], "anonymous": "acme", "models": MODELS}


def said(balancer: Balancer, max_tokens: int = 3) -> Answer:
    """A chat of a known length."""
    return ask(
        balancer.port, "/v1/chat/completions", chat(max_tokens=max_tokens, messages=[{"role": "user", "content": "hi"}])
    )


def left(balancer: Balancer, unit: str = "tokens") -> float:
    """What is left of the tenant's budget."""
    return balancer.metric("gpubalancer_budget_remaining", f'unit="{unit}"')


def at_rest(balancer: Balancer) -> bool:
    """True if nothing is reserved."""
    return balancer.metric("gpubalancer_reservations_outstanding") == 0


def test_exactly_what_fits_is_admitted_by_four_workers(tmp_path: Path) -> None:
    """64 clients at once, a budget for 40 requests: 40 are served, and the rest is told when to come back."""
    with (
        engine("m") as url,
        serving(
            tmp_path,
            [{"name": "e", "url": url, "models": ["m"], "slots": 100}],
            listen={"workers": 4},
            **tenants({"unit": "requests", "limit": 40, **HOUR}),
        ) as balancer,
        ThreadPoolExecutor(64) as pool,
    ):
        answers = list(pool.map(lambda _: said(balancer), range(64)))
        codes = [answer.status for answer in answers]
        assert (codes.count(200), codes.count(429)) == (40, 24)
        refused = next(answer for answer in answers if answer.status == 429)
        assert refused.json()["error"]["code"] in ("rate_limit_exceeded", "insufficient_quota")
        assert refused.fields["x-ratelimit-remaining-requests"] == "0"
        assert int(refused.fields["retry-after"]) > 0
        eventually(lambda: at_rest(balancer), "nothing to be reserved")


def test_what_was_reserved_becomes_what_was_used(tmp_path: Path) -> None:
    """The balance falls by the usage to the token; headers tell it; lists of models are free."""
    with (
        engine("m") as url,
        serving(
            tmp_path,
            [{"name": "e", "url": url, "models": ["m"]}],
            **tenants({"unit": "tokens", "limit": 100_000, **HOUR}),
        ) as balancer,
    ):
        answer = said(balancer)
        used = answer.json()["usage"]["total_tokens"]
        assert answer.fields["x-ratelimit-limit-tokens"] == "100000"
        assert 0 < int(answer.fields["x-ratelimit-remaining-tokens"]) <= 100_000 - used + 50
        eventually(lambda: at_rest(balancer), "nothing to be reserved")
        # A bucket of 100,000 an hour regains 28 tokens a second.
        assert 100_000 - used <= left(balancer) <= 100_000
        before = left(balancer)
        assert ask(balancer.port, "/v1/models").status == 200
        assert left(balancer) >= before


def test_a_client_that_leaves_is_charged_for_what_was_streamed(tmp_path: Path) -> None:
    """Not for what was reserved, and not for nothing."""
    with (
        engine("m", speedup=0.5) as url,
        serving(
            tmp_path,
            [{"name": "e", "url": url, "models": ["m"]}],
            **tenants({"unit": "completion_tokens", "limit": 10_000, "per": "month"}),
        ) as balancer,
    ):
        client = connect(balancer.port)
        client.sendall(request_bytes(body=chat(stream=True, max_tokens=2000)))
        read_until(client, b"data: ")
        read_until(client, b"data: ")
        client.close()
        line = balancer.logged(reason="client_left")
        eventually(lambda: at_rest(balancer), "nothing to be reserved")
        assert 0 <= line["completion_tokens"] < 500
        eventually(lambda: left(balancer, "completion_tokens") == 10_000 - line["completion_tokens"], "the balance")


@pytest.mark.parametrize("victim", ["worker", "all"])
def test_a_killed_process_leaves_nothing_reserved(tmp_path: Path, victim: str) -> None:
    """What it had in flight is charged for its prompt and what was streamed; what was spent before stays spent."""
    budgets = tenants({"unit": "tokens", "limit": 50_000, "per": "month"})
    with engine("m", speedup=0.5) as url:
        backends = [{"name": "e", "url": url, "models": ["m"]}]
        with serving(tmp_path, backends, **budgets) as balancer:
            said(balancer)
            eventually(lambda: left(balancer) < 50_000, "the first request to be charged")
            spent = 50_000 - left(balancer)
            client = connect(balancer.port)
            client.sendall(request_bytes(body=chat(stream=True, max_tokens=2000)))
            read_until(client, b"data: ")
            eventually(lambda: not at_rest(balancer), "a reservation")
            if victim == "worker":
                worker = balancer.workers()[0]
                os.kill(worker, signal.SIGKILL)
                eventually(lambda: balancer.workers() not in ([], [worker]), "another worker")
                eventually(lambda: at_rest(balancer) and said(balancer).status == 200, "a new worker to serve")
                assert spent < 50_000 - left(balancer) < 2000
            else:
                for pid in [balancer.process.pid, *balancer.workers()]:
                    os.kill(pid, signal.SIGKILL)
            client.close()
        if victim == "all":
            with serving(tmp_path, backends, **budgets) as balancer:
                eventually(lambda: at_rest(balancer), "nothing to be reserved")
                assert spent <= 50_000 - left(balancer) < 2000


def test_a_budget_that_waits_serves_later(tmp_path: Path) -> None:
    """With `when_spent: queue` a request that does not fit now is held until it does."""
    with (
        engine("m") as url,
        serving(
            tmp_path,
            [{"name": "e", "url": url, "models": ["m"]}],
            **tenants({"unit": "requests", "limit": 2, "per": "1s", "when_spent": "queue"}),
        ) as balancer,
    ):
        assert [said(balancer).status for _ in range(5)] == [200] * 5


def test_a_spent_budget_serves_with_a_cheaper_model(tmp_path: Path) -> None:
    """The other model answers, a header says so, and the tier still holds."""
    budget = {"unit": "requests", "limit": 1, "per": "month", "when_spent": "downgrade"}
    with (
        engine("m", "small") as url,
        serving(
            tmp_path,
            [{"name": "e", "url": url, "models": ["m", "small"]}],
            tenants=[{"name": "acme", "budgets": [budget]}],
            anonymous="acme",
            models={"m": {"downgrade_to": "small"}},
        ) as balancer,
    ):
        first, second = said(balancer), said(balancer)
        assert (first.status, first.json()["model"], first.fields.get("x-gpubalancer-downgraded")) == (200, "m", None)
        assert (second.status, second.json()["model"]) == (200, "small")
        assert second.fields["x-gpubalancer-downgraded"] == "model=small"
        assert second.fields["x-gpubalancer-tier"] == first.fields["x-gpubalancer-tier"]
        assert balancer.logged(downgraded="model=small")["model"] == "small"
        eventually(
            lambda: balancer.metric("gpubalancer_budget_actions_total", 'action="downgraded"') == 1, "the metric"
        )


def test_a_month_that_is_spent_is_not_asked_again(tmp_path: Path) -> None:
    """SDKs are told not to retry what no minute heals."""
    with (
        engine("m") as url,
        serving(
            tmp_path,
            [{"name": "e", "url": url, "models": ["m"]}],
            **tenants({"unit": "requests", "limit": 1, "per": "month"}),
        ) as balancer,
    ):
        assert said(balancer).status == 200
        refused = said(balancer)
        assert (refused.status, refused.json()["error"]["code"]) == (429, "insufficient_quota")
        assert refused.fields["x-should-retry"] == "false"
