"""What a request's JSON body says: every text of its prompt, its media, and what it asks for in return.

One reader per API turns the parsed body into one frozen `Content`, so that counting, detectors and prefixes need know
no API. Three rules:

* **Nothing crosses unread.** What belongs to the prompt is in `texts` of `messages` and in `tools`; every other string,
  of fields that we do not know as well, is in `extras` of its message or of the whole, where detectors see it and
  tokens are not counted. Left out are roles, the model's name, keys of objects, and the data of media.
* **Only what every engine must refuse is refused**: fields of a wrong type, impossible numbers, nesting that no API
  has. A part of an unknown type is tolerated, and its strings are taken for text.
* **Linear.** Texts are referred to, never copied; of media only the head is decoded; there is no recursion without a
  bound.

A new API is a row in `_READERS`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from gpubalancer.brain.content_fields import Fields, effort, serialised, walk, whole
from gpubalancer.brain.content_messages import (
    SESSION_CHARS,
    affinity_head,
    one_text,
    read_anthropic,
    read_chat,
    read_items,
)
from gpubalancer.brain.content_parts import Message
from gpubalancer.brain.content_prompts import Inputs, read_inputs
from gpubalancer.domain.errors import RequestError

ANSWERS_LIMIT = 16_384
"""Most answers of one request; vLLM refuses more by default (VLLM_MAX_N_SEQUENCES)."""
TOKENS_LIMIT = 2**31 - 1
"""Largest `max_tokens`: engines keep it in 32 bits."""

_PLAIN = frozenset(
    ("model", "n", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens", "tools", "functions")
)
"""Fields that are read for every API alike, as numbers or tools."""
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_SESSION = ("prompt_cache_key", "session_id", "user")

VALUES_LIMIT = 2_000
"""Most values of a body that is read on the event loop: the worst of them take 1 ms to read (*measured*: 0.4 us each),
and 4 ms more for a model's own template that writes every tool twice."""
LOOP_BYTES = 256 * 1024
"""Largest body that is read on the event loop: parsing, hashing and copying a megabyte takes 3 ms together."""


class Content(NamedTuple):
    """A request's prompt and what it asks for."""

    api: str
    """The route's; of Ollama's, `embeddings` for what embeds."""
    messages: tuple[Message, ...] = ()
    """In order, the system prompt first. Each prompt of completions, each input of embeddings, the query and each
    document of rerank is one."""
    tools: tuple[str, ...] = ()
    """The JSON text of each tool."""
    extras: tuple[str, ...] = ()
    """Strings outside of messages and tools; for detectors, not counted as tokens."""
    token_ids: int = 0
    """Tokens of prompts that were given as token ids."""
    answers: int = 1
    """`n` or `best_of`, times the number of prompts."""
    inputs: int = 1
    """Prompts, inputs or documents of a batch; 1 for a conversation."""
    max_tokens: int | None = None
    """The client's own limit on one answer, None where it sets none."""
    reasoning_effort: str | None = None
    affinity: str = ""
    """What all requests of one session share; empty for nothing."""

    @property
    def conversation(self) -> bool:
        """True if a chat template is put around the messages."""
        return self.inputs == 1 and self.api in ("chat", "responses", "messages", "ollama")


class _Prompt(NamedTuple):
    """What an API's own reader finds."""

    read: frozenset[str]
    messages: tuple[Message, ...]
    inputs: int = 1
    token_ids: int = 0


def heavy(body: bytes) -> bool:
    """True if a body should be read in the reader process, not on the event loop.

    That is for its size, or for so many JSON values that it may hold: no body has more values than commas and opening
    brackets, and those are counted at memory speed. A long text with many commas goes there for nothing.
    """
    size_bytes = len(body)
    if size_bytes <= VALUES_LIMIT:
        return False  # shorter than so many values would be
    return size_bytes > LOOP_BYTES or body.count(b",") + body.count(b"[") + body.count(b"{") > VALUES_LIMIT


def read_content(api: str, fields: Fields) -> Content:
    """Everything that a body says of its prompt and its costs.

    Arguments:
        api: of the route (`brain/routes.py`); one that is not known here gives its strings as `extras`.
        fields: the body as `orjson.loads` gives it.

    Raises:
        RequestError: `invalid_json`, with the field at fault as `param`.
    """
    prompt = _READERS.get(api, _read_nothing)(fields)
    extras: list[str] = []
    for key, value in fields.items():
        if key not in _PLAIN and key not in prompt.read and value.__class__ in _HOLDERS:
            walk(value, key, extras)
    answers = 1
    if "n" in fields or "best_of" in fields:
        answers = max(whole(fields, "n", 1, ANSWERS_LIMIT) or 1, whole(fields, "best_of", 1, ANSWERS_LIMIT) or 1)
    return Content(
        "embeddings" if api == "ollama" and "input" in fields else api,
        prompt.messages,
        _tools(fields) if "tools" in fields or "functions" in fields else (),
        tuple(extras),
        prompt.token_ids,
        answers * prompt.inputs if api == "completions" else answers,
        prompt.inputs,
        _max_tokens(api, fields),
        effort(fields),
        _affinity(fields, prompt.messages),
    )


_HOLDERS = frozenset((str, list, dict))
_ANTHROPIC = frozenset(("messages", "system"))
_CHAT = frozenset(("messages",))
_RESPONSES = frozenset(("input", "instructions"))


def _read_chat(fields: Fields) -> _Prompt:
    return _Prompt(_CHAT, read_chat(fields.get("messages", [])))


def _read_messages(fields: Fields) -> _Prompt:
    return _Prompt(_ANTHROPIC, read_anthropic(fields.get("messages", []), fields.get("system")))


def _read_responses(fields: Fields) -> _Prompt:
    return _Prompt(_RESPONSES, read_items(fields.get("input"), fields.get("instructions")))


def _batch(fields: Fields, names: tuple[str, ...], alone: tuple[str, ...] = ()) -> _Prompt:
    """Prompts or inputs from the first field of `names` that is given, then each field of `alone` as one text."""
    batch = Inputs()
    for name in names:
        if fields.get(name) is not None:
            batch = read_inputs(fields[name], name)
            break
    single = tuple(one_text(fields[name], name) for name in alone if fields.get(name) is not None)
    return _Prompt(frozenset((*names, *alone)), single + batch.messages, max(batch.size, 1), batch.token_ids)


def _read_completions(fields: Fields) -> _Prompt:
    return _batch(fields, ("prompt",), ("suffix",))


def _read_embeddings(fields: Fields) -> _Prompt:
    if "messages" in fields:
        return _read_chat(fields)
    return _batch(fields, ("input", "content"))


def _read_rerank(fields: Fields) -> _Prompt:
    return _batch(fields, ("documents", "texts"), ("query",))


def _read_speech(fields: Fields) -> _Prompt:
    return _batch(fields, ("input",), ("instructions",))


def _read_image(fields: Fields) -> _Prompt:
    return _batch(fields, ("prompt",))


def _read_ollama(fields: Fields) -> _Prompt:
    if "messages" in fields:
        return _read_chat(fields)
    if "input" in fields:
        return _batch(fields, ("input",))
    prompt = _batch(fields, ("prompt",), ("system", "suffix", "template"))
    context = read_inputs(fields["context"], "context") if fields.get("context") else Inputs()
    images = read_chat([{"role": "user", "images": fields["images"]}]) if fields.get("images") else ()
    read = prompt.read | {"context", "images"}
    return _Prompt(read, prompt.messages + images, 1, prompt.token_ids + context.token_ids)


def _read_nothing(fields: Fields) -> _Prompt:
    return _Prompt(frozenset(), ())


_READERS: Mapping[str, Callable[[Fields], _Prompt]] = {
    "chat": _read_chat,
    "completions": _read_completions,
    "responses": _read_responses,
    "embeddings": _read_embeddings,
    "rerank": _read_rerank,
    "messages": _read_messages,
    "audio": _read_speech,
    "images": _read_image,
    "ollama": _read_ollama,
}


def _tools(fields: Fields) -> tuple[str, ...]:
    """Tools and the older functions, each as JSON text."""
    found: list[str] = []
    for name in ("tools", "functions"):
        listed = fields.get(name)
        if listed is None:
            continue
        if not isinstance(listed, list):
            raise RequestError("invalid_json", f"{name} must be a list.", param=name)
        found += [serialised(tool, name) for tool in listed]
    return tuple(found)


def _max_tokens(api: str, fields: Fields) -> int | None:
    """The largest limit that is given: engines differ in which of two they follow."""
    if api == "ollama":
        options = fields.get("options")
        # Negative numbers mean "no limit" to Ollama.
        limit = whole(options, "num_predict", -2, TOKENS_LIMIT) if isinstance(options, dict) else None
        return limit if limit is not None and limit >= 0 else None
    given = [
        limit for name in _LIMITS if name in fields and (limit := whole(fields, name, -1, TOKENS_LIMIT)) is not None
    ]
    # -1 means "no limit" to llama.cpp; others refuse it themselves.
    return max(given) if given and min(given) >= 0 else None


def _affinity(fields: Fields, messages: tuple[Message, ...]) -> str:
    for name in _SESSION:
        value = fields.get(name)
        if value and isinstance(value, str):
            return value[:SESSION_CHARS]
    return affinity_head(messages)
