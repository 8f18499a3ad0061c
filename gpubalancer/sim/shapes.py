"""What every API's answer has in common: an answer arrives piece by piece, and each API wraps the pieces its own way.

The server knows only `Shape`. One shape object wraps one answer: the same object serves a stream (`opening`, `piece`
for each token, `closing`) or a whole answer (`unary`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from gpubalancer.sim.engine import Reason

Json = dict[str, Any]
"""A JSON object as Python has it."""


@dataclass(slots=True)
class Usage:
    """Tokens of one call: all prompts, the part of them found in the prefix cache, and the output of all choices."""

    prompt_tokens: int
    cached_tokens: int = 0
    completion_tokens: int = 0

    def openai(self) -> Json:
        """The `usage` object of chat and completions."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "completion_tokens": self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is written around an answer.

    Arguments:
        number: the unique part of its id.
        created: seconds since 1970.
        model: the name that was asked for.
        choices: how many there are.
        include_usage: a stream ends with its usage.
    """

    number: str
    created: int
    model: str
    choices: int = 1
    include_usage: bool = False


@dataclass(slots=True)
class Said:
    """One choice so far: its text and, at its end, the reason."""

    pieces: list[str] = field(default_factory=list)
    reason: Reason | None = None

    @property
    def text(self) -> str:
        """All that has been said."""
        return "".join(self.pieces)


class Shape(Protocol):
    """How one API writes one answer. Bytes are whole server-sent events."""

    def opening(self, usage: Usage) -> bytes:
        """Events before the first token; sent together with it."""

    def piece(self, choice: int, text: str, reason: Reason | None) -> bytes:
        """Events for one token of one choice; `reason` is set on its last one."""

    def closing(self, usage: Usage) -> bytes:
        """Events after the last token, the end mark included."""

    def unary(self, choices: Sequence[Said], usage: Usage) -> Json:
        """The whole answer as one object."""


def event(data: Json) -> bytes:
    """One server-sent event without a name, as OpenAI's chat sends them."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


def named_event(data: Json) -> bytes:
    """One server-sent event named by its `type`, as Anthropic's messages and OpenAI's responses send them."""
    name: str = data["type"]
    return b"event: " + name.encode() + b"\n" + event(data)
