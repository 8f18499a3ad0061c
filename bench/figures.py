"""The arithmetic of the report: percentiles, medians with their spread, and ratios taken round by round.

A ratio is never one median over another. Each round measures everybody under the same conditions, so each round gives
one ratio, and the median of those is what is reported: a machine that slows down halfway slows both sides of it.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The median of some rounds with the least and the greatest of them."""

    median: float
    low: float
    high: float
    rounds: int


def percentile(values: Sequence[float], fraction: float) -> float:
    """The nearest-rank percentile: the least value that at least `fraction` (0..1) of all values do not exceed.

    Raises ValueError when there are no values or the fraction is outside 0..1.
    """
    if not values or not 0 <= fraction <= 1:
        raise ValueError(f"no percentile {fraction} of {len(values)} values")
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]


def spread(values: Sequence[float]) -> Spread | None:
    """Median, least and greatest; None when no round gave a value."""
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


def ratio_by_round(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Spread | None:
    """Ours over theirs in each round (the key) that has both, as a spread; a round with a zero peer gives none."""
    return spread([ours[key] / theirs[key] for key in sorted(ours.keys() & theirs.keys()) if theirs[key] > 0])


def difference_by_round(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Spread | None:
    """Ours less theirs in each round (the key) that has both, as a spread."""
    return spread([ours[key] - theirs[key] for key in sorted(ours.keys() & theirs.keys())])
