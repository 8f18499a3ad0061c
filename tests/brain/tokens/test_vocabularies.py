"""Vocabularies give the tokens of their references, and nothing is fetched."""

import subprocess
import sys
import unicodedata
from functools import cache

import pytest
import tiktoken

from gpubalancer.brain.tokens import vocabularies
from gpubalancer.brain.tokens.tokenizer import TokenizerError
from gpubalancer.brain.tokens.vocabularies import NAMES, known, load, reference
from tests.brain.tokens.texts import TEXTS, worst

quicktok = pytest.importorskip("quicktok")

# How Llama 3 and Qwen split text before merging, as their own tokenizers publish it.
_SPLIT = (
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"""
    r"""|\s+(?!\S)|\s+"""
)


@cache
def tiktoken_of(vocabulary: str) -> tiktoken.Encoding:
    """The reference for a vocabulary: tiktoken with OpenAI's own files, or with the ranks that quicktok ships."""
    if vocabulary in vocabularies.PATTERNS:
        return reference(vocabulary)
    encoding = quicktok.get_encoding(vocabulary)
    pattern = _SPLIT % ("{1,3}" if vocabulary == "llama3" else "")
    size = len(encoding.token_byte_values())
    ranks = {encoding.decode_single_token_bytes(rank): rank for rank in range(size)}
    return tiktoken.Encoding(vocabulary, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


@pytest.mark.parametrize("vocabulary", ["cl100k_base", "o200k_base", "llama3", "qwen3"])
@pytest.mark.parametrize("name", TEXTS)
def test_counts_are_those_of_tiktoken(vocabulary: str, name: str) -> None:
    """On texts in many scripts each vocabulary gives the very tokens of its reference."""
    text = TEXTS[name]
    # Qwen's tokenizer normalises before it splits.
    given = unicodedata.normalize("NFC", text) if vocabulary == "qwen3" else text
    tokenizer, expected = load(vocabulary), tiktoken_of(vocabulary).encode_ordinary(given)
    assert tokenizer.count(text) == len(expected)
    assert tokenizer.encode(text) == expected


def test_a_million_letters() -> None:
    """One letter a million times has the count of the reference, in less than a second of it."""
    assert load("cl100k_base").count("a" * 10**6) == len(reference("cl100k_base").encode_ordinary("a" * 10**6))


def test_many_marks_are_counted_in_time() -> None:
    """A megabyte of combining marks, which normalising takes minutes to sort, is counted at once."""
    tokenizer, text = load("qwen3"), worst("marks", 1_000_000)
    assert 100_000 < tokenizer.count(text) < 1_000_000
    assert len(tokenizer.encode(text)) == tokenizer.count(text)


@pytest.mark.parametrize("vocabulary", ["cl100k_base", "o200k_base"])
def test_without_quicktok(vocabulary: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where quicktok is not installed, OpenAI's vocabularies are counted by tiktoken."""
    monkeypatch.setitem(sys.modules, "quicktok", None)
    tokenizer = load(vocabulary)
    assert tokenizer.count(TEXTS["english"]) == len(reference(vocabulary).encode_ordinary(TEXTS["english"]))
    assert tokenizer.loop_bytes < 4096


def test_without_quicktok_there_is_no_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocabulary that only quicktok brings names the package that is missing."""
    monkeypatch.setitem(sys.modules, "quicktok", None)
    with pytest.raises(TokenizerError, match="quicktok-v1"):
        load("llama3")


def test_names() -> None:
    """All names of the table and OpenAI's models are known; a file must exist."""
    assert all(known(name) for name in (*NAMES, "gpt-4o", "gpt-4o-mini-2024-07-18", "gpt-4", "text-embedding-3-small"))
    assert not any(known(name) for name in ("", "gpt2", "davinci", "llama", "nothing.json", "../x"))
    assert load("gpt-4o").count("a b") == load("o200k_base").count("a b")


@pytest.mark.parametrize("name", ["nothing", "nothing.json", "gpt2", ""])
def test_unknown_names(name: str) -> None:
    """Loading what there is not says so."""
    with pytest.raises(TokenizerError, match=r"no tokenizer|can't be read"):
        load(name)


def test_no_socket_is_opened() -> None:
    """Loading and counting with every name, and with tiktoken, opens no socket: the process may not."""
    program = """
import socket, sys
def refuse(*_a, **_k): raise AssertionError("a socket")
socket.socket = socket.create_connection = socket.getaddrinfo = refuse
sys.addaudithook(lambda event, _: refuse() if event.startswith("socket.") else None)
from gpubalancer.brain.tokens.vocabularies import NAMES, load, reference
for name in NAMES: assert load(name).count("hello world") == 2
assert len(reference("cl100k_base").encode_ordinary("hello world")) == 2
print("none")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.stdout == "none\n", ended.stderr
