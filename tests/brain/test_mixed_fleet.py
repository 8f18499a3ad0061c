"""GPU, CPU and cloud at once: who gets what follows from seconds and money, within what the tier allows."""

from random import Random

import numpy as np
import pytest

from gpubalancer.brain.choose import choose
from gpubalancer.brain.columns import build_economy
from gpubalancer.brain.fleet import build_fleet
from gpubalancer.brain.live import Live
from gpubalancer.brain.method import method_of
from gpubalancer.brain.verdict import Choice
from gpubalancer.domain.work import Work
from gpubalancer.policy.schema import Policy
from tests.brain.policies import policy

TEXT = """
tiers: [{name: public}, {name: internal, networks: [127.0.0.0/8]}]
backends:
  - {name: gpu, url: "http://127.0.0.1:9001", kind: gpu, engine: vllm, hardware: h100, models: [llama, small, embed],
     clearance: internal, slots: 8, price: {usd_per_hour: 3.20}}
  - {name: cpu, url: "http://127.0.0.1:9002", kind: cpu, engine: vllm, hardware: cpu, models: [small, embed],
     clearance: internal, slots: 4, price: {usd_per_hour: 0.10}}
  - {name: cloud, url: "https://api.example.com/v1", kind: cloud, engine: openai, hardware: cloud, models: [llama],
     clearance: public, price: {usd_per_million_tokens: {prompt: 15, completion: 60}}}
"""
SLO = "routing: {slo: {ttft: 2s, tpot: 100ms}}"
FRUGAL = "routing: {mode: frugal, slo: {ttft: 2s, tpot: 100ms}}"
NAMES = ("gpu", "cpu", "cloud")


def chosen(text: str, work: Work, in_flight: tuple[int, int, int] = (0, 0, 0), queued: int = 0) -> Choice:
    """The choice for a request while so many of ours are there, the GPU with so many tokens to read first."""
    read: Policy = policy(text)
    fleet = build_fleet(read, {name: row for row, name in enumerate(NAMES)}, {})
    here = np.array(in_flight)
    live = Live(
        up=np.ones(3, np.bool_),
        draining=np.zeros(3, np.bool_),
        in_flight=here,
        prefill_tokens=np.array([queued, 0, 0]),
        context_tokens=here * 1200,
    )
    return choose(fleet, work, live, None, Random(1), method_of(read.routing, build_economy(read, fleet)))


def name_of(choice: Choice) -> str | None:
    """Who was chosen."""
    return None if choice.index is None else NAMES[choice.index]


def asked(api: str, model: str, prompt_tokens: int, output_tokens: int, tier: int = 0) -> Work:
    """One request."""
    made = Work(api, model, tier, streamed=True, deadline_s=float("inf"))
    made.prompt_tokens, made.output_tokens = prompt_tokens, output_tokens
    return made


def test_a_small_embedding_goes_to_the_cpu_where_that_is_quicker() -> None:
    """To an idle GPU first; behind a queue of prompts there, the CPU is sooner done with it."""
    small = asked("embeddings", "embed", 100, 0)
    assert name_of(chosen(TEXT, small)) == "gpu"
    assert name_of(chosen(TEXT, small, in_flight=(6, 0, 0), queued=20_000)) == "cpu"
    assert name_of(chosen(TEXT, asked("embeddings", "embed", 8_000, 0), in_flight=(6, 0, 0), queued=20_000)) == "gpu"


def test_embeddings_and_small_models_go_to_the_cpu_where_money_decides() -> None:
    """While it keeps the SLO: a prompt that the CPU would read for too long goes to the GPU."""
    assert name_of(chosen(TEXT + FRUGAL, asked("embeddings", "embed", 100, 0))) == "cpu"
    assert name_of(chosen(TEXT + FRUGAL, asked("chat", "small", 50, 20))) == "cpu"
    assert name_of(chosen(TEXT + FRUGAL, asked("embeddings", "embed", 8_000, 0))) == "gpu"


@pytest.mark.parametrize("routing", ["", SLO, FRUGAL])
def test_what_the_pool_has_no_place_for_goes_to_the_cloud_if_its_tier_allows(routing: str) -> None:
    """Our own GPU first; when it is full a public request spills over, and an internal one waits."""
    text = TEXT + routing
    assert name_of(chosen(text, asked("chat", "llama", 800, 200))) == "gpu"
    full = (8, 0, 0)
    assert name_of(chosen(text, asked("chat", "llama", 800, 200), full)) == "cloud"
    kept = chosen(text, asked("chat", "llama", 800, 200, tier=1), full)
    assert (name_of(kept), kept.wait) == (None, "hold")


def test_what_would_be_late_here_goes_to_the_cloud_if_its_tier_allows() -> None:
    """A place on a GPU that would not keep the SLO is none."""
    busy = (6, 0, 0)
    assert name_of(chosen(TEXT + SLO, asked("chat", "llama", 800, 200), busy, queued=30_000)) == "cloud"
    kept = chosen(TEXT + SLO, asked("chat", "llama", 800, 200, tier=1), busy, queued=30_000)
    assert (name_of(kept), kept.wait) == (None, "hold")
