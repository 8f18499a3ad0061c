"""The sections `routing` and `telemetry`."""

import pytest

from gpubalancer.domain.backend import Kind
from gpubalancer.policy.routing import Comparison, Routing, Rule, Telemetry, When


def test_defaults() -> None:
    """Nothing is held back, three backends are tried, time is what it costs."""
    routing = Routing()
    assert (routing.mode, routing.slo.ttft_s, routing.retries.attempts) == ("fast", None, 3)
    assert (routing.timeouts.connect_s, routing.timeouts.first_byte_s, routing.timeouts.between_bytes_s) == (
        5,
        600,
        300,
    )
    assert (Telemetry().probe_interval_s, Telemetry().interval_s) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("text", "within", "beyond"),
    [("< 2000", 1999, 2000), ("<=2k", 2000, 2001), ("> 2k", 2001, 2000), (">= 2000", 2000, 1999), ("= 5", 5, 6)],
)
def test_comparisons(text: str, within: int, beyond: int) -> None:
    """A bound holds on its own side."""
    bound = When.model_validate({"prompt_tokens": text}).prompt_tokens
    assert bound is not None
    assert bound.holds(within)
    assert not bound.holds(beyond)
    assert When.model_validate({"prompt_tokens": str(bound)}).prompt_tokens == bound


@pytest.mark.parametrize("value", [2000, "2000", "~ 5", "< x", "< -1", "<", "", None])
def test_what_is_no_comparison(value: object) -> None:
    """A bare number leaves open which side is meant."""
    if value is None:
        assert When.model_validate({"prompt_tokens": value}).prompt_tokens is None
        return
    with pytest.raises(ValueError, match="a comparison in quotes"):
        When.model_validate({"prompt_tokens": value})


def test_a_bound_is_shown_as_it_is_written() -> None:
    """For explanations."""
    assert str(Comparison("<=", 2000)) == "<= 2000"


def test_a_rule_takes_one_or_many() -> None:
    """A list may be one value without brackets."""
    rule = Rule.model_validate({"name": "r", "when": {"api": "chat"}, "require": {"kind": ["gpu", "cpu"]}})
    assert rule.when.api == ("chat",)
    assert rule.require is not None
    assert rule.require.kind == (Kind.GPU, Kind.CPU)


@pytest.mark.parametrize(
    "settings",
    [
        {"retries": {"attempts": 0}},
        {"retries": {"after_send": "sometimes"}},
        {"queue": {"timeout": "0s"}},
        {"slo": {"ttft": 2}},
        {"weights": {"harm": -1}},
        {"timeouts": {"connect": None, "conect": "5s"}},
        {"mode": "cheap"},
        {"rules": [{"when": {}}]},
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object]) -> None:
    """Each of these is a slip."""
    with pytest.raises(ValueError, match="validation error"):
        Routing.model_validate(settings)
