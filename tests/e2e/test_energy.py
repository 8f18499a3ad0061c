"""What requests are charged in joules is what a simulated card has drawn for them."""

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.clients import ask
from tests.e2e.engines import MODEL, Engine, engines
from tests.e2e.processes import eventually, serving

pytestmark = pytest.mark.soak

IDLE_WATTS = 70.0
"""Of an H100 (gpubalancer/sim/gpus.py)."""
REQUESTS = 48


def counter(engine: Engine) -> tuple[float, float]:
    """The card's time and energy."""
    with urllib.request.urlopen(f"{engine.url}/v1/gpus", timeout=10) as answer:
        told = json.load(answer)
    return told["at_s"], told["gpus"][0]["energy_joules"]


def test_what_is_charged_is_what_was_drawn(tmp_path: Path) -> None:
    """Above idle, within a quarter; idle energy is counted apart, and carbon follows."""
    with engines({"e": ("--hardware", "h100")}) as (engine,):
        backends = [engine.settings(hardware="h100", telemetry={"agent": engine.url})]
        telemetry = {"carbon_grams_per_kwh": 3600}
        with serving(tmp_path, backends, telemetry=telemetry) as balancer, ThreadPoolExecutor(6) as clients:
            eventually(lambda: balancer.metric("gpubalancer_idle_energy_joules_total") > 100, "idle energy to be seen")
            warm = [clients.submit(ask, balancer.port, body=body(-number)) for number in range(1, 21)]
            assert {each.result().status for each in warm} == {200}
            eventually(lambda: balancer.metric("gpubalancer_requests_total") == 20, "them to be counted")
            charged_before = balancer.metric("gpubalancer_energy_joules_total")
            began_s, before = counter(engine)
            answers = clients.map(lambda number: ask(balancer.port, body=body(number)), range(REQUESTS))
            assert {answer.status for answer in answers} == {200}
            ended_s, after = counter(engine)
            eventually(lambda: balancer.metric("gpubalancer_requests_total") == 20 + REQUESTS, "all to be counted")
            charged = balancer.metric("gpubalancer_energy_joules_total") - charged_before
            carbon = balancer.metric("gpubalancer_carbon_grams_total")
            total = balancer.metric("gpubalancer_energy_joules_total")
    drawn = after - before - IDLE_WATTS * (ended_s - began_s)
    assert charged == pytest.approx(drawn, rel=0.25)
    assert carbon == pytest.approx(total / 1000, rel=1e-6)


def body(number: int) -> dict[str, object]:
    """A chat whose prompt nobody has read before."""
    said = " ".join(f"{number}word{at}" for at in range(150))
    return {"model": MODEL, "messages": [{"role": "user", "content": said}], "max_tokens": 40, "stream": True}
