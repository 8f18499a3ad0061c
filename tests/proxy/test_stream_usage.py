"""Streams on their way, cut anywhere: what the client sees of them, what is reported, what is counted."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.proxy.endings import ABORTED, UNFINISHED
from gpubalancer.proxy.stream_usage import HELD_BYTES, StreamWatch, watch_stream
from gpubalancer.proxy.usage import Report, read_report
from gpubalancer.wire.heads import ResponseHead
from gpubalancer.wire.relay import WatchedRelay
from tests.wire.fakes import exchange_of

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def sse(data: Any, name: str = "") -> bytes:
    """A server-sent event."""
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"


def delta(finish: str | None = None, **said: str) -> bytes:
    """A chunk of a chat."""
    return sse({"id": "c", "choices": [{"index": 0, "delta": said, "finish_reason": finish}]})


DONE = b"data: [DONE]\n\n"
ONLY_USAGE = sse({"id": "c", "choices": [], "usage": USAGE})
TEXT = delta(role="assistant", content="") + b"".join(delta(content=word) for word in ("one", "two", "three"))
CHAT = TEXT + delta("stop") + ONLY_USAGE + DONE
SEEN = TEXT + delta("stop") + DONE

MESSAGE = (
    sse({"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}}, "message_start")
    + sse({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, "x")
    + sse({"type": "ping"}, "ping")
    + b"".join(
        sse({"type": "content_block_delta", "delta": {"type": "text_delta", "text": word}}, "content_block_delta")
        for word in ("one", "two", "three", "four")
    )
    + sse({"type": "content_block_stop", "index": 0}, "content_block_stop")
    + sse({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 15}}, "x")
    + sse({"type": "message_stop"}, "message_stop")
)
RESPONSE_USAGE = {"input_tokens": 5, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 2}}
RESPONSE = (
    sse({"type": "response.created", "response": {"status": "in_progress", "usage": None}}, "response.created")
    + b"".join(sse({"type": "response.output_text.delta", "delta": word}, "x") for word in ("one", "two", "three"))
    + sse({"type": "response.output_text.done", "text": "onetwothree"}, "x")
    + sse({"type": "response.completed", "response": {"output": ["x" * 40], "usage": RESPONSE_USAGE}}, "x")
)
OLLAMA = (
    b"".join(b'{"model":"m","response":"%b","done":false}\n' % word for word in (b"one", b"two"))
    + b'{"model":"m","response":"","done":true,"prompt_eval_count":26,"eval_count":2}\n'
)


def cut(data: bytes, at: set[int]) -> list[bytes]:
    """A stream in pieces."""
    places = [0, *sorted(at), len(data)]
    return [data[start:end] for start, end in pairwise(places) if start < end]


def passed(watch: StreamWatch, pieces: list[bytes]) -> bytes:
    """What a client gets of these pieces, each a chunk of its own, through the relay."""
    exchange, client = exchange_of(b"GET /x HTTP/1.0\r\n\r\n")
    exchange.begin(200, b"", None)
    relay = WatchedRelay(exchange, watch)
    for piece in pieces:
        relay.write_chunk(b"%x\r\n%b\r\n" % (len(piece), piece), piece, 1.0)
    relay.write(b"", 2.0, last=True)
    return client.sent.partition(b"\r\n\r\n")[2]


def reported(watch: StreamWatch) -> list[Report | None]:
    """What the kept reports say."""
    return [read_report(data) for data in watch.reports]


def cuts(data: bytes) -> st.SearchStrategy[set[int]]:
    """Places to cut a stream at, few or all."""
    return st.sets(st.integers(1, len(data) - 1)) | st.just(set(range(1, len(data))))


@given(cuts(CHAT))
def test_the_usage_chunk_is_hidden_wherever_the_stream_is_cut(at: set[int]) -> None:
    """The client sees every byte but the usage event's, the report is read, and tokens are counted the same."""
    watch = StreamWatch("chat", hides=True)
    assert passed(watch, cut(CHAT, at)) == SEEN
    assert reported(watch) == [Report(9, 0, 3)]
    assert (watch.counted_tokens(), watch.complete()) == (3, True)


@given(cuts(CHAT))
def test_a_client_that_asked_sees_everything(at: set[int]) -> None:
    """Without hiding no byte is changed or held back, and the report is read all the same."""
    watch = StreamWatch("chat")
    exchange, client = exchange_of(b"GET /x HTTP/1.0\r\n\r\n")
    exchange.begin(200, b"", None)
    relay, sent = WatchedRelay(exchange, watch), b""
    for piece in cut(CHAT, at):
        relay.write(piece, 1.0, last=False)
        sent += piece
        assert client.sent.endswith(b"\r\n\r\n" + sent)
    assert reported(watch) == [Report(9, 0, 3)]
    assert watch.counted_tokens() == 3


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_one_cut_at_every_byte(ending: bytes) -> None:
    """Two segments, cut anywhere, with either line ending."""
    data, seen = CHAT.replace(b"\n", ending), SEEN.replace(b"\n", ending)
    for at in range(len(data)):
        watch = StreamWatch("chat", hides=True)
        assert passed(watch, cut(data, {at})) == seen
        assert watch.counted_tokens() == 3


@given(cuts(MESSAGE))
def test_anthropics_usage_comes_in_two_parts(at: set[int]) -> None:
    """The prompt is in the first event, the answer's length in the last but one."""
    watch = StreamWatch("messages")
    assert passed(watch, cut(MESSAGE, at)) == MESSAGE
    assert reported(watch) == [Report(25, 0, 1), Report(None, 0, 15)]
    assert (watch.counted_tokens(), watch.complete()) == (4, True)


@given(cuts(RESPONSE))
def test_a_responses_usage_is_in_its_last_event(at: set[int]) -> None:
    """The completed response holds the usage; its first event's null is none."""
    watch = StreamWatch("responses")
    assert passed(watch, cut(RESPONSE, at)) == RESPONSE
    assert reported(watch) == [Report(5, 2, 4, tells_cached=True)]
    assert (watch.counted_tokens(), watch.complete()) == (3, True)


@given(cuts(OLLAMA))
def test_ollamas_usage_is_in_its_last_line(at: set[int]) -> None:
    """Lines of JSON are events too."""
    watch = StreamWatch("ollama", lines=True)
    assert passed(watch, cut(OLLAMA, at)) == OLLAMA
    assert (reported(watch) or [read_report(b"".join(watch.tail))]) == [Report(26, 0, 2)]
    assert (watch.counted_tokens(), watch.complete()) == (2, True)


def test_a_completion_is_counted_by_its_texts() -> None:
    """An empty text is no token."""
    events = [sse({"choices": [{"text": text, "finish_reason": None}]}) for text in ("a", "b", "")]
    watch = StreamWatch("completions", hides=True)
    assert passed(watch, [*events, ONLY_USAGE]) == b"".join(events)
    assert watch.counted_tokens() == 2
    assert watch.fault() == UNFINISHED


@pytest.mark.parametrize(
    "event",
    [
        sse({"choices": [], "usage": None}),
        sse({"choices": [], "prompt_filter_results": [{"index": 0}]}),
        sse({"choices": [{"delta": {"content": "x"}}], "usage": None}),
        sse({"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}], "usage": USAGE}),
        sse({"choices": [{"delta": {"content": '{"choices":[],"usage":{}}'}}]}),
        sse({"choices": [{"delta": {"tool_calls": []}}], "usage": {}}),
        b'data: {"choices":[],"usage":{}\n\n',
        b': "choices":[] "usage":{}\n\n',
        b"\n\n",
    ],
)
def test_nothing_but_the_usage_event_is_hidden(event: bytes) -> None:
    """Null, other events without choices, usage beside text, and what only looks like it stay."""
    stream = TEXT + event + delta("stop") + DONE
    for pieces in ([stream], cut(stream, set(range(1, len(stream)))), [TEXT, event, delta("stop"), DONE]):
        assert passed(StreamWatch("chat", hides=True), pieces) == stream


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[],"usage":{}}\n\n',
        b'data: {"usage" : {"prompt_tokens":1} , "choices" : [ ]}\n\n',
        b'data:{"choices":[],"usage":{"a":{"b":1}},"x":"\xc3\xa9"}\r\n\r\n',
        b'id: 7\ndata: {"choices":[],\ndata: "usage":{}}\n\n',
    ],
)
def test_the_usage_event_is_hidden_however_it_is_spelt(event: bytes) -> None:
    """Spaces, line endings, ids and data over several lines make no difference."""
    for pieces in ([TEXT + event + DONE], [TEXT, event, DONE], cut(TEXT + event + DONE, set(range(1, 700)))):
        assert passed(StreamWatch("chat", hides=True), pieces) == TEXT + DONE


def test_a_usage_event_in_one_piece_with_text_is_hidden() -> None:
    """A piece that begins with text is no reason to overlook what follows."""
    watch = StreamWatch("chat", hides=True)
    assert passed(watch, [TEXT, delta(content="x") + ONLY_USAGE]) == TEXT + delta(content="x")


def test_usage_beside_text_is_read_from_the_tail() -> None:
    """An engine that reports in its finish chunk needs no event of its own."""
    last = sse({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": USAGE})
    watch = StreamWatch("chat", hides=True)
    assert passed(watch, [TEXT, last, DONE]) == TEXT + last + DONE
    assert read_report(watch.reports[-1] if watch.reports else b"".join(watch.tail)) == Report(9, 0, 3)


def test_an_event_that_is_not_complete_is_held_and_shown_in_full() -> None:
    """Of an event that may be the usage's nothing is sent; the client stands between two events."""
    watch = StreamWatch("chat", hides=True)
    assert watch.look(TEXT) == TEXT
    assert watch.look(b'data: {"choi') == b""
    assert not watch.in_event
    assert "12 bytes of an event, 0 sent" in repr(watch)
    assert watch.look(b'ces":[{}]}\n\n') == b'data: {"choices":[{}]}\n\n'


@pytest.mark.parametrize("hides", [True, False])
def test_a_long_event_is_not_held(hides: bool) -> None:
    """No usage event is that long: what goes beyond passes at once, memory stays bounded, and the end is seen."""
    watch = StreamWatch("chat", hides=hides)
    pieces = [b'data: {"x":"' + b"a" * HELD_BYTES, *[b"b" * 1000] * 100, b'","finish_reason":"stop"}\n\n', ONLY_USAGE]
    got = b""
    for piece in pieces[:-1]:
        got += watch.look(piece)
        assert len(watch._rest) <= 2 * HELD_BYTES
        assert watch.in_event == (piece is not pieces[-2])
    assert got == b"".join(pieces[:-1])
    assert watch.look(ONLY_USAGE) == (b"" if hides else ONLY_USAGE)
    assert watch.complete()


def test_an_end_without_a_blank_line_is_an_event() -> None:
    """What is left when no more comes goes on, unless it is the usage event."""
    assert passed(StreamWatch("chat", hides=True), [TEXT, b"data: [DONE]"]) == TEXT + b"data: [DONE]"
    assert passed(StreamWatch("chat", hides=True), [TEXT, ONLY_USAGE.strip()]) == TEXT


def test_an_abort_is_no_end() -> None:
    """An engine stopped in the middle of a stream says so before [DONE]."""
    watch = StreamWatch("chat")
    passed(watch, [TEXT, delta("abort"), DONE])
    assert (watch.complete(), watch.fault()) == (False, ABORTED)


def test_the_end_is_found_behind_a_long_last_event() -> None:
    """A response that is longer than what is searched is still known by its beginning."""
    watch = StreamWatch("responses")
    end = sse({"type": "response.completed", "response": {"output": "x" * 5 * HELD_BYTES, "usage": {}}}, "x")
    passed(watch, [RESPONSE.partition(b"event: x")[0], end])
    assert watch.complete()


def test_tool_calls_and_reasoning_are_counted() -> None:
    """Whatever carries a part of the answer is a token; a role and an empty piece are none."""
    tool = [{"index": 0, "function": {"arguments": '{"a'}}]
    events = [
        delta(role="assistant", content=""),
        delta(reasoning_content="hm"),
        sse({"choices": [{"index": 0, "delta": {"tool_calls": tool}}]}),
        delta(content=""),
        delta("tool_calls"),
    ]
    watch = StreamWatch("chat")
    passed(watch, events)
    assert watch.counted_tokens() == 2


@pytest.mark.parametrize(
    ("api", "status", "headers", "watched"),
    [
        ("chat", 200, [(b"content-type", b"text/event-stream; charset=utf-8")], True),
        ("ollama", 200, [(b"content-type", b"application/x-ndjson")], True),
        ("chat", 200, [(b"content-type", b"text/event-stream"), (b"content-encoding", b"identity")], True),
        ("chat", 200, [(b"content-type", b"application/json")], False),
        ("chat", 200, [], False),
        ("chat", 500, [(b"content-type", b"text/event-stream")], False),
        ("audio", 200, [(b"content-type", b"text/event-stream")], False),
        ("chat", 200, [(b"content-type", b"text/event-stream"), (b"content-encoding", b"gzip")], False),
    ],
)
def test_what_is_watched(api: str, status: int, headers: list[tuple[bytes, bytes]], watched: bool) -> None:
    """Streams of known APIs that can be read."""
    head = ResponseHead(status, headers, None, True, True, frozenset())
    watch = watch_stream(api, head, hides=True)
    assert (watch is not None) == watched
    assert watch is None or watch.hides


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"\n\n", b"\r\n\r\n", ONLY_USAGE, DONE, TEXT]), max_size=12))
def test_any_bytes_pass(pieces: list[bytes]) -> None:
    """Whatever an engine sends, nothing raises, and but for usage events all of it arrives in order."""
    whole = b"".join(pieces)
    assert passed(StreamWatch("chat"), [piece for piece in pieces if piece]) == whole
    shown = passed(StreamWatch("chat", hides=True), [piece for piece in pieces if piece])
    if b'"usage"' not in whole:
        assert shown == whole
    assert len(shown) <= len(whole)
