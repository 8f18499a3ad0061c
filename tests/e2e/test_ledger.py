"""Usage in real processes: asked on three ways, with a full disk, with budgets that were damaged."""

import json
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.backends import Backend, Call, backend, whole
from tests.e2e.clients import Answer, ask, chat
from tests.e2e.processes import COMMAND, Balancer, eventually, policy, running

KEYS = {"acme": "key-of-acme", "other": "key-of-other"}
USED = b'{"usage": {"prompt_tokens": 11, "completion_tokens": 5}, "choices": [{"finish_reason": "stop"}]}'


def settings(folder: Path, server: Backend, **state: Any) -> dict[str, Any]:
    """A balancer with two tenants, of which one has a month's budget."""
    tenants: list[dict[str, Any]] = [
        {"name": name, "keys": [f"sha256:{sha256(key.encode()).hexdigest()}"]} for name, key in KEYS.items()
    ]
    tenants[0]["budgets"] = [{"unit": "tokens", "limit": 1_000_000, "per": "month"}]
    made = policy(folder, [server.settings()], state=state)
    made["tenants"] = tenants
    return made


def said(balancer: Balancer, tenant: str = "acme") -> int:
    """The status of a chat."""
    return ask(balancer.port, body=chat(), fields={"authorization": f"Bearer {KEYS[tenant]}"}).status


def left(balancer: Balancer) -> float:
    """What is left of the month's budget."""
    return balancer.metric("gpubalancer_budget_remaining")


def told(balancer: Balancer, *options: str) -> dict[str, Any]:
    """What the command says."""
    command = [*COMMAND, "usage", "--config", str(balancer.config), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def own(balancer: Balancer, tenant: str, query: str = "") -> Any:
    """What a tenant is told of itself, once the ledger answers."""

    def told() -> Answer | None:
        answer = ask(balancer.port, f"/v1/usage{query}", fields={"authorization": f"Bearer {KEYS[tenant]}"})
        assert answer.status in (200, 503), answer.body
        return answer if answer.status == 200 else None

    return eventually(told, "an answer of the ledger", 30).json()


@pytest.fixture
def server() -> Iterator[Backend]:
    """A backend whose every answer took 11 and 5 tokens."""

    async def answer(call: Call) -> None:
        await call.body()
        await call.send(whole(USED))

    with backend(answer) as made:
        yield made


def test_what_was_spent_is_told_on_three_ways(tmp_path: Path, server: Backend) -> None:
    """By the command to the last request, on the admin port for all, on the data port for the key's own tenant."""
    with running(tmp_path, settings(tmp_path, server)) as balancer:
        assert [said(balancer), said(balancer), said(balancer, "other")] == [200] * 3
        sums = {"requests": 2, "prompt_tokens": 22, "cached_tokens": 0, "completion_tokens": 10, "usd": 0, "joules": 0}
        rows = [{"tenant": "acme", "model": "m", **sums}]
        assert told(balancer, "--tenant", "acme", "--by", "tenant,model") == {"rows": rows, "total": sums}
        assert told(balancer, "--verify")["verify"] == {"agrees": True, "faults": []}

        eventually(lambda: own(balancer, "acme")["total"] == sums, "the ledger to have the last request", 30)
        assert own(balancer, "acme", "?by=tenant,model&since=today")["rows"] == rows
        assert own(balancer, "other")["total"]["requests"] == 1
        assert ask(balancer.port, "/v1/usage").json()["error"]["code"] == "missing_api_key"
        query = ask(balancer.port, "/v1/usage?since=noon", fields={"authorization": f"Bearer {KEYS['acme']}"})
        assert (query.status, query.json()["error"]["code"]) == (400, "invalid_query")

        status, body = balancer.admin("GET", "/admin/v1/usage?by=tenant")
        assert (status, [row["tenant"] for row in json.loads(body)["rows"]]) == (200, ["acme", "other"])
        assert balancer.admin("GET", "/admin/v1/usage?by=wine")[0] == 400
        eventually(lambda: balancer.metric("gpubalancer_ledger_lag_seconds") < 5, "the ledger to keep up", 30)


def test_a_journal_that_can_not_be_written_refuses_new_requests(tmp_path: Path, server: Backend) -> None:
    """What was served meanwhile is recorded when it can be, and then requests are welcome again."""
    with running(tmp_path, settings(tmp_path, server)) as balancer:
        assert said(balancer) == 200
        journal = tmp_path / "state" / "journal"
        journal.rename(tmp_path / "away")
        for segment in (tmp_path / "away").iterdir():
            segment.unlink()
        journal.touch()
        served = 0

        def refused() -> bool:
            nonlocal served
            status = said(balancer)
            served += status == 200
            return status == 503

        eventually(refused, "a refusal")
        assert balancer.logged(event="journal full")
        assert balancer.logged(reason="journal_full")["status"] == 503
        journal.unlink()
        journal.mkdir()
        eventually(lambda: said(balancer) == 200, "room")
        assert balancer.logged(event="journal has room")
        assert balancer.metric("gpubalancer_journal_lost_total") == 0
        # Those before the segment was seen to be gone went with it; the one that was kept is there.
        assert 2 <= told(balancer)["total"]["requests"] <= served + 1


def test_damaged_budgets_are_made_again_from_the_ledger(tmp_path: Path, server: Backend) -> None:
    """To the token, and it is said."""
    wanted = settings(tmp_path, server)
    with running(tmp_path, wanted) as balancer:
        assert [said(balancer) for _ in range(3)] == [200] * 3
        eventually(lambda: left(balancer) == 1_000_000 - 48, "the charge")
    (tmp_path / "state" / "budgets").write_bytes(b"nonsense" * 1000)
    with running(tmp_path, wanted) as balancer:
        assert left(balancer) == 1_000_000 - 48
        assert "budgets.aside-1" in balancer.logged(event="file set aside")["why"]
        assert balancer.logged(event="budgets rebuilt")["spent_from"] == 1
        assert told(balancer, "--verify")["verify"]["agrees"]


def test_a_broken_database_hurts_no_request(tmp_path: Path, server: Backend) -> None:
    """Requests go on, the ledger says that it waits, a tenant is told to come back, and all is there in the end."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ledger.sqlite").mkdir()
    with running(tmp_path, settings(tmp_path, server)) as balancer:
        assert said(balancer) == 200
        assert balancer.logged(event="ledger waits")
        answer = ask(balancer.port, "/v1/usage", fields={"authorization": f"Bearer {KEYS['acme']}"})
        assert (answer.status, answer.json()["error"]["code"]) == (503, "usage_unavailable")
        assert balancer.metric("gpubalancer_ledger_failures_total") > 0
        (tmp_path / "state" / "ledger.sqlite").rmdir()
        eventually(lambda: _requests(balancer) == 1, "the request in the ledger")


def _requests(balancer: Balancer) -> int:
    status, body = balancer.admin("GET", "/admin/v1/usage")
    return int(json.loads(body)["total"]["requests"]) if status == 200 else 0
