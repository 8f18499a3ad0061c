"""Looking for the least: lists and columns find the same."""

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.admission import Limits
from gpubalancer.brain.cost import Weight
from gpubalancer.brain.weighed import Few, Forecast, Many
from tests.brain.economies import load, row

EIGHTHS = st.integers(0, 40).map(lambda eighths: eighths / 8)
CANDIDATES = st.tuples(EIGHTHS, EIGHTHS, EIGHTHS, EIGHTHS, st.sampled_from((0.0, 0.0, 1.0, 2.0)), st.integers(0, 4))


def both(candidates: list[tuple[float, float, float, float, float, int]]) -> tuple[Few, Many]:
    """The same candidates in both forms; cost, TTFT, idle TTFT, TPOT, money, and how many of 4 slots are in use."""
    weights = [Weight(cost, ttft, idle, tpot, 0.5, usd, 0.0, 0.0, 0.0) for cost, ttft, idle, tpot, usd, _ in candidates]
    loads = [load(batch=float(ours)) for *_, ours in candidates]
    few = Few(
        list(range(len(candidates))),
        [row()] * len(candidates),
        loads,
        weights,
        [each.ttft_s for each in weights],
        [each.tpot_s for each in weights],
        [each.batch / 4 for each in loads],
    )
    many = Many(
        np.ones(len(candidates), np.bool_),
        np.array([each.total_s for each in weights]),
        np.array([each.ttft_s for each in weights]),
        np.array([each.tpot_s for each in weights]),
        np.array([each.usd for each in weights]),
        np.array([each.batch for each in loads]),
        np.array([each.batch / 4 for each in loads]),
        lambda: (np.array([each.idle_ttft_s for each in weights]), np.array([each.idle_tpot_s for each in weights])),
        lambda index: Forecast(index, loads[index], weights[index]),
    )
    return few, many


LIMITS = st.none() | st.builds(Limits, EIGHTHS, EIGHTHS)


@given(st.lists(CANDIDATES, min_size=1, max_size=9), LIMITS, st.booleans(), st.integers(0, 99))
def test_lists_and_columns_find_the_same(
    candidates: list[tuple[float, float, float, float, float, int]], limits: Limits | None, by_usd: bool, seed: int
) -> None:
    """With the same costs, limits and chance both forms pick the same, and it is free, in time and of least cost."""
    few, many = both(candidates)
    place = few.pick(limits, by_usd, Random(seed))
    assert many.pick(limits, by_usd, Random(seed)) == place
    assert few.pick_idle(Random(seed)) == many.pick_idle(Random(seed))
    assert few.idle_best() == many.idle_best()
    assert few.least_ttft_s() == many.least_ttft_s()
    fit = [
        index
        for index, (_, ttft, _, tpot, _, ours) in enumerate(candidates)
        if ours < 4 and (limits is None or (ttft <= limits.ttft_s and tpot <= limits.tpot_s))
    ]
    assert (place is None) == (not fit)
    if place is not None:
        costs_money = by_usd and any(candidates[index][4] for index in fit)
        costs = {index: candidates[index][4 if costs_money else 0] for index in fit}
        assert costs[place] <= min(costs.values()) * 1.03
        equals = [index for index in fit if costs[index] <= min(costs.values()) * 1.03]
        assert candidates[place][5] == min(candidates[index][5] for index in equals)


def test_idle_means_that_nobody_is_there() -> None:
    """Of the candidates without a request the cheapest is found; none is if all are busy."""
    few, many = both([(1.0, 0, 0, 0, 0.0, 1), (3.0, 0, 0, 0, 0.0, 0), (2.0, 0, 0, 0, 0.0, 0)])
    assert (few.pick_idle(Random(1)), many.pick_idle(Random(1))) == (2, 2)
    few, many = both([(1.0, 0, 0, 0, 0.0, 1)])
    assert (few.pick_idle(Random(1)), many.pick_idle(Random(1))) == (None, None)
