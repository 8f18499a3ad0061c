"""How an answer ended, read from its last bytes.

`[DONE]` is not success: vLLM sends `"finish_reason": "abort"` and then `[DONE]` when it is stopped, and other engines
never send it. So the end of the message, the finish reason and the usage decide.
"""

import json
import re
from dataclasses import dataclass

TAIL_BYTES = 4096
"""Where usage is looked for; a usage object is about 200 bytes, and a finish chunk about 300."""

_USAGE = b'"usage"'
_ABORTED = re.compile(rb'"finish_reason"\s*:\s*"abort"')
_DECODER = json.JSONDecoder()
_PROMPT = ("prompt_tokens", "input_tokens")
_COMPLETION = ("completion_tokens", "output_tokens")
_MOST_TOKENS = 10**9


@dataclass(frozen=True, slots=True)
class Usage:
    """What an engine says an answer took."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


def read_usage(tail: bytes) -> Usage | None:
    """The last usage object in the end of an answer; None if there is none that makes sense."""
    named = tail.rfind(_USAGE)
    start = tail.find(b"{", named)
    if named < 0 or start < 0 or tail[named + len(_USAGE) : start].strip() != b":":
        return None
    try:
        fields, _ = _DECODER.raw_decode(tail[start:].decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    details = fields.get("prompt_tokens_details") or fields.get("input_tokens_details") or {}
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(_tokens(fields, _PROMPT), _plausible(cached), _tokens(fields, _COMPLETION))


def _tokens(fields: dict[str, object], names: tuple[str, ...]) -> int:
    return next((_plausible(fields[name]) for name in names if name in fields), 0)


def _plausible(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS else 0


def was_aborted(tail: bytes) -> bool:
    """True if the engine gave the request up although it ended the message."""
    return b'"abort"' in tail and _ABORTED.search(tail) is not None
