"""The choice of a backend: hard constraints, then the least cost, ties at random.

The cost is for now the share of a backend's slots in use. It is a vector over the fleet like every term to come, and
nothing else here changes when terms are added.
"""

from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from gpubalancer.brain.fleet import Flags, Fleet
from gpubalancer.domain.decision import Decision, Reason
from gpubalancer.domain.work import Work


@dataclass(frozen=True, slots=True)
class Live:
    """The state of the fleet at this instant; shape (backends,) each."""

    up: Flags
    draining: Flags
    in_flight: NDArray[np.int32]


def choose(fleet: Fleet, work: Work, live: Live, tried: Flags | None, random: Random) -> Decision:
    """Choose a backend.

    Arguments:
        fleet: what the policy fixes.
        work: the request.
        live: what is so now.
        tried: backends that have failed this request, None before the first try.
        random: decides ties.

    Returns:
        The index of a backend that fulfils every constraint at the least cost; else the reasons.
    """
    fit = fleet.eligible(work) & live.up & ~live.draining & (live.in_flight < fleet.slots)
    if tried is not None:
        fit &= ~tried
    indices = fit.nonzero()[0]
    if not indices.size:
        return Decision(None, tuple(explain(fleet, work, live, tried)))
    if indices.size == 1:
        return Decision(int(indices[0]))
    cost = live.in_flight[indices] / fleet.slots[indices]
    ties = (cost == cost[cost.argmin()]).nonzero()[0]
    return Decision(int(indices[ties[random.randrange(ties.size)] if ties.size > 1 else ties[0]]))


def explain(fleet: Fleet, work: Work, live: Live, tried: Flags | None) -> list[Reason | None]:
    """For each backend, the first constraint that drops it."""
    reasons = fleet.ineligible(work)
    later: tuple[tuple[Reason, Flags], ...] = (
        ("down", ~live.up),
        ("draining", live.draining),
        ("tried", tried if tried is not None else np.zeros(len(fleet), dtype=np.bool_)),
        ("slots", live.in_flight >= fleet.slots),
    )
    for reason, holds in later:
        for index in holds.nonzero()[0]:
            reasons[index] = reasons[index] or reason
    return reasons
