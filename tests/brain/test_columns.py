"""Speed, prices and power as columns."""

import numpy as np
import pytest

from gpubalancer.brain.columns import Measured, build_economy, columns_of, equals, measured, parts_of, row_of, rows_of
from gpubalancer.brain.fleet import Discovery, build_fleet
from gpubalancer.brain.priors import CLASSES, CPU, UNKNOWN, Coefficients
from tests.brain import policies
from tests.brain.economies import row

TEXT = """
backends:
  - {name: a, url: "http://127.0.0.1:1", kind: gpu, hardware: h100, slots: 8, models: [m], price: {usd_per_hour: 3.60}}
  - {name: b, url: "http://127.0.0.1:2", models: [m],
     price: {usd_per_million_tokens: {prompt: 0.5, completion: 2, cached: 0.1}}}
  - {name: c, url: "http://127.0.0.1:3", models: [m], price: {usd_per_million_tokens: {prompt: 0.5}}}
"""


def test_the_policy_gives_class_and_prices() -> None:
    """Hardware gives the curves, prices come by second and by token, and cached tokens cost as others if unpriced."""
    policy = policies.policy(TEXT)
    fleet = build_fleet(policy, {"a": 0, "b": 1, "c": 2}, {"b": Discovery(kind="cpu")})
    a, b, c = rows_of(build_economy(policy, fleet))
    assert (a.a1_s, a.d2_s, a.watts, a.slots) == (CLASSES["h100"].curves.a1_s, CLASSES["h100"].curves.d2_s, 700.0, 8.0)
    assert a.usd_per_s == pytest.approx(0.001)
    assert (b.a1_s, c.a1_s) == (CPU.curves.a1_s, UNKNOWN.curves.a1_s)
    prices = (b.usd_per_prompt_token, b.usd_per_cached_token, b.usd_per_completion_token)
    assert prices == pytest.approx((0.5e-6, 0.1e-6, 2e-6))
    assert c.usd_per_cached_token == c.usd_per_prompt_token == pytest.approx(0.5e-6)


def test_rows_columns_and_parts_hold_the_same() -> None:
    """There and back, whole, one by one and in parts."""
    rows = [row("h100"), row("cpu", usd_per_s=1.0), row(None, slots=3.0)]
    economy = columns_of(rows)
    assert rows_of(economy) == tuple(rows)
    assert [row_of(economy, index) for index in range(3)] == rows
    (first, two), (second, one) = parts_of(economy, 2)
    assert (first, second) == (slice(0, 2), slice(2, 3))
    assert [two.slots, one.slots] == [64.0, 3.0]
    assert two.a1_s.dtype == np.float32
    assert two.a1_s.tolist() == pytest.approx([rows[0].a1_s, rows[1].a1_s])


def test_columns_are_read_only() -> None:
    """A decision can't change what others decide by."""
    with pytest.raises(ValueError, match="read-only"):
        columns_of([row()]).a0_s[0] = 1.0


def test_what_was_learned_replaces_what_was_assumed() -> None:
    """Curves and ratios of the measured backend change, nothing else does, and the columns before stay."""
    before = columns_of([row("h100"), row("h100")])
    curves = Coefficients(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    after = rows_of(measured(before, {1: Measured(curves, 1.5, 2.5)}))
    assert after[0] == rows_of(before)[0] == row("h100")
    assert (after[1].a0_s, after[1].d2_s, after[1].ttft_ratio, after[1].tpot_ratio) == (1.0, 6.0, 1.5, 2.5)
    assert after[1].slots == 64.0


def test_equals() -> None:
    """Of a fleet without a word on hardware only slots differ."""
    made = rows_of(equals(policies.fleet()))
    assert [each.slots for each in made] == [8.0, 4.0, 2.0]
    assert len({each.a1_s for each in made}) == 1
