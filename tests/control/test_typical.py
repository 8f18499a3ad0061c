"""What a typical request would cost on each backend."""

import numpy as np
import pytest
from hypothesis import given, settings

from gpubalancer.brain.cost import Terms, weigh
from gpubalancer.control.typical import OUTPUT_TOKENS, PROMPT_TOKENS, typical_costs
from tests.brain.economies import Case, cases, fleet, live, method, row


def test_the_slower_machine_costs_more() -> None:
    """Each backend has every term, and a CPU costs more than a GPU."""
    costs = typical_costs(fleet(2), method([row("h100"), row("cpu")]), live([0, 0]))
    assert list(costs) == ["b0", "b1"]
    assert set(costs["b0"]) == set(Terms._fields)
    assert sum(costs["b1"].values()) > 4 * sum(costs["b0"].values())


def test_a_throttled_backend_costs_more_at_once() -> None:
    """Half the clock is twice the cost."""
    costs = typical_costs(fleet(2), method([row("h100")] * 2), live([0, 0], speed_fraction=[1.0, 0.5]))
    assert sum(costs["b1"].values()) == pytest.approx(2 * sum(costs["b0"].values()))


@settings(max_examples=50)
@given(cases(most=24))
def test_the_terms_add_up_to_the_cost_of_a_decision(case: Case) -> None:
    """In any state of any fleet the sum is what `weigh` gives a request of that size; down or full changes nothing."""
    costs = typical_costs(case.fleet, case.method, case.live)
    load = case.live.load(slice(0, len(case.fleet)))
    total_s = weigh(case.method.economy, load, PROMPT_TOKENS, OUTPUT_TOKENS, case.method.weights).total_s
    np.testing.assert_allclose([sum(terms.values()) for terms in costs.values()], total_s, rtol=1e-4, atol=1e-4)
