"""What a tokenizer is to the rest: two functions, a chat template, and how much text it may be given at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gpubalancer.brain.content import Content

Family = Literal["openai", "anthropic", "other"]
"""Whose rules the costs of images and sound follow."""


class TokenizerError(ValueError):
    """A tokenizer can't be loaded; the message is for the operator."""


class Rendered(NamedTuple):
    """A prompt as its engine reads it."""

    segments: Sequence[str]
    """Texts between special tokens: each is tokenized for itself, so that each is counted, and cached, for itself."""
    tokens: int
    """Special tokens, and everything else of a fixed size."""


@dataclass(frozen=True, slots=True)
class Template:
    """What an engine puts around a conversation's messages."""

    name: str
    render: Callable[[Content], Rendered]
    family: Family = "other"


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """One vocabulary with one chat template. Safe in any thread."""

    name: str
    count: Callable[[str], int]
    """Tokens of a text. Where the text spells a special token, it is read as text."""
    encode: Callable[[str], list[int]]
    template: Template
    loop_bytes: int
    """So much text is counted within 3 ms, whatever it is."""
    thread_bytes: int
    """So much text is worth counting in a thread."""
    cached_chars: int
    """Texts from this length on are faster looked up than counted."""
    per_text: int = 0
    """Special tokens around a prompt that is no conversation."""
