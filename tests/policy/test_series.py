"""Series mapped by hand."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.policy.backends import Backend
from gpubalancer.policy.series import FIELDS, Mapped, parse_selector
from gpubalancer.telemetry.engines import TOLD


def mapped(series: object) -> dict[str, Mapped]:
    """The map of a backend."""
    settings = {"url": "http://127.0.0.1:8000", "telemetry": {"map": series}}
    return dict(Backend.model_validate(settings).telemetry.map)


@pytest.mark.parametrize(
    ("selector", "name", "labels"),
    [
        ("running", "running", ()),
        ("vllm:num_requests_running", "vllm:num_requests_running", ()),
        ('a{b="c"}', "a", (("b", "c"),)),
        ('a{b="c",d="e f"}', "a", (("b", "c"), ("d", "e f"))),
        ('a{b="c", d=""}', "a", (("b", "c"), ("d", ""))),
        ('a{b="c",}', "a", (("b", "c"),)),
    ],
)
def test_a_selector_is_a_name_and_labels(selector: str, name: str, labels: tuple[tuple[str, str], ...]) -> None:
    """The name and its labels are taken apart."""
    assert parse_selector(selector) == (name, labels)
    assert mapped({selector: "running"}) == {selector: Mapped("running")}


@pytest.mark.parametrize(
    "selector", ["", "1a", "a b", "a{", "a{}", "a{b}", 'a{b=~"c"}', "a{b='c'}", 'a{b="c"', "a" * 513, 5, None]
)
def test_a_wrong_selector_is_refused(selector: object) -> None:
    """What Prometheus would not take as a plain series is refused with an example."""
    with pytest.raises(ValueError, match=r"a series such as"):
        mapped({selector: "running"})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("waiting", Mapped("waiting")),
        ("kv_used_fraction * 0.01", Mapped("kv_used_fraction", 0.01)),
        ("power_watts*1e-3", Mapped("power_watts", 0.001)),
        ("kv_capacity_tokens * 16", Mapped("kv_capacity_tokens", 16.0)),
    ],
)
def test_a_field_may_have_a_factor(written: str, read: Mapped) -> None:
    """Percent, milliwatts and blocks come to our units by a factor."""
    assert mapped({"a": written}) == {"a": read}


@pytest.mark.parametrize(
    "written", ["", "speed", "running *", "running * 0", "running * -1", "running * nan", 5, None, {}]
)
def test_a_wrong_field_is_refused(written: object) -> None:
    """Other words and factors that would turn a number into nonsense are refused with the words there are."""
    with pytest.raises(ValueError, match="one of running, waiting"):
        mapped({"a": written})


def test_fields_are_those_that_telemetry_has() -> None:
    """Both layers, which may not know one another, name the same fields."""
    assert set(FIELDS) == set(TOLD)


@given(st.sampled_from(FIELDS), st.floats(1e-9, 1e9))
def test_what_is_written_is_read(field: str, scale: float) -> None:
    """A policy that was read and written out maps the same, to the last digit."""
    settings = {"url": "http://127.0.0.1:8000", "telemetry": {"map": {"a": f"{field} * {scale!r}"}}}
    before = Backend.model_validate(settings)
    again = Backend.model_validate(before.model_dump(mode="json", by_alias=True, exclude_unset=True))
    assert again.telemetry.map == before.telemetry.map == {"a": Mapped(field, scale)}


def test_a_mapped_record_has_two_parts() -> None:
    """A field and a factor, and no more to forget when it is written out."""
    assert [each.name for each in fields(Mapped)] == ["field", "scale"]


@given(st.text(max_size=20) | st.text('ab{}=",', max_size=20))
def test_any_text_is_a_selector_or_refused(text: str) -> None:
    """No text raises anything but ValueError."""
    try:
        name, _ = parse_selector(text)
    except ValueError:
        return
    assert text.startswith(name)
