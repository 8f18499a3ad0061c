"""The cost in seconds: each term by hand, the order of LMetric, and the same on numbers and on columns."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpubalancer.brain.columns import Economy, columns_of
from gpubalancer.brain.cost import Load, prefill_s, step_s, terms_of, weigh
from gpubalancer.policy.routing import Weights
from tests.brain.economies import ROWS, load, row

WEIGHTS = Weights()
ROUND = row(a0_s=0.1, a1_s=0.001, a2_s=1e-7, d0_s=0.01, d1_s=0.001, d2_s=1e-6, slots=10.0, net_s=0.02)


def test_the_two_curves() -> None:
    """Reading a prompt takes a0 + a1 x + a2 x^2, a step d0 + d1 B + d2 C."""
    assert prefill_s(ROUND, 1000.0) == pytest.approx(0.1 + 1.0 + 0.1)
    assert step_s(ROUND, 4.0, 5000.0) == pytest.approx(0.01 + 0.004 + 0.005)


def test_each_term() -> None:
    """The terms are those of the formula, and the total is their sum."""
    economy = row(
        a0_s=0.1, a1_s=0.001, a2_s=0.0, d0_s=0.01, d1_s=0.001, d2_s=1e-6, slots=10.0, net_s=0.02, usd_per_s=0.001,
        usd_per_prompt_token=1e-5, usd_per_cached_token=1e-6, usd_per_completion_token=2e-5, watts=500.0,
    )  # fmt: skip
    there = load(batch=4, queued_tokens=500, context_tokens=4000, cached_tokens=200, speed_fraction=0.5)
    weights = Weights(output=0.5, harm=2.0, seconds_per_usd=20.0, seconds_per_joule=0.001)
    weight = weigh(economy, there, 1000, 100, weights, -1.0)
    own_s, step, slower_s = 0.1 + 0.8, 0.01 + 0.005 + 0.005, 0.001 + 0.001
    used_s = (own_s + 100 * step / 5) / 0.5
    usd = 800e-5 + 200e-6 + 100 * 2e-5 + used_s * 0.001
    terms = terms_of(weight, economy, there, weights, -1.0)
    assert terms == pytest.approx(
        (
            0.02 / 0.5,
            (0.1 + 1.3) / 0.5,
            0.5 * 100 * step / 0.5,
            2.0 * (own_s * 4 / 10 + 100 * slower_s * 4) / 0.5,
            20 * usd,
            0.001 * 500 * used_s,
            -1.0,
        )
    )
    assert weight.total_s == pytest.approx(sum(terms))
    assert weight.usd == pytest.approx(usd)


def test_what_is_predicted() -> None:
    """TTFT counts the queue and the network, TPOT the prompts of those beside it; both divided by the speed."""
    there = load(batch=4, queued_tokens=500, context_tokens=4000, speed_fraction=0.5)
    weight = weigh(ROUND, there, 500, 100, WEIGHTS)
    assert weight.ttft_s == pytest.approx((0.02 + 0.1 + 1.0 + 0.1) / 0.5)
    assert weight.idle_ttft_s == pytest.approx((0.02 + 0.1 + 0.5 + 0.025) / 0.5)
    step, stopped_s = 0.01 + 0.005 + 0.0045, (4 * 0.1 + 4.0 + 0.1 + 0.5 + 0.025) / 100
    assert weight.tpot_s == pytest.approx((step + stopped_s) / 0.5)
    assert weight.idle_tpot_s == pytest.approx((0.01 + 0.001 + 0.0005) / 0.5)


def test_unknown_lengths() -> None:
    """A request of which no length is known costs its fixed parts."""
    assert weigh(ROUND, load(), 0, 0, WEIGHTS).total_s == pytest.approx(0.12)
    assert weigh(ROUND, load(cached_tokens=300), 0, 0, WEIGHTS).total_s == pytest.approx(0.12)


def test_a_busier_machine_is_cheaper_for_one_more() -> None:
    """A step is paid for by all who share it."""
    economy = row("h100", usd_per_s=1.0)
    alone, shared = (weigh(economy, load(batch=batch), 0, 100, WEIGHTS).usd for batch in (0.0, 9.0))
    assert shared < alone / 5


BATCHES = st.tuples(st.integers(0, 4000), st.integers(0, 63))


@given(st.lists(BATCHES, min_size=2, max_size=8), st.integers(1, 4000), st.floats(1e-5, 1e-2))
def test_with_identical_coefficients_the_order_is_that_of_lmetric(
    backends: list[tuple[int, int]], prompt_tokens: int, a1_s: float
) -> None:
    """The cost is a1 times uncached prefill times batch.

    With prefill in proportion to tokens, nothing queued, no prices, no weight on the output, and harm in full.
    """
    economy = row(a0_s=0.0, a1_s=a1_s, a2_s=0.0, slots=64.0)
    weights = Weights(output=0.0, harm=64.0, seconds_per_usd=0.0, seconds_per_joule=0.0)
    costs, products = [], []
    for cached, batch in backends:
        cached = min(cached, prompt_tokens)
        there = load(batch=float(batch), cached_tokens=float(cached))
        costs.append(weigh(economy, there, prompt_tokens, 0, weights).total_s)
        products.append((prompt_tokens - cached) * (batch + 1))
    for (cost, product), (other_cost, other_product) in combinations(zip(costs, products, strict=True), 2):
        assert (cost < other_cost) == (product < other_product) or cost == pytest.approx(other_cost, rel=1e-12)
    assert costs == pytest.approx([a1_s * product for product in products])


@given(ROWS, BATCHES, BATCHES, st.integers(0, 4000), st.integers(0, 500))
def test_more_prefill_and_more_batch_never_cost_less(
    economy: Economy[float], one: tuple[int, int], other: tuple[int, int], prompt_tokens: int, output_tokens: int
) -> None:
    """With any identical coefficients the cost agrees with LMetric wherever the two factors of that agree."""
    free = replace(economy, usd_per_s=0.0, usd_per_completion_token=0.0, watts=0.0)
    (prefill, batch), (more_prefill, more_batch) = np.sort([one, other], axis=0).tolist()
    costs = [
        weigh(free, load(batch=b, cached_tokens=max(prompt_tokens - p, 0.0)), prompt_tokens, output_tokens, WEIGHTS)
        for p, b in ((prefill, batch), (more_prefill, more_batch))
    ]
    assert costs[0].total_s <= costs[1].total_s * (1 + 1e-12)


LOADS = st.builds(
    Load,
    st.floats(0, 64),
    st.floats(0, 50_000),
    st.floats(0, 100_000),
    st.floats(0, 20_000),
    st.floats(0.05, 1.0),
)


@settings(max_examples=100)
@given(st.lists(st.tuples(ROWS, LOADS), min_size=1, max_size=6), st.integers(0, 20_000), st.integers(0, 1000))
def test_numbers_and_columns_agree(
    backends: list[tuple[Economy[float], Load[float]]], prompt: int, output: int
) -> None:
    """One backend at a time or all at once: the same costs, and the terms add up."""
    rows = [economy for economy, _ in backends]
    weights = Weights(seconds_per_joule=0.01)
    columns = Load(*(np.array(values) for values in zip(*(there for _, there in backends), strict=True)))
    together = weigh(columns_of(rows), columns, prompt, output, weights, -0.5)
    terms = terms_of(together, columns_of(rows), columns, weights, -0.5)
    assert np.sum(terms, axis=0) == pytest.approx(together.total_s)
    for index, (economy, there) in enumerate(backends):
        alone = weigh(economy, there, prompt, output, weights, -0.5)
        assert [column[index] for column in together] == pytest.approx(list(alone))
