"""What a chat template is given: messages and tools in the shape that vLLM brings them to, field by field.

* Content is one text, its parts joined by newlines, empty ones left out; or a list of parts for a template that loops
  over them, except what a tool gave. Nothing is an empty text.
* Of an assistant's calls, the arguments are objects, not JSON text; what is no object becomes an empty one.
* `developer` becomes `system` for a template that does not know it, and all system messages one, the first.
* A tool has `description` and `parameters` even where the client gave none, and no fields that the API has not.

What came by Anthropic's API or Responses has no fields here (`Message.fields`): each message is one text with its calls
and results in it, which is off by what a template puts around those.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from gpubalancer.brain.content_parts import Message

Turn = dict[str, Any]


class Form(NamedTuple):
    """What a template expects."""

    parts: bool
    """Content as a list of parts."""
    knows_developer: bool


def turns_of(messages: Sequence[Message], form: Form) -> list[Turn]:
    """The messages as a template takes them."""
    turns = [_turn(message, form.parts) for message in messages]
    if form.knows_developer or all(turn["role"] != "developer" for turn in turns):
        return turns
    return _with_one_system(turns)


def tools_of(tools: Sequence[str]) -> list[object] | None:
    """The tools, each out of its JSON text; None if there are none."""
    return [_tool(orjson.loads(tool)) for tool in tools] or None


def _turn(message: Message, as_parts: bool) -> Turn:
    fields = message.fields
    texts = message.texts if fields is None else message.texts[: message.contents]
    turn: Turn = {"role": message.role}
    if as_parts and message.role != "tool":
        turn["content"] = [{"type": "text", "text": text} for text in texts]
    else:
        turn["content"] = "\n".join([text for text in texts if text])
    if fields is None:
        return turn
    if isinstance(fields.get("name"), str):
        turn["name"] = fields["name"]
    if message.role == "assistant":
        _add_assistant(fields, turn)
    elif message.role == "tool" and "tool_call_id" in fields:
        turn["tool_call_id"] = fields["tool_call_id"]
    return turn


def _add_assistant(fields: Mapping[str, Any], turn: Turn) -> None:
    calls, reasoning = fields.get("tool_calls"), fields.get("reasoning", fields.get("reasoning_content"))
    if calls:
        turn["tool_calls"] = [_call(call) for call in calls]
    if reasoning is not None:
        turn["reasoning"] = turn["reasoning_content"] = reasoning


def _call(call: Mapping[str, Any]) -> Turn:
    function = call.get("function")
    if not isinstance(function, dict):
        return dict(call)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments)
        except orjson.JSONDecodeError:
            arguments = None
    return {**call, "function": {**function, "arguments": arguments if isinstance(arguments, dict) else {}}}


def _with_one_system(turns: Sequence[Turn]) -> list[Turn]:
    system: list[str] = []
    others: list[Turn] = []
    for turn in turns:
        if turn["role"] not in ("system", "developer"):
            others.append(turn)
        elif turn["content"]:
            content = turn["content"]
            system.append(content if isinstance(content, str) else "\n".join(part["text"] for part in content))
    if len(turns) - len(others) == 1 and turns[0]["role"] == "developer":
        return [{**turns[0], "role": "system"}, *others]
    return [{"role": "system", "content": "\n\n".join(system)}, *others]


_OPTIONAL = ("strict", "defer_loading")


def _tool(tool: Any) -> object:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        return tool
    given = {name: function[name] for name in _OPTIONAL if function.get(name) is not None}
    described = {name: function.get(name) for name in ("name", "description", "parameters")}
    return {"type": tool.get("type", "function"), "function": {**described, **given}}
