"""The backends that may serve a request now or soon, with what it would cost on each.

Two forms, which give the same answers. `Few` holds plain numbers for each backend: up to about 16 backends Python's own
arithmetic is quicker than numpy's calls are. `Many` holds columns. The formulas are those of `cost` in both; what is
written twice is only how to look for the least.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple, Protocol

from gpubalancer.brain.admission import Limits
from gpubalancer.brain.columns import Column, Economy
from gpubalancer.brain.cost import Load, Weight
from gpubalancer.brain.fleet import Flags

NEAR_FRACTION = 0.03
"""Costs this close are equal: predictions are not better than that."""
IDLE_BATCH = 0.5
"""Fewer requests than this are none: what is believed of other clients fades, and never quite to 0."""


class Forecast(NamedTuple):
    """What to expect of a request on one backend.

    Attributes:
        backend: its index.
        load: what it has now.
        weight: cost and predictions.
    """

    backend: int
    load: Load[float]
    weight: Weight[float]


class Weighed(Protocol):
    """Candidates and their costs."""

    def idle_best(self) -> tuple[float, float]:
        """The least TTFT and TPOT that any candidate would give if it were idle."""

    def least_ttft_s(self) -> float:
        """The least TTFT predicted now."""

    def forecast(self, place: int) -> Forecast:
        """What to expect of a candidate."""

    def pick(self, limits: Limits | None, by_usd: bool, random: Random) -> int | None:
        """The place of the best candidate with a free slot that keeps the limits; None if there is none.

        Arguments:
            limits: None for any.
            by_usd: the least money, where anything costs money, instead of the least cost in seconds.
            random: decides between equals.
        """

    def pick_idle(self, random: Random) -> int | None:
        """The place of the candidate of least cost among those that nobody uses; None if there is none."""


class Few(NamedTuple):
    """Candidates one by one; all lists are parallel, and a place is a position in them.

    Attributes:
        indices: in the fleet.
        economies, loads, weights: what each is and has, and what the request would cost there.
        ttft_s, tpot_s: predictions times the backend's own ratio.
        shares: of its slots, how many we use.
    """

    indices: list[int]
    economies: list[Economy[float]]
    loads: list[Load[float]]
    weights: list[Weight[float]]
    ttft_s: list[float]
    tpot_s: list[float]
    shares: list[float]

    def idle_best(self) -> tuple[float, float]:  # noqa: D102 (as in Weighed, also below)
        pairs = list(zip(self.weights, self.economies, strict=True))
        ttft_s = min(weight.idle_ttft_s * economy.ttft_ratio for weight, economy in pairs)
        return ttft_s, min(weight.idle_tpot_s * economy.tpot_ratio for weight, economy in pairs)

    def least_ttft_s(self) -> float:  # noqa: D102
        return min(self.ttft_s)

    def forecast(self, place: int) -> Forecast:  # noqa: D102
        return Forecast(self.indices[place], self.loads[place], self.weights[place])

    def pick(self, limits: Limits | None, by_usd: bool, random: Random) -> int | None:  # noqa: D102
        if limits is None:
            fit = [place for place, share in enumerate(self.shares) if share < 1.0]
        else:
            most_ttft_s, most_tpot_s = limits
            columns = zip(self.shares, self.ttft_s, self.tpot_s, strict=True)
            fit = [
                place
                for place, (share, ttft_s, tpot_s) in enumerate(columns)
                if share < 1.0 and ttft_s <= most_ttft_s and tpot_s <= most_tpot_s
            ]
        return self._least(fit, by_usd, random)

    def pick_idle(self, random: Random) -> int | None:  # noqa: D102
        columns = zip(self.shares, self.loads, strict=True)
        idle = [place for place, (share, load) in enumerate(columns) if share < 1.0 and load.batch < IDLE_BATCH]
        return self._least(idle, False, random)

    def _least(self, places: Sequence[int], by_usd: bool, random: Random) -> int | None:
        if len(places) < 2:
            return places[0] if places else None
        weights = self.weights
        costs = [weights[place].usd for place in places] if by_usd else []
        if not any(costs):
            costs = [weights[place].total_s for place in places]
        least = min(costs)
        bound = least + NEAR_FRACTION * abs(least)
        near = [place for place, cost in zip(places, costs, strict=True) if cost <= bound]
        if len(near) > 1:
            shares = self.shares
            fewest = min([shares[place] for place in near])
            near = [place for place in near if shares[place] == fewest]
        return near[random.randrange(len(near))] if len(near) > 1 else near[0]


@dataclass(frozen=True, slots=True)
class Many:
    """All backends as columns, shape (backends,) each; a place is an index. The fields are those of `Few`.

    Attributes:
        candidates: which backends are.
        usd: only where money decides.
        find_idle: gives TTFT and TPOT of each if it were idle, times its ratios; infinity where it is no candidate.
        weigh_one: gives `forecast`.
    """

    candidates: Flags
    total_s: Column
    ttft_s: Column
    tpot_s: Column
    usd: Column | None
    batches: Column
    shares: Column
    find_idle: Callable[[], tuple[Column, Column]]
    weigh_one: Callable[[int], Forecast]

    def idle_best(self) -> tuple[float, float]:  # noqa: D102
        ttft_s, tpot_s = self.find_idle()
        return float(ttft_s.min()), float(tpot_s.min())

    def forecast(self, place: int) -> Forecast:  # noqa: D102
        return self.weigh_one(place)

    def least_ttft_s(self) -> float:  # noqa: D102
        return float(self.ttft_s[self.candidates].min())

    def pick(self, limits: Limits | None, by_usd: bool, random: Random) -> int | None:  # noqa: D102
        fit = self.candidates & (self.shares < 1.0)
        if limits is not None:
            fit &= (self.ttft_s <= limits.ttft_s) & (self.tpot_s <= limits.tpot_s)
        return self._least(fit, by_usd, random)

    def pick_idle(self, random: Random) -> int | None:  # noqa: D102
        return self._least(self.candidates & (self.shares < 1.0) & (self.batches < IDLE_BATCH), False, random)

    def _least(self, fit: Flags, by_usd: bool, random: Random) -> int | None:
        places = fit.nonzero()[0]
        if places.size < 2:
            return int(places[0]) if places.size else None
        costs = self.usd[places] if by_usd and self.usd is not None else self.total_s[places]
        if by_usd and not costs.any():
            costs = self.total_s[places]
        least = float(costs.min())
        near = places[costs <= least + NEAR_FRACTION * abs(least)]
        if near.size > 1:
            shares = self.shares[near]
            near = near[shares == shares.min()]
        return int(near[random.randrange(near.size)] if near.size > 1 else near[0])
