"""The last events of a stream that its budget ends, in the shape in which each API ends one that reached its length.

They follow the stream that has been sent: its id, its model, the parts of it that are still open. So the last event is
read, and of OpenAI's responses, whose last event repeats the whole answer, all of them. A backend may have sent any
JSON: what has not the shape that its API knows is taken for absent, so that there always is an end.

| API | the end |
|---|---|
| chat, completions | a chunk with `finish_reason: "length"`, the usage if the client asked for it, `[DONE]` |
| messages | the open block's end, `message_delta` with `stop_reason: "max_tokens"`, `message_stop` |
| responses | the open item's end, `response.incomplete` for `max_output_tokens` |
| ollama | a line with `done: true` and `done_reason: "length"` |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson

Fields = dict[str, Any]
REPEATING_APIS = frozenset(("responses",))
"""The APIs whose last event repeats the answer."""
EXACT = 2**53
"""From here on a reader of JSON may round whole numbers (RFC 8259, 6)."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a stream ends, and what of it must be said again.

    Attributes:
        path: of the request.
        sent: whole events that were sent, the last one at least; all of them for `responses`.
        request_id: stands for the answer's id where no event has told one.
        model: likewise.
        answers: how many run side by side.
        prompt_tokens, completion_tokens: what is charged.
        asks_usage: the client wants to be told.
    """

    path: str
    sent: Sequence[bytes]
    request_id: str
    model: str
    answers: int
    prompt_tokens: int
    completion_tokens: int
    asks_usage: bool


def early_end(api: str, cut: Cut) -> bytes:
    """The events that end a stream here; `api` is one whose streams are watched."""
    return _ENDS[api](cut)


def _events(sent: Sequence[bytes]) -> list[Fields]:
    """What the events hold, in their order; those left out that are no JSON objects, or too deep to write again."""
    found = []
    for line in b"".join(sent).splitlines():
        data = line.removeprefix(b"data:").strip()
        if data.startswith(b"{"):
            try:
                fields = orjson.loads(data)
                orjson.dumps(_nested(fields))
            except (orjson.JSONDecodeError, orjson.JSONEncodeError):
                continue
            found.append(fields)
    return found


def _nested(fields: Fields) -> object:
    """As deep as a part of an event gets in `response.incomplete`, and deeper."""
    return [[[[[[fields]]]]]]


def _object(value: object) -> Fields:
    return dict(value) if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int:
    """As far as JSON numbers are whole and exact everywhere."""
    return value if isinstance(value, int) and abs(value) < EXACT else 0


def _sse(fields: Fields, *, named: bool = False) -> bytes:
    name = b"event: %b\n" % str(fields["type"]).encode() if named else b""
    return name + b"data: " + orjson.dumps(fields) + b"\n\n"


def _usage(cut: Cut) -> dict[str, int]:
    total = cut.prompt_tokens + cut.completion_tokens
    return {"prompt_tokens": cut.prompt_tokens, "completion_tokens": cut.completion_tokens, "total_tokens": total}


def _openai(cut: Cut, kind: str, nothing: Fields) -> bytes:
    known: Fields = {"id": cut.request_id, "object": kind, "created": 0, "model": cut.model}
    for event in _events(cut.sent):
        known.update((name, event[name]) for name in (*known, "system_fingerprint") if name in event)
    ended: Fields = {**nothing, "logprobs": None, "finish_reason": "length"}
    choices: list[Fields] = [{"index": index} | ended for index in range(cut.answers)]
    end = _sse({**known, "choices": choices})
    if cut.asks_usage:
        end += _sse({**known, "choices": [], "usage": _usage(cut)})
    return end + b"data: [DONE]\n\n"


def _chat(cut: Cut) -> bytes:
    return _openai(cut, "chat.completion.chunk", {"delta": {}})


def _completions(cut: Cut) -> bytes:
    return _openai(cut, "text_completion", {"text": ""})


def _messages(cut: Cut) -> bytes:
    end, last = b"", (_events(cut.sent) or [{}])[-1]
    if last.get("type") in ("content_block_start", "content_block_delta"):
        end = _sse({"type": "content_block_stop", "index": _number(last.get("index"))}, named=True)
    delta = {"stop_reason": "max_tokens", "stop_sequence": None}
    usage = {"output_tokens": cut.completion_tokens}
    end += _sse({"type": "message_delta", "delta": delta, "usage": usage}, named=True)
    return end + _sse({"type": "message_stop"}, named=True)


def _ollama(cut: Cut) -> bytes:
    last = (_events(cut.sent) or [{}])[-1]
    known: Fields = {name: last[name] for name in ("model", "created_at") if name in last}
    empty: Fields = {"message": {"role": "assistant", "content": ""}} if "chat" in cut.path else {"response": ""}
    counts = {"prompt_eval_count": cut.prompt_tokens, "eval_count": cut.completion_tokens}
    fields: Fields = {"model": cut.model, **known, **empty, "done": True, "done_reason": "length", **counts}
    return orjson.dumps(fields) + b"\n"


def _responses(cut: Cut) -> bytes:
    events = _events(cut.sent)
    created: Fields = next((event["response"] for event in events if isinstance(event.get("response"), dict)), {})
    items, is_open = _items(events)
    number = max((_number(event.get("sequence_number")) for event in events), default=0)
    endings = _item_endings(len(items) - 1, items[-1]) if is_open else []
    response = {
        "id": cut.request_id,
        "object": "response",
        "model": cut.model,
        **created,
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [item | {"status": "incomplete"} if item is items[-1] and is_open else item for item in items],
        "usage": {
            "input_tokens": cut.prompt_tokens,
            "output_tokens": cut.completion_tokens,
            "total_tokens": cut.prompt_tokens + cut.completion_tokens,
        },
    }
    endings.append({"type": "response.incomplete", "response": response})
    return b"".join(
        _sse(ending | {"sequence_number": number + place}, named=True) for place, ending in enumerate(endings, 1)
    )


def _items(events: Sequence[Fields]) -> tuple[list[Fields], bool]:
    """The output so far, and whether its last item has not ended."""
    items: list[Fields] = []
    is_open = False
    for event in events:
        kind = event.get("type")
        if kind == "response.output_item.added":
            items.append(_object(event.get("item")))
            is_open = True
        elif kind == "response.output_item.done" and items:
            items[-1] = _object(event.get("item"))
            is_open = False
        elif is_open:
            _add(items[-1], event)
    return items, is_open


def _add(item: Fields, event: Fields) -> None:
    """Add to an item what an event tells of it."""
    kind, delta = event.get("type"), _text(event.get("delta"))
    parts = _list(item.get("content"))
    if kind == "response.content_part.added":
        item["content"] = [*parts, _object(event.get("part"))]
    elif kind == "response.output_text.delta" and parts:
        part = parts[-1] = _object(parts[-1])
        part["text"] = _text(part.get("text")) + delta
    elif kind == "response.function_call_arguments.delta":
        item["arguments"] = _text(item.get("arguments")) + delta


def _item_endings(index: int, item: Fields) -> list[Fields]:
    """The events that close an item, and the part of it that is open."""
    where = {"output_index": index, "item_id": item.get("id", "")}
    endings: list[Fields] = []
    parts = _list(item.get("content"))
    if parts:
        place, part = {**where, "content_index": len(parts) - 1}, _object(parts[-1])
        if part.get("type") == "output_text":
            endings.append({"type": "response.output_text.done", **place, "text": _text(part.get("text"))})
        endings.append({"type": "response.content_part.done", **place, "part": part})
    done = {"type": "response.output_item.done", "output_index": index, "item": item | {"status": "incomplete"}}
    return [*endings, done]


_ENDS: Mapping[str, Callable[[Cut], bytes]] = MappingProxyType(
    {
        "chat": _chat,
        "completions": _completions,
        "messages": _messages,
        "responses": _responses,
        "ollama": _ollama,
    }
)
