"""Answers of our own, in the shapes that SDKs expect."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.domain.errors import FAILURES, RequestError
from gpubalancer.proxy.answers import error_answer, error_body, id_line, last_words, models_answer

FAILED = RequestError("backend_failed", 'It "broke"\n\nand\r\n\r\nmore.')


def parsed(answer: tuple[bytes, bytes]) -> Any:
    """The body of an answer."""
    return json.loads(answer[1])


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_every_failure_has_openais_shape(code: str) -> None:
    """Message, type, code and param, as OpenAI's SDK reads them."""
    error = RequestError(code, "A sentence.", param="model")
    lines, content = error_answer(error, "/v1/chat/completions", "id-1")
    assert json.loads(content) == {
        "error": {"message": "A sentence.", "type": FAILURES[code].type, "code": code, "param": "model"}
    }
    assert lines.startswith(b"content-type: application/json\r\nx-request-id: id-1\r\n")
    assert (b"www-authenticate: Bearer\r\n" in lines) is (FAILURES[code].status == 401)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("invalid_json", "invalid_request_error"),
        ("missing_api_key", "authentication_error"),
        ("model_not_allowed", "permission_error"),
        ("model_not_found", "not_found_error"),
        ("body_too_large", "request_too_large"),
        ("overloaded", "rate_limit_error"),
        ("no_backend", "overloaded_error"),
        ("backend_failed", "api_error"),
    ],
)
def test_anthropics_shape_on_its_paths(code: str, kind: str) -> None:
    """`/v1/messages` gets the error types of Anthropic's API."""
    answer = error_answer(RequestError(code, "A sentence."), "/v1/messages")
    assert parsed(answer) == {"type": "error", "error": {"type": kind, "message": "A sentence."}}


@pytest.mark.parametrize(("wait_s", "line"), [(0.2, b"retry-after: 1\r\n"), (1.2, b"retry-after: 2\r\n")])
def test_retry_after_is_whole_seconds(wait_s: float, line: bytes) -> None:
    """Retry-After is rounded up and at least one (RFC 9110 section 10.2.3)."""
    lines, _ = error_answer(RequestError("overloaded", "x", retry_after_s=wait_s))
    assert line in lines


def test_no_retry_after_where_time_does_not_heal() -> None:
    """An error without a time has no Retry-After, and one without an id no id."""
    assert error_answer(RequestError("invalid_json", "x"))[0] == b"content-type: application/json\r\n"
    assert id_line("a") == b"x-request-id: a\r\n"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_anthropics_sdks_find_their_request_id(path: str) -> None:
    """On Anthropic's paths the id is in `request-id` as well; elsewhere it is not."""
    lines, _ = error_answer(RequestError("overloaded", "x"), path, "id-1")
    assert b"\r\nx-request-id: id-1\r\nrequest-id: id-1\r\n" in lines
    assert b"\nrequest-id" not in error_answer(RequestError("overloaded", "x"), "/v1/responses", "id-1")[0]


def events(stream: bytes) -> list[dict[str, str]]:
    """The events of an SSE stream, as a client reads them."""
    blocks = stream.replace(b"\r\n", b"\n").decode().split("\n\n")
    return [dict(line.split(": ", 1) for line in block.split("\n") if ": " in line) for block in blocks if block]


@pytest.mark.parametrize("tail", [b"", b'data: {"a": 1}\n\n', b'data: {"a": 1}\r\n\r\n'])
def test_the_last_event_of_a_stream(tail: bytes) -> None:
    """Behind a whole event the error is an event of its own."""
    words = last_words(FAILED, "/v1/chat/completions", b"text/event-stream; charset=utf-8", tail)
    assert words.startswith(b"data: {")
    assert json.loads(events(tail + words)[-1]["data"]) == error_body(FAILED, "/v1/chat/completions")


@given(st.integers(0, 15))
def test_an_event_that_was_cut_is_ended_first(cut: int) -> None:
    """Wherever the backend stopped, the error is not taken for a part of what came before."""
    tail = b'data: {"a": 1}\n\n'[:cut]
    words = last_words(FAILED, "/v1/chat/completions", b"text/event-stream", tail)
    assert json.loads(events(tail + words)[-1]["data"]) == error_body(FAILED, "/v1/chat/completions")


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
def test_streams_with_named_events(path: str) -> None:
    """Where events have names, this one is called `error`."""
    words = last_words(FAILED, path, b"text/event-stream", b"")
    assert events(words) == [{"event": "error", "data": json.dumps(error_body(FAILED, path), separators=(",", ":"))}]


@pytest.mark.parametrize(("tail", "start"), [(b"", b"{"), (b'{"a": 1}\n', b"{"), (b'{"a":', b"\n{")])
def test_the_last_line_of_ndjson(tail: bytes, start: bytes) -> None:
    """Ollama's streams end with a line of their own."""
    words = last_words(FAILED, "/api/chat", b"application/x-ndjson", tail)
    assert words.startswith(start)
    assert words.endswith(b"}\n")
    assert json.loads(words) == error_body(FAILED, "/api/chat")


@pytest.mark.parametrize("content_type", [b"", b"application/json", b"audio/mpeg", b"text/plain"])
def test_other_answers_have_no_last_words(content_type: bytes) -> None:
    """Nothing is added to what is not a stream of events."""
    assert last_words(FAILED, "/v1/chat/completions", content_type, b"{") == b""


def test_lists_of_models() -> None:
    """OpenAI's list, Ollama's list, and one model."""
    listed = parsed(models_answer("/v1/models", ["a", "b/c"]))
    assert listed["object"] == "list"
    assert [row["id"] for row in listed["data"]] == ["a", "b/c"]
    assert parsed(models_answer("/v1/models/b/c", ["a", "b/c"]))["id"] == "b/c"
    assert [row["name"] for row in parsed(models_answer("/api/tags", iter(["a"])))["models"]] == ["a"]


def test_models_in_anthropics_shape() -> None:
    """Anthropic's clients get one page of its entries, whose times are strings, and single entries alike."""
    entry = {"type": "model", "id": "a", "display_name": "a", "created_at": "1970-01-01T00:00:00Z"}
    listed = parsed(models_answer("/v1/models", iter(["a", "b"]), anthropic=True))
    assert listed["data"][0] == entry
    assert (listed["has_more"], listed["first_id"], listed["last_id"]) == (False, "a", "b")
    assert parsed(models_answer("/v1/models/a", ["a"], anthropic=True)) == entry


def test_no_models_in_anthropics_shape() -> None:
    """An empty page has no first and no last."""
    nothing = {"data": [], "has_more": False, "first_id": None, "last_id": None}
    assert parsed(models_answer("/v1/models", [], anthropic=True)) == nothing


def test_a_model_that_is_not_listed_is_not_found() -> None:
    """A model that the tenant may not use looks like one that does not exist."""
    with pytest.raises(RequestError) as caught:
        models_answer("/v1/models/secret", ["a"])
    assert caught.value.code == "model_not_found"
