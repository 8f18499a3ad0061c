"""What admission is worth: step-level simulations of a small mixed fleet below and above its capacity."""

from random import Random

import pytest

from bench.fleets import Simulated
from bench.steps import Policy, Stage, stage
from bench.traces import Arrival

MIXED = tuple(Simulated(name, name) for name in ("h100", "a100", "l40s", "cpu"))
BELOW_PER_S, ABOVE_PER_S, SECONDS = 4.0, 12.0, 25.0


def chat(rate_per_s: float, seconds: float, seed: int) -> list[Arrival]:
    """Poisson arrivals of chats: prompts of 1150 tokens and outputs of 210 in the mean, both with a long tail."""
    random, arrivals, now_s = Random(seed), [], 0.0
    while (now_s := now_s + random.expovariate(rate_per_s)) < seconds:
        prompt, output = random.lognormvariate(6.7, 0.85), random.lognormvariate(5.1, 0.7)
        arrivals.append(Arrival(now_s, min(max(int(prompt), 8), 8000), min(max(int(output), 2), 1000)))
    return arrivals


def play(policy: Policy, rate_per_s: float, seed: int, seconds: float = SECONDS) -> tuple[float, Stage]:
    """The share of requests that keep the SLO at this rate, and the stage after it."""
    played = stage(MIXED, policy)
    return played.play(chat(rate_per_s, seconds, seed)), played


@pytest.mark.parametrize("seed", [1, 2])
def test_admission_keeps_goodput_in_overload(seed: int) -> None:
    """Above capacity holding work back serves more than twice as many within the SLO as the least in flight does."""
    (least, _), (ours, played) = play("least in flight", ABOVE_PER_S, seed), play("choice", ABOVE_PER_S, seed)
    assert ours > 2 * least
    assert ours > 0.5
    assert played.refused > 0


@pytest.mark.parametrize("seed", [1, 2])
def test_admission_costs_nothing_below_capacity(seed: int) -> None:
    """With room for all nearly everybody is served within the SLO, hardly fewer than by the least in flight if any."""
    (least, _), (ours, _) = play("least in flight", BELOW_PER_S, seed), play("choice", BELOW_PER_S, seed)
    assert ours >= 0.97
    assert ours >= least - 0.01


@pytest.mark.parametrize("seed", [1, 2])
def test_learning_is_worth_nearly_as_much_as_knowing(seed: int) -> None:
    """In overload, speeds learned from answers keep 0.85 of the goodput that the engines' true speeds would."""
    (known, _), (learned, _) = play("oracle", ABOVE_PER_S, seed), play("choice", ABOVE_PER_S, seed)
    assert learned > 0.85 * known


def test_the_simulation_is_deterministic() -> None:
    """The same arrivals give the same result."""
    results = [(goodput, played.refused) for goodput, played in (play("choice", ABOVE_PER_S, 4, 10.0) for _ in "ab")]
    assert results[0] == results[1]
