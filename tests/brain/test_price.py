"""What a request is charged in money and energy."""

import numpy as np
import pytest

from gpubalancer.brain.columns import build_economy, row_of
from gpubalancer.brain.cost import Load, weigh
from gpubalancer.brain.fleet import build_fleet
from gpubalancer.brain.price import Rates, dearest, rates_of
from gpubalancer.brain.weighed import Forecast
from gpubalancer.policy.backends import Price
from gpubalancer.policy.schema import Policy

POLICY = Policy.model_validate(
    {
        "backends": [
            {
                "name": "gpu",
                "url": "http://127.0.0.1:1",
                "kind": "gpu",
                "hardware": "h100",
                "price": {"usd_per_hour": 3},
            },
            {
                "name": "cloud",
                "url": "http://127.0.0.1:2",
                "kind": "cloud",
                "price": {"usd_per_million_tokens": {"prompt": 1, "completion": 10}},
            },
        ]
    }
)
FLEET = build_fleet(POLICY, {"gpu": 0, "cloud": 1}, {})
ECONOMY = build_economy(POLICY, FLEET)


def forecast(output_tokens: int) -> Forecast:
    """Of a request that shares its machine with three."""
    load = Load(3.0, 0.0, 3000.0, 0.0, 1.0)
    return Forecast(0, load, weigh(row_of(ECONOMY, 0), load, 1000.0, float(output_tokens), POLICY.routing.weights))


def test_an_answer_of_the_expected_length_costs_what_was_expected() -> None:
    """Half of it costs less, and a longer one more, by the machine's time."""
    expected, price = forecast(200), POLICY.backends[0].price
    rates = rates_of(price, 700.0, expected, 200)
    assert rates.usd(1000, 0, 200) == pytest.approx(expected.weight.usd)
    assert rates.joules(200) == pytest.approx(700.0 * expected.weight.used_s)
    assert 0 < rates.usd(1000, 0, 100) < rates.usd(1000, 0, 200) < rates.usd(1000, 0, 400)
    assert rates.usd(0, 0, 1) - rates.usd(0, 0, 0) == pytest.approx(rates.token_usd)
    assert rates.joules(1) - rates.joules(0) == pytest.approx(rates.token_joules)


def test_without_a_forecast_only_tokens_cost() -> None:
    """How long the machine works is not known then."""
    price = Price.model_validate({"usd_per_hour": 3, "usd_per_million_tokens": {"prompt": 1, "completion": 10}})
    assert rates_of(price, 700.0, None, 200).usd(1000, 0, 100) == pytest.approx(0.002)
    assert rates_of(price, 700.0, None, 200).joules(100) == 0.0
    assert Rates(Price(), 0.0, 0.0, 0.0).usd(10, 0, 10) == 0.0


def test_the_dearest_that_a_request_may_go_to() -> None:
    """Tokens for the cloud, time for a machine that works for it alone; nothing where it may go nowhere."""
    usd, joules = dearest(ECONOMY, np.array([False, True]), 1000, 100)
    assert usd == pytest.approx(0.002)
    alone, watts_s = dearest(ECONOMY, np.array([True, False]), 1000, 200)
    assert alone > forecast(200).weight.usd
    assert watts_s >= joules == 0.0
    assert dearest(ECONOMY, np.array([True, True]), 1000, 100)[0] == max(
        usd, dearest(ECONOMY, np.array([True, False]), 1000, 100)[0]
    )
    assert dearest(ECONOMY, np.array([False, False]), 1000, 100) == (0.0, 0.0)
