"""The section `routing.rules`: its values, and what is no rule."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.domain.backend import Kind
from gpubalancer.policy.rules import Comparison, Rule, When, span


def when(**given: Any) -> When:
    """Read what a rule is for."""
    return When.model_validate(given)


@pytest.mark.parametrize(
    ("text", "within", "beyond"),
    [("< 2000", 1999, 2000), ("<=2k", 2000, 2001), ("> 2k", 2001, 2000), (">= 2000", 2000, 1999), ("= 5", 5, 6)],
)
def test_comparisons(text: str, within: int, beyond: int) -> None:
    """A bound holds on its own side, and is shown as it is written."""
    (bound,) = when(prompt_tokens=text).prompt_tokens or ()
    assert bound.holds(within)
    assert not bound.holds(beyond)
    assert when(prompt_tokens=str(bound)).prompt_tokens == (bound,)


@pytest.mark.parametrize("value", [2000, "2000", "~ 5", "< x", "< -1", "<", "", [2000]])
def test_what_is_no_comparison(value: object) -> None:
    """A bare number leaves open which side is meant."""
    with pytest.raises(ValueError, match="a comparison in quotes"):
        when(prompt_tokens=value)


def test_a_bound_is_shown_as_it_is_written() -> None:
    """For explanations."""
    assert str(Comparison("<=", 2000)) == "<= 2000"


_BOUNDS = st.lists(st.builds(Comparison, st.sampled_from(["<", "<=", "=", ">=", ">"]), st.integers(0, 8)))


@given(_BOUNDS, st.integers(0, 10))
def test_a_span_is_what_all_bounds_allow(bounds: list[Comparison], number: int) -> None:
    """A number lies within the span exactly if every bound holds."""
    low, high = span(bounds)
    assert (low <= number <= high) is all(bound.holds(number) for bound in bounds)


def test_without_bounds_every_number_is_allowed() -> None:
    """From zero to infinity."""
    assert span(()) == (0, math.inf)


def test_a_rule_takes_one_or_many() -> None:
    """A list may be one value without brackets."""
    rule = Rule.model_validate(
        {
            "name": "r",
            "when": {
                "api": "chat",
                "prompt_tokens": [">= 100", "< 2000"],
                "stream": False,
                "header": {"X-Team": "a*", "x-b": ["c", "d"]},
                "time": "22:00-06:00",
            },
            "require": {"kind": ["gpu", "cpu"]},
            "prefer": {"kind": "cpu"},
            "set": {"priority": "batch", "tier": "internal", "model": "m"},
        }
    )
    assert rule.when.api == ("chat",)
    assert [str(bound) for bound in rule.when.prompt_tokens or ()] == [">= 100", "< 2000"]
    assert rule.when.stream is False
    assert rule.when.header == {"X-Team": ("a*",), "x-b": ("c", "d")}
    assert [str(hours) for hours in rule.when.time or ()] == ["22:00-06:00"]
    assert rule.require is not None
    assert rule.require.kind == (Kind.GPU, Kind.CPU)
    assert rule.prefer is not None
    assert rule.prefer.worth_s == 1.0
    assert (rule.changes.priority, rule.changes.tier, rule.changes.model) == ("batch", "internal", "m")
    assert Rule.model_validate(rule.model_dump(mode="json", by_alias=True)) == rule


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"when": {"stream": "yes"}}, "true or false"),
        ({"when": {"stream": 1}}, "true or false"),
        ({"when": {"header": {"authorization": "x"}}}, "a header that holds no credential"),
        ({"when": {"header": {"Proxy-Authorization": "x"}}}, "a header that holds no credential"),
        ({"when": {"header": {"X-Api-Key": "x"}}}, "a header that holds no credential"),
        ({"when": {"header": {"api-key": "*"}}}, "a header that holds no credential"),
        ({"when": {"header": {"COOKIE": "*"}}}, "a header that holds no credential"),
        ({"when": {"header": {"x team": "a"}}}, "the name of a header"),
        ({"when": {"header": {"": "a"}}}, "the name of a header"),
        ({"when": {"header": {"x-team": ""}}}, "the value of a header"),
        ({"when": {"header": {"x-team": " a"}}}, "the value of a header"),
        ({"when": {"header": {"x-team": 5}}}, "put it in quotes"),
        ({"when": {"header": "x-team"}}, "valid dictionary"),
        ({"when": {"time": "8-18"}}, "a time of day"),
        ({"when": {"risk": "jailbreak"}}, "injection"),
        ({"prefer": {"kind": "cpu", "seconds": 0}}, "a number above 0"),
        ({"prefer": {"kind": "cpu", "seconds": "2s"}}, "a number above 0"),
        ({"require": {"kind": "cpu", "seconds": 1}}, "Extra inputs"),
        ({"require": {"kind": "tpu"}}, "Input should be"),
        ({"set": {"priority": "urgent"}}, "Input should be"),
        ({"set": {"tiers": "internal"}}, "Extra inputs"),
        ({"tier": "internal"}, "Extra inputs"),
        ({"deny_kinds": "cpu"}, "valid tuple"),
        ({"name": ""}, "a short text"),
    ],
)
def test_what_is_no_rule(settings: dict[str, object], expected: str) -> None:
    """Each of these is refused with what was expected."""
    with pytest.raises(ValueError, match=expected):
        Rule.model_validate({"name": "r"} | settings)
