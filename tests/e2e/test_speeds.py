"""Speeds are learned from answers alone, and a backend that becomes slower gets less.

What is claimed of the backends here is wrong: all have the class `h100`, and run at other speeds than it does. Rules
send requests to a backend of the test's choice by a header.
"""

import random
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import ask
from tests.e2e.engines import MODEL, engines
from tests.e2e.processes import Balancer, eventually, serving

pytestmark = pytest.mark.soak

SPEEDUPS = {"fast-1": 6.0, "fast-2": 6.0, "slow": 6.0 / 8, "slowest": 6.0 / 40}
"""All are claimed to be alike; one is 8 times, one 40 times slower."""
REQUESTS, CLIENTS = 200, 8
THROTTLED_S = 16.0
"""After an engine's start it runs at half its speed; by then the balancer has been up for some seconds."""
WATCHED_S = 12.0


def body(dice: random.Random, output_tokens: int) -> dict[str, Any]:
    """A stream of a chat whose prompt nobody has read before."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(dice.choices(letters, k=5)) for _ in range(dice.choice((100, 300, 500, 900)))]
    said = [{"role": "user", "content": " ".join(words)}]
    return {"model": MODEL, "messages": said, "max_tokens": output_tokens, "stream": True}


def ratios(balancer: Balancer, backend: str) -> list[float]:
    """Of the last answers, TTFT by what was foreseen."""
    lines = balancer.lines(backend=backend, status=200)[-6:]
    return [(line["ttft_ms"] - line["overhead_ms"]) / line["expected_ttft_ms"] for line in lines]


def test_wrong_claims_are_unlearned_within_200_requests(tmp_path: Path) -> None:
    """Then TTFT is foreseen within 25 % at the median, for each backend, however far the claim was off."""
    dice = random.Random(3)
    rules = [{"name": f"to {name}", "when": {"header": {"x-to": name}}, "require": {"name": name}} for name in SPEEDUPS]
    wanted = {name: ("--hardware", "h100", "--speedup", str(speedup)) for name, speedup in SPEEDUPS.items()}
    with engines(wanted) as fleet:
        backends = [each.settings(hardware="h100") for each in fleet]
        with serving(tmp_path, backends, routing={"rules": rules}) as balancer, ThreadPoolExecutor(CLIENTS) as clients:
            bodies = [body(dice, dice.choice((4, 8, 16))) for _ in range(REQUESTS)]
            assert {answer.status for answer in clients.map(lambda each: ask(balancer.port, body=each), bodies)} == {
                200
            }
            eventually(lambda: len(balancer.lines(status=200)) == REQUESTS, "all to be logged")
            served = {name: len(balancer.lines(backend=name)) for name in SPEEDUPS}
            assert served["slowest"] < served["slow"] < min(served["fast-1"], served["fast-2"])
            # What the last ones taught has been told after two reports.
            reports = balancer.metric("gpubalancer_requests_total")
            eventually(lambda: reports <= balancer.metric("gpubalancer_requests_total") == REQUESTS, "all counted")

            def probe(name: str) -> None:
                one_by_one = random.Random(name)
                for _ in range(6):
                    ask(balancer.port, body=body(one_by_one, 4), fields={"x-to": name})

            list(clients.map(probe, SPEEDUPS))
            eventually(lambda: len(balancer.lines(status=200)) == REQUESTS + 24, "all to be logged")
            medians = {name: statistics.median(ratios(balancer, name)) for name in SPEEDUPS}
    assert all(0.75 <= median <= 1.25 for median in medians.values()), medians


def share(seen: Sequence[tuple[float, str]], since_s: float, until_s: float) -> float:
    """Of the requests that were sent in a time, those that went to the backend that is throttled."""
    there = [name for at_s, name in seen if since_s <= at_s < until_s]
    assert len(there) >= 10, f"only {len(there)} requests from {since_s} to {until_s}"
    return there.count("throttled") / len(there)


@pytest.mark.parametrize(("telemetry", "within_s"), [("agent", 1.0), ("nothing", 10.0)])
def test_a_backend_at_half_its_speed_gets_less(tmp_path: Path, telemetry: str, within_s: float) -> None:
    """Within a second where its GPU tells of the throttle, within ten where nothing does."""
    plain = ("--hardware", "h100", "--speedup", "4")
    wanted = {"steady": plain, "throttled": (*plain, "--throttle-at", f"{THROTTLED_S}:0.5")}
    seen: list[tuple[float, str]] = []
    with engines(wanted) as fleet:
        throttled_at_s = time.monotonic() + THROTTLED_S
        tells = telemetry == "agent"
        backends = [
            each.settings(hardware="h100", **({"telemetry": {"agent": each.url}} if tells else {"engine": "openai"}))
            for each in fleet
        ]
        with serving(tmp_path, backends) as balancer, ThreadPoolExecutor(6) as clients:

            def send(number: int) -> None:
                dice = random.Random(number)
                while (at_s := time.monotonic() - throttled_at_s) < WATCHED_S:
                    answer = ask(balancer.port, body=body(dice, dice.choice((16, 24, 32))))
                    seen.append((at_s, answer.fields["x-gpubalancer-backend"]))

            list(clients.map(send, range(6)))
    before, after = share(seen, -3.0, -0.5), share(seen, within_s, within_s + 2.0)
    assert 0.35 < before < 0.65
    assert after < 0.7 * before, f"{after:.2f} after {within_s} s, {before:.2f} before"
