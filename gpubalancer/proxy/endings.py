"""How an answer ended, read from its last bytes.

`[DONE]` is not success: vLLM sends `"finish_reason": "abort"` and then `[DONE]` when it is stopped, and other engines
never send it. And the end of the framing is none either: an engine that dies behind a proxy of its own may end it
neatly. So a stream ended well if, in this order:

1. its last events hold no error of the engine's own and no finish reason that means one, and
2. they hold a finish reason, or the end of the message as the API writes it.

Keys are found by their quotes, which text in an answer can't imitate: there they are escaped.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

ABORTED = "the engine aborted the request"
FAILED = "the engine ended its answer with an error"
UNFINISHED = "the answer ended without a finish reason"

_ABORTED = re.compile(rb'"(?:finish_reason|stop_reason|done_reason)"\s*:\s*"(?:abort|error)"')
_FINISHED = rb'"finish_reason"\s*:\s*"|(?:\A|\n)data:[ ]?\[DONE\]'
_ERROR_EVENT = rb'(?:\A|\n)data:\s*\{\s*"error"\s*:\s*[{"]|(?:\A|\n)event:[ ]?error'


@dataclass(frozen=True, slots=True)
class _Signs:
    """What in the last events of an API's stream says how it ended."""

    good: re.Pattern[bytes]
    error: re.Pattern[bytes]


def _signs(good: bytes, error: bytes) -> _Signs:
    return _Signs(re.compile(good), re.compile(error))


_SIGNS: Mapping[str, _Signs] = MappingProxyType(
    {
        "chat": _signs(_FINISHED, _ERROR_EVENT),
        "completions": _signs(_FINISHED, _ERROR_EVENT),
        "messages": _signs(
            rb'"type"\s*:\s*"message_stop"|"stop_reason"\s*:\s*"', _ERROR_EVENT + rb'|data:\s*\{\s*"type"\s*:\s*"error"'
        ),
        "responses": _signs(
            rb'"type"\s*:\s*"response\.(?:completed|incomplete|cancelled)"',
            _ERROR_EVENT + rb'|"type"\s*:\s*"(?:response\.failed|error)"',
        ),
        "ollama": _signs(rb'"done"\s*:\s*true', rb'(?:\A|\n)\{\s*"error"\s*:'),
    }
)

WATCHED_APIS = frozenset(_SIGNS)
"""The APIs whose streams are known well enough to be judged."""


def fault_of(api: str, last_events: bytes) -> str:
    """What is wrong with how a stream ended, in words; empty if nothing is.

    Arguments:
        api: one of `WATCHED_APIS`.
        last_events: the end of the stream, from the beginning of an event.
    """
    signs = _SIGNS[api]
    if was_aborted(last_events):
        return ABORTED
    if (b"error" in last_events or b"failed" in last_events) and signs.error.search(last_events):
        return FAILED
    return "" if signs.good.search(last_events) else UNFINISHED


def was_aborted(tail: bytes) -> bool:
    """True if the engine gave the request up although it ended the message."""
    return (b'"abort"' in tail or b'"error"' in tail) and _ABORTED.search(tail) is not None
