"""Values are checked in one place: numbers, JSON text, strings at any depth."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.content_fields import DEPTH_LIMIT, effort, serialised, walk, whole
from gpubalancer.domain.errors import RequestError


@pytest.mark.parametrize(("value", "expected"), [(None, None), (1, 1), (7.0, 7), (9, 9)])
def test_whole_numbers(value: object, expected: int | None) -> None:
    """Whole numbers within the bounds, and nothing at all."""
    assert whole({"n": value}, "n", 1, 9) == expected


@pytest.mark.parametrize("value", [0, 10, 1.5, True, "1", [1], {}, float("inf"), float("nan"), 1e300])
def test_what_is_no_whole_number(value: object) -> None:
    """Everything else is refused, with the bounds in the sentence."""
    with pytest.raises(RequestError, match="n must be a whole number from 1 to 9") as caught:
        whole({"n": value}, "n", 1, 9)
    assert caught.value.param == "n"


def test_serialised_keeps_the_order() -> None:
    """Keys stay as they were given, and text stays text."""
    assert serialised({"b": "\u00e9", "a": [1]}, "tools") == '{"b":"\u00e9","a":[1]}'


@pytest.mark.parametrize("value", [2**70, {1, 2}, "\ud800"])
def test_what_is_not_json_is_refused(value: object) -> None:
    """Numbers beyond 64 bits and broken text are no JSON that an engine reads."""
    with pytest.raises(RequestError) as caught:
        serialised(value, "tools")
    assert caught.value.param == "tools"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"reasoning_effort": "low"}, "low"),
        ({"reasoning": {"effort": "high"}}, "high"),
        ({"reasoning": "fast"}, None),
        ({"reasoning": None}, None),
    ],
)
def test_effort(fields: dict[str, Any], expected: str | None) -> None:
    """Chat's field or that of Responses."""
    assert effort(fields) == expected


def test_an_effort_is_a_short_text() -> None:
    """A number or a novel is refused."""
    for value in (1, "x" * 1000):
        with pytest.raises(RequestError):
            effort({"reasoning_effort": value})


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=2), inner),
)


def collected(value: object) -> list[str]:
    """The strings of a value, by recursion."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in collected(each)]


@given(JSON)
def test_walk_finds_every_string_in_order(value: object) -> None:
    """As recursion would, without recursion."""
    found: list[str] = []
    walk(value, "x", found)
    assert found == collected(value)


def test_walk_stops_at_the_limit() -> None:
    """At the limit a value is read, one level deeper it is refused."""
    value: Any = "deep"
    for _ in range(DEPTH_LIMIT):
        value = [value]
    found: list[str] = []
    walk(value, "x", found)
    assert found == ["deep"]
    with pytest.raises(RequestError, match="levels deep"):
        walk([value], "x", found)
