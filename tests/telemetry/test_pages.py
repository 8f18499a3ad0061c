"""Prometheus text as servers really send it, and as they should not."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from gpubalancer.telemetry.pages import LINE_BYTES, PAGE_BYTES, SERIES_LIMIT, Page, labels_of, parse

from .fixtures import engine_page


def value(line: bytes, name: str = "a") -> list[float]:
    """The values of a name on a page of one line."""
    return [number for _, number in parse(line + b"\n", [name]).get(name, [])]


@pytest.mark.parametrize(
    ("line", "values"),
    [
        (b"a 1", [1.0]),
        (b"a{} 1", [1.0]),
        (b"a\t1", [1.0]),
        (b"a  1  ", [1.0]),
        (b"a 1\r", [1.0]),
        (b"a 1.5e-3", [0.0015]),
        (b"a -2", [-2.0]),
        (b"a +Inf", [math.inf]),
        (b"a -Inf", [-math.inf]),
        (b"a 1 1395066363000", [1.0]),
        (b'a{b="c"} 1 1395066363', [1.0]),
        (b'a{b="c"} 1 # {trace_id="x"} 0.67 1520879607.789', [1.0]),
        (b'a{b="c",} 1', [1.0]),
        (b'a{b="}"} 1', [1.0]),
        (b'a{b="\\"} 2"} 1', [1.0]),
        (b'a{b="c"}1', []),
        (b"a{b=c 1", []),
        (b'a{b="c} 1', []),
        (b"a", []),
        (b"a ", []),
        (b"a x", []),
        (b"a 1_000", []),
        (b"ab 1", []),
        (b"a_total 1", []),
        (b"# a 1", []),
        (b"# TYPE a gauge", []),
        (b"", []),
    ],
)
def test_a_line_is_a_sample_or_left_out(line: bytes, values: list[float]) -> None:
    """Timestamps, exemplars, comments and odd spacing are passed over; what is no sample of the name is not one."""
    assert value(line) == values


def test_nan_is_a_value() -> None:
    """NaN is what the page said, so it is told."""
    assert [math.isnan(number) for number in value(b"a NaN")] == [True]


def test_labels_are_unescaped() -> None:
    """The three escapes of the format are undone, and a brace or comma inside quotes ends nothing."""
    page = b'a{x="q\\"\\\\\\n",y="},{", z = "\xc3\xa9"} 3\n'
    assert parse(page, ["a"]) == {"a": [({"x": 'q"\\\n', "y": "},{", "z": "é"}, 3.0)]}


def test_bytes_that_are_no_text_do_no_harm() -> None:
    """A label that is not UTF-8 is shown with marks in place of its bytes."""
    assert labels_of(b'x="\xff"') == {"x": "\N{REPLACEMENT CHARACTER}"}


def test_a_series_that_comes_twice_counts_once() -> None:
    """Of the same name and labels the last counts; other labels are another series."""
    page = b'a{x="1"} 1\nb 5\na{x="2"} 2\na{x="1"} 3\n'
    assert parse(page, ["a", "c"]) == {"a": [({"x": "1"}, 3.0), ({"x": "2"}, 2.0)]}


def test_a_cut_page_is_believed_up_to_the_cut() -> None:
    """A last line without its end may be half a number: 12 of 123 would be a lie."""
    assert parse(b"a 123\nb 12", ["a", "b"]) == {"a": [({}, 123.0)]}


def test_a_longer_page_is_read_up_to_the_limit() -> None:
    """What stands beyond the limit is not there, and nothing half is read at it."""
    page = b"a 1\n" + b"#" * (PAGE_BYTES - 10) + b"\nb 22222222\nc 3\n"
    assert set(parse(page, ["a", "b", "c"])) == {"a"}


def test_endless_lines_and_endless_series_are_left_out() -> None:
    """Neither one line nor one name can make us remember megabytes."""
    long = b'a{x="' + b"y" * LINE_BYTES + b'"} 1\n'
    many = b"".join(b'b{x="%d"} 1\n' % number for number in range(SERIES_LIMIT + 10))
    found = parse(long + many, ["a", "b"])
    assert "a" not in found
    assert len(found["b"]) == SERIES_LIMIT


@pytest.mark.parametrize("part", [b'a{x="', b'a{x="\\', b"a{,", b'a{x="y",', b"a {", b'a{""'])
def test_no_line_takes_long(part: bytes) -> None:
    """A line made to trip the pattern costs no more than its length: 4 MB of them are read in a moment."""
    line = part + part[1:] * (LINE_BYTES // len(part) - 2) + b"\n"
    began_s = time.process_time()
    parse(line * (PAGE_BYTES // len(line)), ["a"])
    assert time.process_time() - began_s < 5.0


def test_a_captured_page_is_read() -> None:
    """Of vLLM's page a name is found that is the beginning of another, and labels of a long description."""
    page = Page(engine_page("vllm-0.32.0"))
    assert page.samples("vllm:num_requests_waiting") == [({"engine": "0", "model_name": "tiny"}, 8.0)]
    assert page.samples("vllm:cache_config_info")[0][0]["num_gpu_blocks"] == "4096"
    assert page.samples("vllm:num_requests") == []
    assert page.has(b"vllm:")
    assert not page.has(b"num_requests")


NAMES = st.sampled_from(["a", "ab", "a:b", "a_total"])
TEXTS = st.text(max_size=8)


@given(st.dictionaries(TEXTS, st.floats(), max_size=5), NAMES)
def test_what_prometheus_own_library_writes_is_read(values: dict[str, float], name: str) -> None:
    """Any label and any number come back as they were."""
    registry = CollectorRegistry()
    gauge = Gauge(name, "help\nof it", ["x"], registry=registry)
    for label, number in values.items():
        gauge.labels(label).set(number)
    found = {labels["x"]: number for labels, number in parse(generate_latest(registry), [name]).get(name, [])}
    assert found.keys() == values.keys()
    assert all(found[key] == number or math.isnan(number) for key, number in values.items())


@given(st.binary(max_size=200) | st.text('a{}="\\\n #1.e', max_size=60).map(str.encode))
def test_no_bytes_whatever_raise(page: bytes) -> None:
    """Anything is a page: the samples found have the name asked for and are numbers."""
    for samples in parse(page, ["a"]).values():
        assert all(isinstance(number, float) for _, number in samples)


@given(st.integers(0, 4000))
def test_a_real_page_cut_anywhere_tells_nothing_new(length: int) -> None:
    """Whatever a cut page tells, the whole page tells too."""
    whole = engine_page("vllm-0.32.0")
    names = ["vllm:num_requests_running", "vllm:prefix_cache_queries_total", "vllm:cache_config_info"]
    full = parse(whole, names)
    assert all(samples == full[name] for name, samples in parse(whole[:length], names).items())
