"""Messages of a conversation, in the shapes of chat completions (and Ollama's chat), Responses and Anthropic.

Each API adds only its frame to the parts that all share (`content_parts.py`): where the system prompt stands, and what
a call of a tool looks like.
"""

from gpubalancer.brain.content_fields import Fields, refuse, serialised, walk
from gpubalancer.brain.content_parts import Found, Message, found, read_link, read_parts

SESSION_CHARS = 4096
"""Of a session's key, and of each text of a conversation's head: what is behind makes no difference."""


def one_text(value: object, where: str) -> Message:
    """A field that must be one text, or an object with texts, as a message."""
    if isinstance(value, str):
        return Message("user", (value,))
    if not isinstance(value, dict | list):
        raise refuse(where, "a text")
    texts: list[str] = []
    walk(value, where, texts)
    return Message("user", tuple(texts))


def affinity_head(messages: tuple[Message, ...]) -> str:
    """The conversation's head: the first system and the first user message, the start of each."""
    head: dict[str, str] = {}
    for message in messages:
        role = "system" if message.role == "developer" else message.role
        if role in ("system", "user") and role not in head:
            head[role] = next(iter(message.texts), "")[:SESSION_CHARS]
            if role == "user":
                break
    return "\n".join(head.values())


# Chat completions, and Ollama's chat, which adds `images`.

_PROMPT_FIELDS = frozenset(("name", "reasoning", "reasoning_content", "thinking", "refusal", "tool_name"))
"""Fields of a message, beside its content and calls, that templates write into the prompt."""


def read_chat(messages: object) -> tuple[Message, ...]:
    """The messages of a chat.

    Raises:
        RequestError: `invalid_json`.
    """
    if not isinstance(messages, list):
        raise refuse("messages", "a list")
    return tuple([_chat_message(message, index) for index, message in enumerate(messages)])


def _chat_message(message: object, index: int) -> Message:
    if not isinstance(message, dict):
        raise refuse(f"messages[{index}]", "an object")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str):
        raise refuse(f"messages[{index}].role", "a text")
    if isinstance(content, str) and len(message) == 2:
        return Message(role, (content,))
    into = found()
    read_parts(content, f"messages[{index}].content", into)
    contents, plain = len(into.texts), True
    for key, value in message.items():
        if key not in ("role", "content") and value is not None:
            plain = False
            _message_field(key, value, f"messages[{index}].{key}", into)
    if plain:
        return into.message(role)
    return Message(role, tuple(into.texts), tuple(into.media), tuple(into.extras), message, contents)


def _message_field(key: str, value: object, where: str, into: Found) -> None:
    """What a message says beside its content."""
    if key in ("tool_calls", "images"):
        if not isinstance(value, list):
            raise refuse(where, "a list")
        for each in value:
            if key == "images":
                read_link(each, "", where, into)
            else:
                _tool_call(each, where, into)
    elif key == "function_call":
        _tool_call({"function": value}, where, into)
    else:
        walk(value, where, into.texts if key in _PROMPT_FIELDS else into.extras)


def _tool_call(call: object, where: str, into: Found) -> None:
    if not isinstance(call, dict):
        raise refuse(where, "a list of objects")
    for key, value in call.items():
        if key == "function" and isinstance(value, dict):
            _function(value, where, into)
        else:
            walk(value, where, into.extras if key in ("id", "type") else into.texts)


def _function(function: Fields, where: str, into: Found) -> None:
    for key, value in function.items():
        if key not in ("name", "arguments") or value is None:
            walk(value, where, into.extras)
        else:
            into.texts.append(value if isinstance(value, str) else serialised(value, where))


# Responses.

_ITEM_PARTS = frozenset(("content", "output", "summary"))
_ITEM_TEXTS = frozenset(("name", "arguments", "input", "action", "code", "query", "queries"))


def read_items(value: object, instructions: object) -> tuple[Message, ...]:
    """Responses' `instructions` and `input`.

    Raises:
        RequestError: `invalid_json`.
    """
    messages = []
    if instructions is not None:
        if not isinstance(instructions, str):
            raise refuse("instructions", "a text")
        messages.append(Message("system", (instructions,)))
    if isinstance(value, str):
        messages.append(Message("user", (value,)))
    elif isinstance(value, list):
        messages.extend([_item(item, f"input[{index}]") for index, item in enumerate(value)])
    elif value is not None:
        raise refuse("input", "a text or a list")
    return tuple(messages)


def _item(item: object, where: str) -> Message:
    if not isinstance(item, dict):
        raise refuse(where, "an object")
    role = item.get("role")
    if role is None:
        # Calls are the model's own words; what comes back from a tool is not.
        role = "tool" if str(item.get("type", "")).endswith("_output") else "assistant"
    if not isinstance(role, str):
        raise refuse(f"{where}.role", "a text")
    into = found()
    for key, value in item.items():
        if key in _ITEM_PARTS:
            read_parts(value, f"{where}.{key}", into)
        elif key != "role":
            walk(value, where, into.texts if key in _ITEM_TEXTS else into.extras)
    return into.message(role)


# Anthropic.


def read_anthropic(messages: object, system: object) -> tuple[Message, ...]:
    """Anthropic's `system` and `messages`.

    Raises:
        RequestError: `invalid_json`.
    """
    if system is None:
        return read_chat(messages)
    into = found()
    read_parts(system, "system", into)
    return (into.message("system"), *read_chat(messages))
