"""Our counts of plain texts beside those of the reference tokenizers, text by text."""

import base64
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tiktoken

from bench.conversations import Conversation
from bench.counts_report import Vocabulary
from gpubalancer.brain.content import read_content
from gpubalancer.brain.tokens.vocabularies import load, reference
from tests.brain.tokens.texts import TEXTS

# How Llama 3 and Qwen split text before merging, as they publish it.
_SPLIT = (
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"""
    r"""|\s+(?!\S)|\s+"""
)


def against_references(asked: Sequence[Conversation], llama3: Path | None, qwen: Path | None) -> list[Vocabulary]:
    """Each vocabulary over the texts of the tests and those of all conversations.

    Arguments:
        asked: the conversations.
        llama3: Llama 3's `tokenizer.model`, whose lines are base64 and rank; None to leave it out.
        qwen: Qwen's `qwen.tiktoken`, of the same form.
    """
    texts = list(dict.fromkeys((*TEXTS.values(), *_texts(asked))))
    compared = [
        _compared(name, "tiktoken, OpenAI's files", reference(name), texts) for name in ("cl100k_base", "o200k_base")
    ]
    if llama3 is not None:
        compared.append(_compared("llama3", f"tiktoken, Meta's {llama3.name}", _of_file(llama3, "{1,3}"), texts))
    if qwen is not None:
        compared.append(_compared("qwen3", f"tiktoken, Alibaba's {qwen.name}", _of_file(qwen, ""), texts, _composed))
    return compared


def _texts(asked: Sequence[Conversation]) -> Iterator[str]:
    for conversation in asked:
        content = read_content("chat", conversation.body)
        for message in content.messages:
            yield from message.texts
        yield from content.tools


def _composed(text: str) -> str:
    """Qwen's tokenizer normalises before it splits."""
    return unicodedata.normalize("NFC", text)


def _of_file(path: Path, digits: str) -> tiktoken.Encoding:
    lines = [line.split() for line in path.read_bytes().splitlines() if line]
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    return tiktoken.Encoding(path.stem, pat_str=_SPLIT % digits, mergeable_ranks=ranks, special_tokens={})


def _compared(
    name: str, source: str, expected: Any, texts: Sequence[str], before: Callable[[str], str] = str
) -> Vocabulary:
    tokenizer = load(name)
    pairs = [(tokenizer.encode(text), tokenizer.count(text), expected.encode_ordinary(before(text))) for text in texts]
    same = sum(ours == theirs and counted == len(theirs) for ours, counted, theirs in pairs)
    return Vocabulary(name, source, len(texts), same, sum(len(theirs) for _, _, theirs in pairs))
