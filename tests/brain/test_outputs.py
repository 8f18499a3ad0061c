"""Expected lengths of answers: learned quantiles, capped by the client."""

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.outputs import (
    BUCKETS,
    GROWTH,
    HALF_LIFE,
    KEYS_LIMIT,
    PRIORS,
    Expected,
    Lengths,
    OutputLengths,
    bucket,
    kind_of,
)

LENGTHS = st.lists(st.integers(0, 100_000), min_size=1, max_size=300)


@given(LENGTHS, st.sampled_from([0.05, 0.5, 0.95, 1.0]))
def test_a_quantile_is_within_a_bucket(lengths: list[int], fraction: float) -> None:
    """Among equally old answers a quantile is the true one's bucket's upper edge."""
    sketch = Lengths()
    for tokens in lengths:
        sketch.counts[bucket(tokens)] += 1
    truth = sorted(lengths)[max(math.ceil(fraction * len(lengths)) - 1, 0)]
    found = sketch.quantile(fraction)
    assert max(truth, 1) <= found * (1 + 1e-9)
    assert found <= max(truth, 1) * GROWTH * (1 + 1e-9)


@given(LENGTHS)
def test_quantiles_are_in_order(lengths: list[int]) -> None:
    """With decay too, the median is not above the 95th percentile, and both are in the range of what came."""
    sketch = Lengths()
    for tokens in lengths:
        sketch.add(tokens)
    assert sketch.quantile(0.5) <= sketch.quantile(0.95) <= max(*lengths, 1) * GROWTH * (1 + 1e-9)
    assert sketch.quantile(0.5) >= min(lengths)


@given(st.floats(0, 1e300))
def test_every_length_has_a_bucket(tokens: float) -> None:
    """Also those that no model writes."""
    index = bucket(tokens)
    assert 0 <= index < BUCKETS
    if 1 <= tokens < 1e6:
        assert GROWTH**index <= tokens * (1 + 1e-6)
        assert tokens < GROWTH ** (index + 1) * (1 + 1e-6)


def test_half_life() -> None:
    """After `HALF_LIFE` further answers an answer counts half."""
    sketch = Lengths()
    sketch.add(10)
    for _ in range(HALF_LIFE):
        sketch.add(1000)
    assert sketch.weights()[bucket(10)] == pytest.approx(0.5, rel=0.01)


def test_weights_do_not_overflow() -> None:
    """Hundreds of thousands of answers later the sketch still works."""
    sketch = Lengths()
    for _ in range(100_000):
        sketch.add(100)
    assert sketch.quantile(0.5) == pytest.approx(100, rel=GROWTH - 1)
    assert max(sketch.counts) < 2.0**60
    # The sum of a geometric series with half-life H is H / ln 2.
    assert sum(sketch.weights()) == pytest.approx(HALF_LIFE / math.log(2), rel=0.01)


def test_an_empty_sketch() -> None:
    """Without answers there is no quantile."""
    assert Lengths().quantile(0.95) == 0


@pytest.mark.parametrize("api", PRIORS)
def test_priors(api: str) -> None:
    """Before any answer the quantiles are those of the table, within a bucket or two."""
    expected = OutputLengths().expect("t", "m", api, None, 1)
    assert expected.median == pytest.approx(PRIORS[api].median, rel=0.25)
    assert expected.high == pytest.approx(PRIORS[api].high, rel=0.45)


@pytest.mark.parametrize("api", ["embeddings", "rerank", "audio", "images", "claimed"])
def test_apis_without_output(api: str) -> None:
    """They write no tokens, and nothing is learned of them."""
    lengths = OutputLengths()
    lengths.learn("t", "m", api, 100, 1)
    assert lengths.expect("t", "m", api, 100, 1) == Expected(0, 0)
    assert repr(lengths) == "OutputLengths(0 keys)"


def test_the_clients_limit_caps() -> None:
    """No answer is expected to be longer than the client allows, and several add up."""
    lengths = OutputLengths()
    assert lengths.expect("t", "m", "chat", 16, 1) == Expected(16, 16)
    assert lengths.expect("t", "m", "chat", 16, 4) == Expected(64, 64)
    assert lengths.expect("t", "m", "chat", 0, 1) == Expected(0, 0)


def test_lengths_are_learned() -> None:
    """After some hundred answers of a log-normal length the quantiles are theirs."""
    lengths, rng = OutputLengths(), random.Random(5)
    for _ in range(1000):
        lengths.learn("t", "m", "chat", round(rng.lognormvariate(math.log(40), 0.5)), 1)
    expected = lengths.expect("t", "m", "chat", None, 1)
    assert expected.median == pytest.approx(40, rel=0.25)
    assert expected.high == pytest.approx(40 * math.exp(1.645 * 0.5), rel=0.3)


def test_efforts_are_learned_apart() -> None:
    """One not seen yet is expected to write what the model writes without; once seen, it has lengths of its own."""
    lengths = OutputLengths()
    for _ in range(200):
        lengths.learn("a", "m", "chat", 100, 1)
    high = kind_of("chat", "high")
    assert lengths.expect("a", "m", high, None, 1) == lengths.expect("a", "m", "chat", None, 1)
    for _ in range(200):
        lengths.learn("a", "m", high, 5000, 1)
    assert lengths.expect("a", "m", high, None, 1).median > 4000
    assert lengths.expect("a", "m", "chat", None, 1).median < 150
    assert OutputLengths.from_state(lengths.to_state()).expect("b", "m", high, None, 1).median > 4000


@pytest.mark.parametrize("effort", [None, "", "ultra", "high:low"])
def test_other_efforts_are_none(effort: str | None) -> None:
    """A client can't make keys of its own."""
    assert kind_of("chat", effort) == "chat"


def test_a_change_is_followed() -> None:
    """When answers become longer, so does what is expected, within a few half-lives."""
    lengths = OutputLengths()
    for tokens in (20, 2000):
        for _ in range(3 * HALF_LIFE):
            lengths.learn("t", "m", "chat", tokens, 1)
        assert lengths.expect("t", "m", "chat", None, 1).median == pytest.approx(tokens, rel=0.25)


def test_a_new_tenant_starts_from_the_model() -> None:
    """Another tenant's answers are a better guess than the prior; another model's are not."""
    lengths = OutputLengths()
    for _ in range(500):
        lengths.learn("t", "m", "chat", 5000, 1)
    assert lengths.expect("u", "m", "chat", None, 1).median == pytest.approx(5000, rel=0.25)
    assert lengths.expect("t", "n", "chat", None, 1).median < 500
    lengths.learn("u", "m", "chat", 10, 1)
    assert lengths.expect("u", "m", "chat", None, 1).median > 1000


def test_several_answers_teach_their_mean() -> None:
    """Four answers of together 400 tokens have 100 each."""
    lengths = OutputLengths()
    for _ in range(500):
        lengths.learn("t", "m", "chat", 400, 4)
    assert lengths.expect("t", "m", "chat", None, 1).median == pytest.approx(100, rel=0.25)


def test_memory_is_bounded() -> None:
    """The keys that were used longest ago are forgotten."""
    lengths = OutputLengths()
    for number in range(KEYS_LIMIT + 50):
        lengths.learn(f"tenant-{number}", "m", "chat", 100, 1)
    assert repr(lengths) == f"OutputLengths({KEYS_LIMIT} keys)"


def test_state_survives_a_restart() -> None:
    """What was learned is expected again after it was written as JSON and read."""
    lengths, rng = OutputLengths(), random.Random(6)
    for _ in range(2000):
        lengths.learn(rng.choice("tu"), rng.choice("mn"), "chat", int(rng.lognormvariate(5, 1)), 1)
    again = OutputLengths.from_state(json.loads(json.dumps(lengths.to_state())))
    assert again.to_state() == lengths.to_state()
    for tenant in "tuv":
        assert again.expect(tenant, "m", "chat", None, 1) == lengths.expect(tenant, "m", "chat", None, 1)


GOOD = ["t", "m", "chat", [[3, 1.5]]]


@pytest.mark.parametrize(
    "row",
    [
        None, [], ["t", "m", "chat", []], ["t", "m", "novel", [[3, 1.5]]], ["t", "m", "chat", [[BUCKETS, 1.0]]],
        ["t", "m", "chat", [[-1, 1.0]]], ["t", "m", "chat", [[1, -1.0]]], ["t", "m", "chat", [[1, float("nan")]]],
        ["t", "m", "chat", [[1, float("inf")]]], ["t", "m", "chat", [["1", 1.0]]], ["t", "m", "chat", [[1]]],
        ["t", "m", "chat", [[1, 10**400]]], ["t", 1, "chat", [[3, 1.5]]],
    ],
)  # fmt: skip
def test_broken_rows_are_left_out(row: object) -> None:
    """A damaged row costs what it held, not the start."""
    assert OutputLengths.from_state({"growth": GROWTH, "rows": [row, GOOD]}).to_state()["rows"] == [GOOD]


@pytest.mark.parametrize("state", [None, [], {}, {"growth": 2.0, "rows": [GOOD]}, {"growth": GROWTH, "rows": "x"}])
def test_foreign_states_are_left_out(state: Any) -> None:
    """A state of other buckets, or none, is a new start."""
    assert OutputLengths.from_state(state).to_state()["rows"] == []


@given(st.lists(st.tuples(st.integers(-10, 10**12), st.integers(-3, 100)), max_size=30))
def test_any_report_leaves_it_sane(reports: list[tuple[int, int]]) -> None:
    """Impossible numbers of tokens or answers change nothing for the worse."""
    lengths = OutputLengths()
    for tokens, answers in reports:
        lengths.learn("t", "m", "chat", tokens, answers)
    expected = lengths.expect("t", "m", "chat", None, 1)
    assert 0 < expected.median <= expected.high <= GROWTH**BUCKETS + 1
