"""What admission is worth: step-level simulations of a small mixed fleet below and above its capacity."""

import pytest

from tests.brain.overload import Stage, admitting, chat

MIXED = ("h100", "a100", "l40s", "cpu")
BELOW_PER_S, ABOVE_PER_S, SECONDS = 4.0, 12.0, 25.0


def goodput(stage: Stage, rate_per_s: float, seed: int) -> float:
    """The share of requests that keep the SLO at this rate."""
    return stage.play(chat(rate_per_s, SECONDS, seed))


@pytest.mark.parametrize("seed", [1, 2])
def test_admission_keeps_goodput_in_overload(seed: int) -> None:
    """Above capacity holding work back serves more than twice as many within the SLO as the least in flight does."""
    least, ours = Stage(MIXED, None), Stage(MIXED, admitting(MIXED))
    shares = goodput(least, ABOVE_PER_S, seed), goodput(ours, ABOVE_PER_S, seed)
    assert shares[1] > 2 * shares[0]
    assert shares[1] > 0.5
    assert ours.refused > 0


@pytest.mark.parametrize("seed", [1, 2])
def test_admission_costs_nothing_below_capacity(seed: int) -> None:
    """With room for all nearly everybody is served within the SLO, and no fewer than by the least in flight."""
    least, ours = Stage(MIXED, None), Stage(MIXED, admitting(MIXED))
    shares = goodput(least, BELOW_PER_S, seed), goodput(ours, BELOW_PER_S, seed)
    assert shares[1] >= 0.97
    assert shares[1] >= shares[0]


def test_wrong_claims_are_learned_under_load() -> None:
    """With every backend claimed to be an A100, learning from answers keeps most of true claims' goodput."""
    claimed = ("a100",) * len(MIXED)
    true, learning = Stage(MIXED, admitting(MIXED)), Stage(MIXED, admitting(claimed), claimed)
    arrivals = chat(ABOVE_PER_S, 40.0, 3)
    assert learning.play(arrivals) > 0.75 * true.play(arrivals)
    learned = [learning.calibrator.measured(f"b{index}", 0.0).curves for index in range(len(MIXED))]
    reads_s = [curves.a0_s + 1000 * curves.a1_s + 1e6 * curves.a2_s for curves in learned]
    assert reads_s == sorted(reads_s)


def test_the_simulation_is_deterministic() -> None:
    """The same arrivals give the same result."""
    results = [(stage.play(chat(ABOVE_PER_S, 10.0, 4)), stage.refused) for stage in _two()]
    assert results[0] == results[1]


def _two() -> tuple[Stage, Stage]:
    return Stage(MIXED, admitting(MIXED)), Stage(MIXED, admitting(MIXED))
