"""A chat template is given what vLLM would give it."""

from typing import Any

from gpubalancer.brain.content_messages import read_anthropic, read_chat
from gpubalancer.brain.tokens.template_turns import Form, tools_of, turns_of

TEXT, PARTS = Form(parts=False, knows_developer=False), Form(parts=True, knows_developer=False)


def turn(form: Form = TEXT, **message: Any) -> dict[str, Any]:
    """What one message becomes."""
    (made,) = turns_of(read_chat([message]), form)
    return made


def parts(*texts: str) -> list[dict[str, str]]:
    """Text parts."""
    return [{"type": "text", "text": text} for text in texts]


def test_content_as_a_text() -> None:
    """Parts are joined by newlines without the empty ones; nothing is an empty text."""
    assert turn(role="user", content="a") == {"role": "user", "content": "a"}
    assert turn(role="user", content=parts("a", "", " b")) == {"role": "user", "content": "a\n b"}
    assert turn(role="user", content=None) == turn(role="user") == turn(role="user", content="")


def test_content_as_parts() -> None:
    """A template that loops over parts gets all of them, and a text as one; what a tool gave is a text all the same."""
    assert turn(PARTS, role="user", content="a")["content"] == parts("a")
    assert turn(PARTS, role="user", content=parts("a", ""))["content"] == parts("a", "")
    assert turn(PARTS, role="user", content=None)["content"] == []
    assert turn(PARTS, role="tool", tool_call_id="1", content=parts("a", "b"))["content"] == "a\nb"


def test_calls() -> None:
    """Arguments are objects; the name of the function is no part of the content."""
    functions: list[dict[str, Any]] = [
        {"name": "f", "arguments": '{"a": 1.5}'},
        {"name": "f", "arguments": {"a": 1.5}},
        {"name": "f", "arguments": "[1]"},
        {"name": "f", "arguments": "{broken"},
        {"name": "f"},
    ]
    calls = [{"id": "1", "type": "function", "function": function} for function in functions]
    made = turn(role="assistant", content=None, tool_calls=[*calls, {"type": "custom"}])
    arguments = [call.get("function", {}).get("arguments") for call in made["tool_calls"]]
    assert arguments == [{"a": 1.5}, {"a": 1.5}, {}, {}, {}, None]
    assert made["content"] == ""
    assert functions[0]["arguments"] == '{"a": 1.5}'


def test_fields_by_role() -> None:
    """A name is everybody's, calls and reasoning are the assistant's, an id is the tool's; nothing else is told."""
    fields: dict[str, Any] = {"content": "x", "name": "n", "tool_call_id": "1", "reasoning": "r", "other": "o"}
    everybody = {"content": "x", "name": "n"}
    assert turn(role="user", tool_calls=[], **fields) == {"role": "user", **everybody}
    assert turn(role="tool", **fields) == {"role": "tool", **everybody, "tool_call_id": "1"}
    reasoning = {"reasoning": "r", "reasoning_content": "r"}
    assert turn(role="assistant", tool_calls=[], **fields) == {"role": "assistant", **everybody, **reasoning}
    assert turn(role="assistant", content="x", reasoning_content="r")["reasoning"] == "r"


def test_developers() -> None:
    """Unless the template knows the role, a developer's message is the system's, and all those are one, the first."""
    user = {"role": "user", "content": "u"}
    alone = read_chat([{"role": "developer", "content": ""}, user])
    assert turns_of(alone, TEXT) == [{"role": "system", "content": ""}, user]
    assert turns_of(alone, Form(parts=False, knows_developer=True))[0]["role"] == "developer"
    several = read_chat([user, {"role": "system", "content": parts("a", "b")}, {"role": "developer", "content": "c"}])
    for form in (TEXT, PARTS):
        first, second = turns_of(several, form)
        assert first == {"role": "system", "content": "a\nb\n\nc"}
        assert second["role"] == "user"
    system = read_chat([user, {"role": "system", "content": "a"}])
    assert [each["role"] for each in turns_of(system, TEXT)] == ["user", "system"]


def test_tools() -> None:
    """What vLLM's own types fill in and leave out; a tool of another kind is left as it is."""
    full = '{"function":{"parameters":{},"name":"f","strict":true,"other":1},"type":"function","cache":1}'
    made: Any = (tools_of([full]) or [])[0]
    function: dict[str, Any] = {"name": "f", "description": None, "parameters": {}, "strict": True}
    assert made == {"type": "function", "function": function}
    assert list(made["function"]) == list(function)
    assert tools_of(['{"type":"web_search"}', "1"]) == [{"type": "web_search"}, 1]
    assert tools_of([]) is None


def test_other_apis() -> None:
    """A message of Anthropic's API is one text, its calls and results included."""
    used = {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}}
    messages = read_anthropic([{"role": "assistant", "content": [{"type": "text", "text": "x"}, used]}], "s")
    assert turns_of(messages, TEXT)[1] == {"role": "assistant", "content": 'x\nf\n{"a":1}'}
