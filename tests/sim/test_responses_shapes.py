"""OpenAI's responses on the wire."""

from gpubalancer.sim.engine import Reason
from gpubalancer.sim.responses_shapes import ResponsesShape
from gpubalancer.sim.shapes import Envelope, Said, Usage

from .live import chunks

USAGE = Usage(10, 4, 2)


def test_stream() -> None:
    """Events are numbered in order, deltas add up to the done text, and the last holds the whole response."""
    shape = ResponsesShape(Envelope("7", 5, "m"))
    data = shape.opening(USAGE) + shape.piece(0, "hi", None) + shape.piece(0, "!", Reason.STOP) + shape.closing(USAGE)
    events = chunks(data.split(b"\n"))
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(10))
    assert events[4]["delta"] + events[5]["delta"] == events[6]["text"] == "hi!"
    last = events[-1]["response"]
    assert last["output"][0]["content"][0]["text"] == "hi!"
    assert last["usage"]["total_tokens"] == 12
    assert last["usage"]["input_tokens_details"] == {"cached_tokens": 4}


def test_a_cut_answer_is_incomplete() -> None:
    """An answer that reached its limit says so in its status and its last event."""
    shape = ResponsesShape(Envelope("7", 5, "m"))
    whole = shape.unary([Said(["a"], Reason.LENGTH)], USAGE)
    assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    shape.piece(0, "a", Reason.LENGTH)
    assert b"event: response.incomplete\n" in shape.closing(USAGE)
