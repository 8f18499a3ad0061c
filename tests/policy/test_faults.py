"""The lines that operators read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.policy.faults import Fault, PolicyError, dotted, shown
from gpubalancer.policy.findings import Path


def test_a_fault_is_one_line() -> None:
    """Where, what was found, what was expected."""
    fault = Fault("gpubalancer.yaml", 14, ("backends", 1, "slots"), '"many"', "a whole number of at least 1")
    assert fault.line() == (
        'gpubalancer.yaml:14: backends[1].slots: found "many", expected a whole number of at least 1'
    )


def test_a_fault_of_the_whole_file_has_no_path() -> None:
    """The file's name is enough."""
    assert Fault("p.yaml", 1, (), "nothing", "settings").line() == "p.yaml:1: found nothing, expected settings"


@given(st.text(), st.text(), st.text())
def test_no_text_breaks_the_line(file: str, key: str, found: str) -> None:
    """Whatever is in names and values, a fault stays on one line and can be printed."""
    line = Fault(file, 1, (key, 0), found, "x").line()
    assert line.isprintable()
    line.encode()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("listen",), "listen"),
        (("backends", 1, "slots"), "backends[1].slots"),
        (("models", "llama-3.1-8b", "aliases", 0), 'models["llama-3.1-8b"].aliases[0]'),
        (("models", "phi-3-mini"), "models.phi-3-mini"),
        (("a\nb",), '["a\\nb"]'),
    ],
)
def test_paths(path: Path, text: str) -> None:
    """Keys that are not plain words stand in quotes."""
    assert dotted(path) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nothing"),
        ("a\nb", '"a\\nb"'),
        ("x" * 100, '"' + "x" * 57 + '..."'),
        (True, "true"),
        (5, "5"),
        (0.5, "0.5"),
        ([], "an empty list"),
        ([1], "a list"),
        ({}, "an empty mapping"),
        ({"a": 1}, "a mapping"),
    ],
)
def test_values(value: object, text: str) -> None:
    """Lists and mappings are named, not printed."""
    assert shown(value) == text


def test_faults_are_told_in_the_order_of_lines() -> None:
    """However they were found."""
    error = PolicyError([Fault("p", 9, (), "b", "c"), Fault("p", 2, ("z",), "b", "c"), Fault("p", 2, ("a",), "b", "c")])
    assert [fault.line() for fault in error.faults] == str(error).splitlines()
    assert [(fault.line_number, fault.path) for fault in error.faults] == [(2, ("a",)), (2, ("z",)), (9, ())]
