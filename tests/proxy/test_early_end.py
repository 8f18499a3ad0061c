"""Streams that a budget ends, in the shape in which each API ends one that reached its length."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.proxy.early_end import Cut, early_end
from gpubalancer.proxy.endings import fault_of
from gpubalancer.proxy.usage import read_report


def sse(fields: Any) -> bytes:
    """One event."""
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def cut(*sent: bytes, path: str = "/v1/chat/completions", answers: int = 1, asks_usage: bool = False) -> Cut:
    """After these events, with 9 tokens in the prompt and 4 in the answer."""
    return Cut(path, sent, "req-1", "m", answers, 9, 4, asks_usage)


def events(data: bytes) -> list[Any]:
    """What the events hold; `[DONE]` as it is."""
    texts = [line.removeprefix(b"data: ") for line in data.splitlines() if line.startswith(b"data: ")]
    return [text.decode() if text == b"[DONE]" else json.loads(text) for text in texts]


CHUNK = {"id": "c-7", "object": "chat.completion.chunk", "created": 5, "model": "served", "system_fingerprint": "f"}
EVENT = sse({**CHUNK, "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]})


def test_a_chat_ends_like_one_that_reached_its_length() -> None:
    """With the stream's own id, model and time, and `[DONE]`."""
    last, done = events(early_end("chat", cut(EVENT)))
    assert last == {
        **CHUNK,
        "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}],
    }
    assert done == "[DONE]"


def test_a_client_that_asked_for_usage_is_told() -> None:
    """In the event without choices, before `[DONE]`."""
    _, usage, done = events(early_end("chat", cut(EVENT, asks_usage=True)))
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    assert done == "[DONE]"


def test_all_answers_side_by_side_end() -> None:
    """Each choice has its finish reason."""
    last, _ = events(early_end("completions", cut(answers=3, path="/v1/completions")))
    assert [(each["index"], each["text"], each["finish_reason"]) for each in last["choices"]] == [
        (0, "", "length"),
        (1, "", "length"),
        (2, "", "length"),
    ]
    assert (last["id"], last["model"], last["object"]) == ("req-1", "m", "text_completion")


def test_a_message_closes_its_block() -> None:
    """The block that is open, with its own number, and then the message."""
    delta = {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "x"}}
    ended = events(early_end("messages", cut(sse(delta), path="/v1/messages")))
    assert ended[0] == {"type": "content_block_stop", "index": 2}
    assert (ended[1]["delta"]["stop_reason"], ended[1]["usage"]) == ("max_tokens", {"output_tokens": 4})
    assert ended[2] == {"type": "message_stop"}


def test_a_message_between_two_blocks_has_none_to_close() -> None:
    """What has ended is not ended again."""
    ended = early_end("messages", cut(sse({"type": "content_block_stop", "index": 0}), path="/v1/messages"))
    assert [event["type"] for event in events(ended)] == ["message_delta", "message_stop"]
    assert ended.startswith(b"event: message_delta\n")


RESPONSE = (
    sse({"type": "response.created", "sequence_number": 0, "response": {"id": "r-1", "status": "in_progress"}}),
    sse({"type": "response.output_item.added", "sequence_number": 1, "item": {"id": "i", "type": "message"}}),
    sse(
        {
            "type": "response.content_part.added",
            "sequence_number": 2,
            "part": {"type": "output_text", "text": "", "annotations": []},
        }
    ),
    sse({"type": "response.output_text.delta", "sequence_number": 3, "delta": "one "}),
    sse({"type": "response.output_text.delta", "sequence_number": 4, "delta": "two"}),
)


def test_a_response_repeats_what_it_has_said() -> None:
    """Part, item and response are closed, numbered on, and hold the text so far."""
    ended = events(early_end("responses", cut(*RESPONSE, path="/v1/responses")))
    assert [event["type"] for event in ended] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert [event["sequence_number"] for event in ended] == [5, 6, 7, 8]
    response = ended[-1]["response"]
    assert (response["id"], response["status"]) == ("r-1", "incomplete")
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["content"][0]["text"] == "one two"
    assert response["output"][0]["status"] == "incomplete"
    assert response["usage"]["output_tokens"] == 4


def test_a_response_between_two_items_has_none_to_close() -> None:
    """An item that is done stays as it was; a call that is open keeps its arguments."""
    done = sse({"type": "response.output_item.done", "sequence_number": 5, "item": {"id": "i", "status": "completed"}})
    ended = events(early_end("responses", cut(*RESPONSE, done, path="/v1/responses")))
    assert [event["type"] for event in ended] == ["response.incomplete"]
    assert ended[0]["response"]["output"] == [{"id": "i", "status": "completed"}]
    call = (
        sse({"type": "response.output_item.added", "item": {"id": "f", "type": "function_call"}}),
        sse({"type": "response.function_call_arguments.delta", "delta": '{"a'}),
    )
    ended = events(early_end("responses", cut(*RESPONSE, done, *call, path="/v1/responses")))
    assert ended[-1]["response"]["output"][1]["arguments"] == '{"a'


@pytest.mark.parametrize(("path", "empty"), [("/api/chat", "message"), ("/api/generate", "response")])
def test_ollama_ends_with_a_line(path: str, empty: str) -> None:
    """Done, with the reason and the counts in Ollama's own names."""
    sent = b'{"model":"served","created_at":"2026-01-01T00:00:00Z","done":false}\n'
    line = json.loads(early_end("ollama", cut(sent, path=path)))
    assert (line["model"], line["created_at"]) == ("served", "2026-01-01T00:00:00Z")
    assert (line["done"], line["done_reason"], empty in line) == (True, "length", True)
    assert (line["prompt_eval_count"], line["eval_count"]) == (9, 4)


@pytest.mark.parametrize("api", ["chat", "completions", "messages", "responses", "ollama"])
def test_every_end_is_a_good_one(api: str) -> None:
    """Also of a stream that had not begun, or whose events are no JSON: who judges streams takes it for whole."""
    for sent in ((), (b"data: {nonsense\n\n", b"data: [1]\n\n")):
        ended = early_end(api, cut(*sent, path="/x"))
        assert fault_of(api, ended) == ""
        if api not in ("chat", "completions"):
            report = read_report(ended)
            assert report is not None
            assert report.completion_tokens == 4


NULLS = (
    sse({"type": "response.created", "sequence_number": None, "response": {"id": "r-1"}}),
    sse({"type": "response.output_item.added", "sequence_number": 1, "item": {"id": "i", "content": None}}),
    sse({"type": "response.content_part.added", "part": {"type": "output_text", "text": None}}),
    sse({"type": "response.output_text.delta", "delta": "one"}),
)


def test_what_is_null_is_absent() -> None:
    """Also where a number or a list belongs."""
    ended = events(early_end("responses", cut(*NULLS, path="/v1/responses")))
    assert [event["sequence_number"] for event in ended] == [2, 3, 4, 5]
    assert ended[-1]["response"]["output"][0]["content"] == [{"type": "output_text", "text": "one"}]


NAMES = st.sampled_from(
    ["type", "response", "item", "part", "delta", "content", "text", "arguments", "id", "index", "sequence_number"]
    + ["model", "created", "created_at"]
)
KINDS = st.sampled_from(
    [event["type"] for event in events(b"".join(RESPONSE))]
    + ["response.output_item.done", "response.function_call_arguments.delta", "content_block_delta", "output_text"]
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.text(max_size=3), KINDS
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=8
)
ODD = st.builds(
    lambda kind, fields: {**fields, "type": kind}, KINDS | LEAVES, st.dictionaries(NAMES, VALUES, max_size=5)
)


@given(st.sampled_from(["chat", "completions", "messages", "responses", "ollama"]), st.lists(ODD, max_size=6))
def test_there_is_an_end_whatever_a_backend_has_sent(api: str, odd: list[Any]) -> None:
    """JSON of any shape never keeps a stream from ending as its API ends one."""
    assert fault_of(api, early_end(api, cut(*map(sse, odd), path="/x"))) == ""


@pytest.mark.parametrize("depth", range(240, 260))
def test_what_is_too_deep_to_be_written_again_is_left_out(depth: int) -> None:
    """More can be read than written."""
    deep = json.loads("[" * depth + "]" * depth)
    added = {"type": "response.output_item.added", "item": {"id": "i", "content": [{"type": "output_text", "x": deep}]}}
    for api in ("chat", "messages", "responses", "ollama"):
        for odd in (added, {"id": deep, "model": deep, "created_at": deep, "index": deep}):
            assert fault_of(api, early_end(api, cut(sse(odd), path="/x"))) == ""
