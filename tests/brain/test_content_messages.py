"""Messages of three APIs, part by part."""

from typing import Any

import pytest

from gpubalancer.brain.content_messages import affinity_head, one_text, read_anthropic, read_chat, read_items
from gpubalancer.brain.content_parts import Message
from gpubalancer.domain.errors import RequestError


def of(content: object, **fields: object) -> Message:
    """One user message."""
    (message,) = read_chat([{"role": "user", "content": content, **fields}])
    return message


def test_calls_of_tools() -> None:
    """Name and arguments of each call are texts, whether arguments are text or JSON."""
    calls = [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"function": {"name": "g", "arguments": {"b": 2}}},
        {"type": "custom", "custom": {"name": "h", "input": "i"}},
    ]
    message = of(None, tool_calls=calls)
    assert message.texts == ("f", '{"a":1}', "g", '{"b":2}', "h", "i")
    assert message.extras == ("1", "function", "custom")
    assert of("x", function_call={"name": "f", "arguments": "{}"}).texts == ("x", "f", "{}")


def test_other_fields_of_a_message() -> None:
    """A name and reasoning are prompt; ids and unknown fields are extras; null is nothing."""
    message = of("x", name="n", reasoning_content="r", tool_call_id="call_1", refusal=None, other=[{"y": "z"}])
    assert message[:4] == ("user", ("x", "n", "r"), (), ("call_1", "z"))


def test_what_a_template_tells_apart() -> None:
    """The fields are kept where there are others than role and content, with the number of content's own texts."""
    parts = [{"type": "text", "text": "a"}, "b"]
    message = of(parts, name="n")
    assert message.fields == {"role": "user", "content": parts, "name": "n"}
    assert message.texts[: message.contents] == ("a", "b")
    assert of(parts).fields is None
    assert of("a", refusal=None).fields is None


def test_images_of_ollama() -> None:
    """A message of Ollama's has its pictures beside its content."""
    assert [media.kind for media in of("x", images=["iVBORw0KGgo=", "AAAA"]).media] == ["image", "image"]


@pytest.mark.parametrize(
    "fields", [{"tool_calls": "f"}, {"tool_calls": ["f"]}, {"tool_calls": {}}, {"images": "x"}, {"images": [1]}]
)
def test_broken_fields_of_a_message(fields: dict[str, Any]) -> None:
    """Calls and images are lists."""
    with pytest.raises(RequestError):
        of("x", **fields)


def test_items_of_responses() -> None:
    """Messages, calls, their output, reasoning and items that we do not know."""
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "c"},
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "d"}], "encrypted_content": "e"},
        {"type": "novel", "x": "f"},
    ]
    read = read_items(items, None)
    assert [(message.role, message.texts) for message in read] == [
        ("user", ("a",)),
        ("assistant", ("b",)),
        ("assistant", ("f", "{}")),
        ("tool", ("c",)),
        ("assistant", ("d",)),
        ("assistant", ()),
    ]
    assert [message.extras for message in read][2:] == [
        ("function_call", "1"),
        ("function_call_output", "1"),
        ("reasoning", "r", "summary_text", "e"),
        ("novel", "f"),
    ]


@pytest.mark.parametrize("item", [1, "a", None, {"role": 1}, {"type": "message", "content": 1}])
def test_broken_items(item: object) -> None:
    """An item is an object with a role that is a text."""
    with pytest.raises(RequestError):
        read_items([item], None)


def test_a_system_prompt_of_blocks() -> None:
    """Anthropic's system prompt may have parts."""
    read = read_anthropic([], [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}])
    assert read == (Message("system", ("a",), (), ("ephemeral",)),)
    assert read_anthropic([], None) == ()


def test_one_text() -> None:
    """A text, or an object with texts."""
    assert one_text("a", "query").texts == ("a",)
    assert one_text({"content": [{"text": "a"}]}, "query").texts == ("a",)
    with pytest.raises(RequestError):
        one_text(1, "query")


def test_the_head_is_bounded() -> None:
    """A megabyte of system prompt gives a head of a few kilobytes."""
    head = affinity_head((Message("developer", ("a" * 10**6,)), Message("user", ("b" * 10**6,))))
    assert len(head) == 2 * 4096 + 1
    assert affinity_head(()) == affinity_head((Message("assistant", ("x",)),)) == ""
