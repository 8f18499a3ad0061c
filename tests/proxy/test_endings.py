"""Usage and abort, read from an answer's last bytes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.proxy.endings import TAIL_BYTES, Usage, read_usage, was_aborted


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}, Usage(9, 0, 3)),
        ({"input_tokens": 9, "output_tokens": 3}, Usage(9, 0, 3)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 8}}, Usage(9, 8, 0)),
        ({"input_tokens": 9, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 1}, Usage(9, 8, 1)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": None}, Usage(9, 0, 1)),
        ({"prompt_tokens": 9, "prompt_tokens_details": [1]}, Usage(9, 0, 0)),
        ({"prompt_tokens": -1, "completion_tokens": 10**10}, Usage(0, 0, 0)),
        ({"prompt_tokens": "9", "completion_tokens": True}, Usage(0, 0, 0)),
        ({"prompt_tokens": 1.5, "completion_tokens": None}, Usage(0, 0, 0)),
        ({}, Usage(0, 0, 0)),
    ],
)
@pytest.mark.parametrize("wrapped", ['{"usage": %s}', 'data: {"choices":[],"usage":%s}\n\ndata: [DONE]\n\n'])
def test_usage(usage: dict[str, object], expected: Usage, wrapped: str) -> None:
    """Both dialects are read, in a whole answer and in a stream; what makes no sense counts as zero."""
    assert read_usage((wrapped % json.dumps(usage)).encode()) == expected


def test_the_last_usage_counts() -> None:
    """Engines that report as they go report the whole in the end."""
    assert read_usage(b'{"usage": {"prompt_tokens": 1}} {"usage":{"prompt_tokens":2}}') == Usage(2, 0, 0)


@pytest.mark.parametrize(
    "tail",
    [b"", b'{"usage": null}', b'"usage": {"prompt_tokens": 1', b'{"usage": [1]}', b"usage: {}", b'"usage": {\xff}'],
)
def test_no_usage(tail: bytes) -> None:
    """Without an object that is whole there is no usage."""
    assert read_usage(tail) is None


@given(st.binary(max_size=80), st.sampled_from([b"", b'"usage": ', b'"usage":{', b'{"usage": {"prompt_tokens":']))
def test_no_tail_raises(noise: bytes, start: bytes) -> None:
    """Whatever stands in the end of an answer, reading it raises nothing."""
    read_usage(start + noise)
    was_aborted(start + noise)


def test_deep_nesting_is_no_usage() -> None:
    """A backend can't exhaust our stack with brackets."""
    assert read_usage(b'"usage": {"a":' + b"[" * 4000) is None


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.binary(max_size=50))
def test_a_cut_before_usage_does_not_matter(prompt: int, completion: int, before: bytes) -> None:
    """The tail may begin anywhere, in the middle of a character too."""
    usage = json.dumps({"prompt_tokens": prompt, "completion_tokens": completion}).encode()
    tail = (before.replace(b'"', b"") + b'"usage":' + usage + b"}")[-TAIL_BYTES:]
    assert read_usage(tail) == Usage(prompt, 0, completion)


def test_abort() -> None:
    """A finish reason of abort is seen before [DONE]; the word elsewhere is text."""
    assert was_aborted(b'{"finish_reason": "abort"}]}\n\ndata: [DONE]\n\n')
    assert was_aborted(b'{"finish_reason":"abort"}')
    assert not was_aborted(b'{"finish_reason":"stop"} "abort"')
    assert not was_aborted(b'{"content":"\\"finish_reason\\": \\"abort\\""}')
