"""Anthropic's messages on the wire."""

import orjson

from gpubalancer.sim.anthropic_shapes import MessagesShape
from gpubalancer.sim.engine import Reason
from gpubalancer.sim.shapes import Envelope, Said, Usage

from .live import chunks

USAGE = Usage(10, 4, 2)


def test_stream() -> None:
    """Events come in Anthropic's order, each named as its type, with input tokens first and output tokens last."""
    shape = MessagesShape(Envelope("7", 5, "m"))
    data = shape.opening(USAGE) + shape.piece(0, "hi", None) + shape.piece(0, "!", Reason.LENGTH) + shape.closing(USAGE)
    lines = data.split(b"\n")
    events = chunks(lines)
    names = [line.removeprefix(b"event: ").decode() for line in lines if line.startswith(b"event: ")]
    assert names == [event["type"] for event in events]
    assert names == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0]["message"]["usage"]["input_tokens"] == 6
    assert events[0]["message"]["usage"]["cache_read_input_tokens"] == 4
    assert events[2]["delta"] == {"type": "text_delta", "text": "hi"}
    assert events[5]["delta"]["stop_reason"] == "max_tokens"
    assert events[5]["usage"]["output_tokens"] == 2


def test_whole() -> None:
    """A whole message has one text block and the reason in Anthropic's words."""
    whole = MessagesShape(Envelope("7", 5, "m")).unary([Said(["a", "b"], Reason.STOP)], USAGE)
    assert whole["content"] == [{"type": "text", "text": "ab"}]
    assert (whole["id"], whole["role"], whole["stop_reason"]) == ("msg_7", "assistant", "end_turn")
    assert orjson.loads(orjson.dumps(whole)) == whole
