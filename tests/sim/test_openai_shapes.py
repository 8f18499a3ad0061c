"""Chat and completions on the wire."""

from gpubalancer.sim.engine import Reason
from gpubalancer.sim.openai_shapes import DONE, ChatShape, CompletionShape
from gpubalancer.sim.shapes import Envelope, Said, Usage

from .live import chunks

USAGE = Usage(10, 4, 2)


def test_chat_stream() -> None:
    """The role comes first for every choice, the last token carries the reason, usage comes alone."""
    shape = ChatShape(Envelope("7", 5, "m", choices=2, include_usage=True))
    data = shape.opening(USAGE) + shape.piece(1, "hi", None) + shape.piece(1, "!", Reason.STOP) + shape.closing(USAGE)
    assert data.endswith(DONE)
    events = chunks(data.split(b"\n"))
    assert {(e["id"], e["object"], e["created"], e["model"]) for e in events} == {
        ("chatcmpl-7", "chat.completion.chunk", 5, "m")
    }
    assert [[(c["index"], c["delta"], c["finish_reason"]) for c in e["choices"]] for e in events] == [
        [(0, {"role": "assistant", "content": ""}, None)],
        [(1, {"role": "assistant", "content": ""}, None)],
        [(1, {"content": "hi"}, None)],
        [(1, {"content": "!"}, "stop")],
        [],
    ]
    assert [e.get("usage") for e in events] == [None] * 4 + [USAGE.openai()]


def test_no_usage_unless_asked() -> None:
    """Without `include_usage` a stream ends with nothing but its mark."""
    assert ChatShape(Envelope("7", 5, "m")).closing(USAGE) == DONE
    assert CompletionShape(Envelope("7", 5, "m")).closing(USAGE) == DONE


def test_chat_whole() -> None:
    """A whole chat has one message per choice, and usage."""
    whole = ChatShape(Envelope("7", 5, "m")).unary([Said(["a", "b"], Reason.LENGTH)], USAGE)
    assert (whole["id"], whole["object"], whole["usage"]) == ("chatcmpl-7", "chat.completion", USAGE.openai())
    (choice,) = whole["choices"]
    assert (choice["message"]["role"], choice["message"]["content"]) == ("assistant", "ab")
    assert choice["finish_reason"] == "length"


def test_completion_both_ways() -> None:
    """A completion streams bare text in objects like the whole one's."""
    shape = CompletionShape(Envelope("7", 5, "m", include_usage=True))
    data = shape.opening(USAGE) + shape.piece(0, "a", Reason.LENGTH) + shape.closing(USAGE)
    first, last = chunks(data.split(b"\n"))
    whole = shape.unary([Said(["a"], Reason.LENGTH)], USAGE)
    assert first["choices"] == whole["choices"]
    assert (first["id"], first["object"]) == (whole["id"], whole["object"]) == ("cmpl-7", "text_completion")
    assert last["usage"] == whole["usage"] == USAGE.openai()
