"""What the step-level simulation gives bench/placement.py: the rates that loads are named after, and more seeds."""

import statistics
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from bench.fleets import FLEETS
from bench.steps import Policy, stage
from bench.traces import read_trace, window

SEEDS = range(2000, 2010)
"""Windows of their own: none of them is played on sockets."""
MET_FRACTION = 0.95
RATES_PER_S = (1.0, 40.0)
RATE_STEP = 1.03


@dataclass(frozen=True, slots=True)
class StepRun:
    """One run; `goodput` may be called in any process."""

    trace: Path
    fleet: str
    policy: Policy
    rate_per_s: float
    seconds: float
    warm_s: float
    seed: int = 0

    def goodput(self) -> float:
        """Share of requests that keep the SLO."""
        arrivals = window(read_trace(self.trace), self.rate_per_s, self.seconds, self.seed)
        return stage(FLEETS[self.fleet], self.policy, warm_s=self.warm_s).play(arrivals)

    def goodputs(self, pool: Executor) -> list[float]:
        """The same for each of `SEEDS`."""
        return list(pool.map(StepRun.goodput, [replace(self, seed=seed) for seed in SEEDS]))


def highest_rate(run: StepRun, pool: Executor) -> float:
    """The highest rate at which the mean goodput is at least `MET_FRACTION`, by bisection to within 3 %."""
    low, high = RATES_PER_S
    while high / low > RATE_STEP:
        middle = (low * high) ** 0.5
        good = statistics.mean(replace(run, rate_per_s=middle).goodputs(pool))
        low, high = (middle, high) if good >= MET_FRACTION else (low, middle)
    return round(low, 1)


def lines(run: StepRun, pool: Executor) -> dict[str, list[float]]:
    """Each policy's goodputs at one rate."""
    policies: Sequence[Policy] = get_args(Policy)
    return {policy: replace(run, policy=policy).goodputs(pool) for policy in policies}
