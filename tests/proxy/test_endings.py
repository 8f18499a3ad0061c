"""How streams end, by the shapes of each API."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.proxy.endings import ABORTED, FAILED, UNFINISHED, WATCHED_APIS, fault_of, was_aborted

STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
MESSAGE_DELTA = b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n'
MESSAGE_STOP = b'event: message_stop\ndata: {"type": "message_stop"}\n\n'


@pytest.mark.parametrize(
    ("api", "events"),
    [
        ("chat", STOP + DONE), ("chat", STOP), ("chat", TEXT + DONE), ("chat", b"data:[DONE]\n\n"),
        ("chat", STOP.replace(b'"finish_reason":', b'"finish_reason" : ')),
        ("completions", b'data: {"choices":[{"text":"","finish_reason":"length"}]}\n\n'),
        ("messages", MESSAGE_DELTA + MESSAGE_STOP), ("messages", MESSAGE_DELTA), ("messages", MESSAGE_STOP),
        ("responses", b'event: response.completed\ndata: {"type":"response.completed","response":{"error":null}}\n\n'),
        ("responses", b'data: {"type": "response.incomplete","response":{}}\n\n'),
        ("ollama", b'{"model":"m","response":"","done":true,"done_reason":"stop"}\n'),
        ("ollama", b'{"done": true}\n'),
    ],
)  # fmt: skip
def test_a_good_end(api: str, events: bytes) -> None:
    """A finish reason or the end of the message is enough, each in the API's own words."""
    assert fault_of(api, events) == ""


@pytest.mark.parametrize("api", sorted(WATCHED_APIS))
def test_an_end_without_a_word_is_none(api: str) -> None:
    """A stream that just stops is not finished, whatever its text says."""
    said = b'data: {"content":"data: [DONE] \\"finish_reason\\": \\"stop\\" \\"done\\": true","finish_reason":null}\n\n'
    assert fault_of(api, b"") == UNFINISHED
    assert fault_of(api, said) == UNFINISHED


@pytest.mark.parametrize("reason", [b"abort", b"error"])
def test_done_is_not_success(reason: bytes) -> None:
    """An aborted request is one before [DONE] too."""
    assert fault_of("chat", STOP.replace(b"stop", reason) + DONE) == ABORTED


@pytest.mark.parametrize(
    ("api", "events"),
    [
        ("chat", TEXT + ERROR), ("chat", ERROR + DONE), ("completions", ERROR.replace(b": {", b":{")),
        ("chat", b'event: error\ndata: {"message": "x"}\n\n'), ("chat", b'data: {"error":"failed"}\n\n'),
        ("messages", b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'),
        ("messages", b'data: {"type": "error"}\n\n'),
        ("responses", b'data: {"type":"response.failed","response":{}}\n\n'),
        ("responses", b'data: {"type":"error","message":"x"}\n\n'),
        ("ollama", b'{"response":"a","done":false}\n{"error":"an error was encountered"}\n'),
    ],
)  # fmt: skip
def test_an_engines_own_error_is_no_end(api: str, events: bytes) -> None:
    """An error event ends a stream badly, with [DONE] after it or without."""
    assert fault_of(api, events) == FAILED


def test_no_error_is_no_error() -> None:
    """A field that is null, and the word in a text, are none."""
    assert fault_of("chat", b'data: {"error":null,"choices":[{"finish_reason":"stop"}]}\n\n') == ""
    assert fault_of("chat", TEXT.replace(b"hi", b'event: error {\\"error\\": {}}') + STOP) == ""


def test_abort() -> None:
    """A finish reason of abort is seen before [DONE]; the word elsewhere is text."""
    assert was_aborted(b'{"finish_reason": "abort"}]}\n\ndata: [DONE]\n\n')
    assert was_aborted(b'{"finish_reason":"abort"}')
    assert not was_aborted(b'{"finish_reason":"stop"} "abort"')
    assert not was_aborted(b'{"content":"\\"finish_reason\\": \\"abort\\""}')


@given(st.sampled_from(sorted(WATCHED_APIS)), st.binary(max_size=200))
def test_whatever_comes_is_judged(api: str, noise: bytes) -> None:
    """No bytes raise anything."""
    assert fault_of(api, noise) in {"", ABORTED, FAILED, UNFINISHED}
