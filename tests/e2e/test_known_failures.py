"""What other gateways are known to get wrong about budgets and usage, each under its name.

Each tenant has a month's budget of its own; after each test what is left of it must be what the journal's lines say.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.backends import STREAM_HEAD, Backend, Call, backend, chunk, whole
from tests.e2e.clients import Answer, ask, chat, connect, request_bytes
from tests.e2e.processes import COMMAND, Balancer, eventually, policy, running
from tests.ledger.entries import whole_lines

LIMITS: dict[str, dict[str, Any]] = {
    "racing": {"unit": "requests", "limit": 5},
    "overrun": {"unit": "tokens", "limit": 4000},
    "lying": {"unit": "tokens", "limit": 1_000_000},
    "leaving": {"unit": "tokens", "limit": 1_000_000},
    "caching": {"unit": "tokens", "limit": 1_000_000, "cached_weight": 0.25},
    "listing": {"unit": "requests", "limit": 1},
    "crashing": {"unit": "tokens", "limit": 100_000},
    "aliasing": {"unit": "tokens", "limit": 1_000_000, "models": ["m"]},
}
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"
STREAMED = 10


def usage(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    """A report."""
    details = {"prompt_tokens_details": {"cached_tokens": cached}} if cached else {}
    return {"prompt_tokens": prompt, "completion_tokens": completion, **details}


REPORTS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "negative": [usage(7, -5)],
    "huge": [usage(7, 10**9)],
    "twice": [usage(7, 12), usage(7, 11)],
    "different": [usage(7, 1)],
    "cached": [usage(100, STREAMED, 80)],
    "large": [usage(100, 9000)],
}


async def serve(call: Call) -> None:
    """Answer as the body's `user` says: a report's name, or `hang` for a stream that goes on."""
    body = json.loads(await call.body())
    reports = REPORTS.get(body.get("user", ""), [usage(7, 3)])
    if not body.get("stream"):
        await call.send(whole(json.dumps({"usage": reports[0], "choices": [{"finish_reason": "stop"}]}).encode()))
        return
    await call.send(STREAM_HEAD + b"".join([chunk(EVENT)] * STREAMED))
    if body["user"] == "hang":
        await call.reader.read(1)
    told = [b'data: {"choices":[],"usage":%b}\n\n' % json.dumps(each).encode() for each in reports]
    await call.send(b"".join(map(chunk, (STOP, *told, DONE))) + END)


@dataclass(frozen=True)
class House:
    """The balancer, and one tenant's view of it."""

    balancer: Balancer
    folder: Path
    tenant: str

    @property
    def fields(self) -> dict[str, str]:
        """What proves who asks."""
        return {"authorization": f"Bearer key-of-{self.tenant}"}

    def ask(self, report: str = "", **body: Any) -> Answer:
        """One chat whose answer reports so."""
        return ask(self.balancer.port, body=chat(user=report, **body), fields=self.fields)

    def lines(self) -> list[dict[str, Any]]:
        """The tenant's lines of the journal that were charged."""
        every = whole_lines(sorted((self.folder / "state" / "journal").glob("*.journal")))
        return [line for line in every if line["tenant"] == self.tenant and line["requests"]]

    def left(self) -> float:
        """What is left of the tenant's budget."""
        return self.balancer.metric("gpubalancer_budget_remaining", f'tenant="{self.tenant}"')

    def agrees(self, spent: float) -> None:
        """So much is gone of the budget, and nothing is reserved."""
        limit = LIMITS[self.tenant]["limit"]
        eventually(lambda: self.left() == limit - spent, f"{limit - spent} to be left of {self.tenant}'s budget")

    def tokens(self) -> int:
        """What the journal's lines add up to."""
        return sum(line["prompt_tokens"] + line["completion_tokens"] for line in self.lines())


@pytest.fixture(scope="module")
def server() -> Iterator[Backend]:
    """The backend."""
    with backend(serve) as made:
        yield made


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, server: Backend) -> Iterator[tuple[Balancer, Path]]:
    """A balancer with two workers, and all tenants."""
    folder = tmp_path_factory.mktemp("house")
    settings = policy(folder, [server.settings(slots=1000)], listen={"workers": 2})
    settings["models"] = {"m": {"aliases": ["gpt"]}}
    settings["tenants"] = [
        {
            "name": name,
            "keys": [f"sha256:{sha256(f'key-of-{name}'.encode()).hexdigest()}"],
            "budgets": [{"per": "month", **budget}],
        }
        for name, budget in LIMITS.items()
    ]
    with running(folder, settings) as balancer:
        yield balancer, folder


@pytest.fixture
def house(started: tuple[Balancer, Path], request: pytest.FixtureRequest) -> House:
    """For the tenant that a test names."""
    return House(*started, tenant=request.param)


def of(tenant: str) -> pytest.MarkDecorator:
    """Whose budget a test spends."""
    return pytest.mark.parametrize("house", [tenant], indirect=True)


@of("racing")
def test_concurrent_requests_past_a_limit(house: House) -> None:
    """Of 30 at once exactly 5 are served, by two workers; the others are refused and charged nothing."""
    with ThreadPoolExecutor(30) as pool:
        statuses = [answer.status for answer in pool.map(lambda _: house.ask(), range(30))]
    assert (statuses.count(200), statuses.count(429)) == (5, 25)
    assert len(house.lines()) == 5
    house.agrees(5)


@of("overrun")
def test_an_overrun_larger_than_the_balance(house: House) -> None:
    """It is debited in full, so that the next request is refused until it is paid."""
    assert house.ask("large").status == 200
    assert house.ask(max_tokens=1).status == 429
    house.agrees(9100)
    assert house.tokens() == 9100


@of("lying")
def test_a_stream_without_usage_is_free(house: House) -> None:
    """It is not: its events are counted, and its prompt is what was estimated."""
    before = house.tokens()
    assert house.ask("none", stream=True).status == 200
    line = house.lines()[-1]
    assert (line["completion_tokens"], line["usage_source"]) == (STREAMED, "counted")
    assert line["prompt_tokens"] > 0
    house.agrees(before + line["prompt_tokens"] + STREAMED)


@of("lying")
@pytest.mark.parametrize(
    ("report", "completion", "doubt"),
    [("negative", 10, "negative"), ("huge", 2000, "huge"), ("twice", 12, "fell"), ("different", 10, "differs")],
)
def test_usage_that_lies(house: House, report: str, completion: int, doubt: str) -> None:
    """It is charged by the rule of `proxy/usage.py`, counted, and said."""
    before, name = house.tokens(), f"lie-{report}"
    fields = {**house.fields, "x-request-id": name}
    assert ask(house.balancer.port, body=chat(stream=True, user=report), fields=fields).status == 200
    (line,) = [line for line in house.lines() if line["request_id"] == name]
    assert (line["prompt_tokens"], line["completion_tokens"]) == (7, completion)
    assert doubt in house.balancer.logged(request_id=name)["usage_doubts"]
    house.agrees(before + 7 + completion)
    disputed = len([line for line in house.balancer.lines() if line["usage_doubts"]])
    eventually(lambda: house.balancer.metric("gpubalancer_usage_disputed_total") == disputed, "the count")


@of("leaving")
def test_a_client_gone_at_token_10(house: House) -> None:
    """Within a second it is on record and charged: its prompt, and the ten tokens that had come."""
    with connect(house.balancer.port) as client:
        fields = "".join(f"{name}: {value}\r\n" for name, value in house.fields.items())
        client.sendall(request_bytes(body=chat(stream=True, user="hang", max_tokens=5000), fields=fields))
        data = b""
        while data.count(EVENT) < STREAMED:
            data += client.recv(65536)
    left_s = time.monotonic()
    (line,) = eventually(house.lines, "its line", 1.0)
    assert time.monotonic() - left_s < 1.0
    assert (line["completion_tokens"], line["code"]) == (STREAMED, 499)
    house.agrees(line["prompt_tokens"] + STREAMED)


@of("caching")
def test_cached_tokens_at_full_weight(house: House) -> None:
    """80 of 100 prompt tokens weigh a quarter; the ledger tells them apart."""
    assert house.ask("cached").status == 200
    (line,) = house.lines()
    assert (line["prompt_tokens"], line["cached_tokens"], line["completion_tokens"]) == (100, 80, STREAMED)
    house.agrees(20 + 20 + STREAMED)


@of("listing")
def test_lists_of_models_are_charged(house: House) -> None:
    """They are not, nor is a question for one's usage, and neither is refused when all is spent."""
    for _ in range(2):
        for path in ("/v1/models", "/v1/usage"):
            assert ask(house.balancer.port, path, fields=house.fields).status == 200
        house.ask()
    assert house.ask().status == 429
    assert len(house.lines()) == 1
    house.agrees(1)


@of("crashing")
def test_a_budget_is_blocked_far_below_its_limit_after_crashes(house: House) -> None:
    """Twice a worker is killed that had reserved most of it: what it had taken is gone, and nothing else."""
    for _ in range(2):
        with connect(house.balancer.port) as client:
            fields = "".join(f"{name}: {value}\r\n" for name, value in house.fields.items())
            client.sendall(request_bytes(body=chat(stream=True, user="hang", max_tokens=80_000), fields=fields))
            data = b""
            while data.count(EVENT) < STREAMED:
                data += client.recv(65536)
            workers = house.balancer.workers()
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            eventually(lambda: len(set(house.balancer.workers()) - set(workers)) == 2, "other workers", 30)  # noqa: B023
    eventually(lambda: len(house.lines()) == 2, "a line for each")
    assert {line["reason"] for line in house.lines()} == {"worker_killed"}
    assert 2 <= house.tokens() < 2 * 100
    house.agrees(house.tokens())
    assert eventually(lambda: house.ask(max_tokens=90_000).status == 200, "a worker that serves")


@of("aliasing")
def test_a_limit_is_off_because_a_name_did_not_match(house: House, tmp_path: Path) -> None:
    """A model's budget counts it by any of its names, and one for a model that nobody has is told before the start."""
    assert house.ask(model="gpt").status == 200
    (line,) = house.lines()
    assert (line["model_asked"], line["model"]) == ("gpt", "m")
    house.agrees(10)

    settings = json.loads(json.dumps(house.balancer.settings))
    settings["tenants"][-1]["budgets"][0]["models"] = ["mm"]
    (tmp_path / "slip.yaml").write_text(json.dumps(settings))
    command = [*COMMAND, "check", "--config", str(tmp_path / "slip.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert '"mm"' in done.stderr
