"""What an answer is charged: every engine's shape, and reports that lie."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.proxy.usage import MOST_TOKENS, TAIL_BYTES, Charge, Doubt, Known, Report, charge, read_report

KNOWN = Known(prompt_tokens=100, completion_tokens=10, streamed=True)
WHOLE = Known(prompt_tokens=100, completion_tokens=10, streamed=False)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}, (9, 0, 3)),
        ({"input_tokens": 9, "output_tokens": 3}, (9, 0, 3)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 8}}, (9, 8, None)),
        ({"input_tokens": 9, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 1}, (9, 8, 1)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": None}, (9, 0, 1)),
        ({"prompt_tokens": 9, "prompt_tokens_details": [1]}, (9, 0, None)),
        (
            {"input_tokens": 5, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 7, "output_tokens": 2},
            (102, 90, 2),
        ),
        ({"input_tokens": 5, "cache_read_input_tokens": None, "output_tokens": 2}, (5, 0, 2)),
        ({}, (None, 0, None)),
    ],
)
@pytest.mark.parametrize("wrapped", ['{"usage": %s}', 'data: {"choices":[],"usage":%s}\n\ndata: [DONE]\n\n'])
def test_usage(usage: dict[str, object], expected: tuple[int | None, int, int | None], wrapped: str) -> None:
    """OpenAI's and Anthropic's objects are read, in a whole answer and in a stream."""
    report = read_report((wrapped % json.dumps(usage)).encode())
    assert report is not None
    assert (report.prompt_tokens, report.cached_tokens, report.completion_tokens) == expected
    assert not report.doubts


def test_reasoning_is_told_apart() -> None:
    """Hidden reasoning is part of the completion."""
    usage = {"prompt_tokens": 1, "completion_tokens": 900, "completion_tokens_details": {"reasoning_tokens": 890}}
    assert read_report(json.dumps({"usage": usage}).encode()) == Report(1, 0, 900, 890)


def test_ollamas_last_line() -> None:
    """Ollama counts at the top of its last line."""
    line = b'{"model":"m","response":"","done":true,"context":[1,2],"prompt_eval_count":26,"eval_count":298}\n'
    assert read_report(line) == Report(26, 0, 298)
    assert read_report(b'{"done":true,"eval_count":298}\n') == Report(None, 0, 298)


def test_llama_cpps_timings() -> None:
    """llama.cpp's timings count where there is no usage; the cache's part is beside the rest of the prompt."""
    timings = b'"timings":{"cache_n":20,"prompt_n":6,"prompt_ms":1.5,"predicted_n":35,"predicted_ms":9.1}'
    assert read_report(b"data: {" + timings + b"}\n\ndata: [DONE]\n\n") == Report(26, 20, 35, tells_cached=True)
    usage = b'"usage":{"prompt_tokens":26,"completion_tokens":35},'
    assert read_report(b"data: {" + usage + timings + b"}\n\n") == Report(26, 0, 35)


def test_the_last_usage_of_several_counts() -> None:
    """Engines that report as they go report the whole in the end; one that is null is none."""
    data = b'{"usage": {"prompt_tokens": 1}} {"usage":{"prompt_tokens":2}} {"usage":null}'
    assert read_report(data) == Report(2)


@pytest.mark.parametrize(
    ("usage", "doubts"),
    [
        ('{"prompt_tokens": -1, "completion_tokens": 3}', {"negative"}),
        ('{"prompt_tokens": "9", "completion_tokens": 3}', {"missing"}),
        ('{"prompt_tokens": true, "completion_tokens": 1.5}', {"missing"}),
        ('{"prompt_tokens": {}, "completion_tokens": -3}', {"missing", "negative"}),
    ],
)
def test_what_is_no_number_is_doubted(usage: str, doubts: set[str]) -> None:
    """A number that is none is not read, and its doubt is kept."""
    report = read_report(b'{"usage": %b}' % usage.encode())
    assert report is not None
    assert report.doubts == doubts
    assert report.prompt_tokens is None


@pytest.mark.parametrize(
    "tail",
    [b"", b'{"usage": null}', b'"usage": {"prompt_tokens": 1', b'{"usage": [1]}', b"usage: {}", b'"usage": {\xff}'],
)
def test_no_usage(tail: bytes) -> None:
    """Without an object that is whole there is no report."""
    assert read_report(tail) is None


def test_deep_nesting_is_no_usage() -> None:
    """A backend can't exhaust our stack with brackets."""
    assert read_report(b'"usage": {"a":' + b"[" * 4000) is None


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.binary(max_size=50))
def test_a_cut_before_usage_does_not_matter(prompt: int, completion: int, before: bytes) -> None:
    """The tail may begin anywhere, in the middle of a character too."""
    usage = json.dumps({"prompt_tokens": prompt, "completion_tokens": completion}).encode()
    tail = (before.replace(b'"', b"") + b'"usage":' + usage + b"}")[-TAIL_BYTES:]
    assert read_report(tail) == Report(prompt, 0, completion)


@given(st.binary(max_size=80), st.sampled_from([b"", b'"usage": ', b'"usage":{', b'{"timings": {"prompt_n":']))
def test_no_tail_raises(noise: bytes, start: bytes) -> None:
    """Whatever stands in the end of an answer, reading it raises nothing."""
    read_report(start + noise)


def test_a_true_report_is_charged() -> None:
    """What fits is the fact."""
    assert charge([Report(110, 60, 12)], KNOWN) == Charge(110, 60, 12, "reported")


def test_anthropics_two_parts_are_one_report() -> None:
    """The prompt of the first event and the output of the last make one usage without a doubt."""
    assert charge([Report(102, 90, 1), Report(None, 0, 15)], KNOWN) == Charge(102, 90, 15, "reported")


@pytest.mark.parametrize(("known", "source"), [(KNOWN, "counted"), (WHOLE, "estimated")])
def test_an_answer_without_a_report(known: Known, source: str) -> None:
    """A stream without usage costs what was counted, a whole answer what its bytes tell: never nothing."""
    assert charge([], known) == Charge(100, 0, 10, source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reports", "expected", "doubts"),
    [
        ([Report(None, 0, 12)], (100, 0, 12), ("missing",)),
        ([Report(0, 0, 12)], (100, 0, 12), ("missing",)),
        ([Report(110)], (110, 0, 10), ("missing",)),
        ([Report(doubts=frozenset({"negative"}))], (100, 0, 10), ("missing", "negative")),
        ([Report(10**9, 0, 12)], (101_000, 0, 12), ("huge",)),
        ([Report(110, 111, 12)], (110, 110, 12), ("huge",)),
        ([Report(110, 0, 10**9)], (110, 0, 2_000), ("differs", "huge")),
        ([Report(110, 0, 2_001)], (110, 0, 2_000), ("differs",)),
        ([Report(110, 0, 2)], (110, 0, 10), ("differs",)),
        ([Report(110, 0, 0)], (110, 0, 10), ("differs",)),
        ([Report(110, 0, 12), Report(110, 0, 3)], (110, 0, 12), ("fell",)),
        ([Report(110, 0, 12), Report(1, 0, 12)], (110, 0, 12), ("fell",)),
    ],
)
def test_usage_that_lies(reports: list[Report], expected: tuple[int, int, int], doubts: tuple[Doubt, ...]) -> None:
    """Missing, negative, huge, given twice, or unlike the stream: charged by the rule, and never as reported."""
    charged = charge(reports, KNOWN)
    assert (charged.prompt_tokens, charged.cached_tokens, charged.completion_tokens) == expected
    assert charged.doubts == doubts
    assert charged.source != "reported"


def test_the_clients_own_limit_bounds_an_answer() -> None:
    """An engine can't have written more than it was allowed to."""
    known = Known(prompt_tokens=100, completion_tokens=10, streamed=False, most_completion_tokens=64)
    assert charge([Report(110, 0, 64)], known).source == "reported"
    assert charge([Report(110, 0, 65)], known) == Charge(110, 0, 64, "estimated", ("huge",))


def test_what_the_model_can_hold_bounds_a_prompt() -> None:
    """Where it is known, the context is the bound, and the estimate is none."""
    known = Known(prompt_tokens=1, completion_tokens=0, streamed=False, most_prompt_tokens=131_072)
    assert charge([Report(131_072, 0, 0)], known).source == "reported"
    assert charge([Report(131_073, 0, 0)], known).prompt_tokens == 131_072


def test_hidden_reasoning_is_no_lie() -> None:
    """An engine that hides its reasoning says how much, and is believed up to the client's limit."""
    assert charge([Report(110, 0, 50_000, 49_990)], KNOWN) == Charge(110, 0, 50_000, "reported")
    assert charge([Report(110, 0, 50_000, 10**9)], KNOWN).completion_tokens == 50_000


def test_an_embedding_writes_nothing() -> None:
    """Without an answer's number nothing is missing."""
    known = Known(prompt_tokens=7, completion_tokens=0, streamed=False, generates=False)
    assert charge([Report(8)], known) == Charge(8, 0, 0, "reported")
    assert charge([], known) == Charge(7, 0, 0, "estimated")


NUMBERS = st.none() | st.integers(0, 10**12)
REPORTS = st.builds(Report, NUMBERS, st.integers(0, 10**12), NUMBERS, st.integers(0, 10**12))


@given(
    st.lists(REPORTS, max_size=2),
    st.builds(
        Known,
        prompt_tokens=st.integers(0, 10**6),
        completion_tokens=st.integers(0, 10**6),
        streamed=st.booleans(),
        generates=st.just(True),
        most_prompt_tokens=st.none() | st.integers(1, 10**7),
        most_completion_tokens=st.integers(10**6, 10**7),
    ),
)
def test_no_report_charges_beyond_what_can_be_true(reports: list[Report], known: Known) -> None:
    """Whatever is reported, the charge is bounded, whole and doubted wherever it is not what was said."""
    charged = charge(reports, known)
    assert 0 <= charged.cached_tokens <= max(charged.prompt_tokens, charged.cached_tokens if not reports else 0)
    assert 0 <= charged.completion_tokens <= known.most_completion_tokens
    assert charged.prompt_tokens <= max(10 * known.prompt_tokens + 100_000, known.most_prompt_tokens or 0)
    if known.streamed:
        assert charged.completion_tokens * 4 >= known.completion_tokens
    if charged.source == "reported":
        assert charged.prompt_tokens == max(each.prompt_tokens or 0 for each in reports)
        assert charged.completion_tokens == max(each.completion_tokens or 0 for each in reports)
    assert bool(charged.doubts) == (bool(reports) and charged.source != "reported")


def test_there_is_a_last_bound() -> None:
    """Where nothing else says, an answer has at most a million tokens."""
    assert charge([Report(110, 0, 10**9)], WHOLE).completion_tokens == MOST_TOKENS
