"""Vocabularies are compared text by text, with their references' own files where those are given."""

import base64
from pathlib import Path

import pytest

from bench.conversations import Conversation
from bench.vocabularies import against_references
from tests.brain.tokens.texts import TEXTS

quicktok = pytest.importorskip("quicktok")
ASKED = [Conversation({"messages": [{"role": "user", "content": "hello there"}], "tools": [{"a": 1}]}, frozenset())]


def file_of(vocabulary: str, path: Path) -> Path:
    """A vocabulary in tiktoken's form."""
    encoding = quicktok.get_encoding(vocabulary)
    tokens = (encoding.decode_single_token_bytes(rank) for rank in range(len(encoding.token_byte_values())))
    path.write_bytes(b"".join(b"%b %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(tokens)))
    return path


def test_all_are_the_same(tmp_path: Path) -> None:
    """OpenAI's are always compared, Llama 3's and Qwen's with the files that are given."""
    llama3, qwen = file_of("llama3", tmp_path / "llama3"), file_of("qwen3", tmp_path / "qwen")
    compared = against_references(ASKED, llama3, qwen)
    assert [one.name for one in compared] == ["cl100k_base", "o200k_base", "llama3", "qwen3"]
    assert all(one.texts == one.same == len(set(TEXTS.values())) + 2 for one in compared)
    assert [one.name for one in against_references(ASKED, None, None)] == ["cl100k_base", "o200k_base"]


def test_another_vocabulary_is_noticed(tmp_path: Path) -> None:
    """Llama 3's texts are not those of Qwen's file."""
    compared = against_references(ASKED, file_of("qwen3", tmp_path / "qwen"), None)
    assert compared[2].same < compared[2].texts
