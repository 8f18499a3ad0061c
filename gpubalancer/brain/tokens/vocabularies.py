"""Tokenizers by name, out of packages that are on disk. Nothing is ever fetched.

| names | vocabulary | from |
|---|---|---|
| `cl100k_base`, `o200k_base`, OpenAI's models | OpenAI's own | quicktok, else tiktoken with bpe-openai's files |
| `llama3`, `llama3.1`, `llama3.2`, `llama3.3` | Llama 3's 128,000 tokens | quicktok |
| `qwen2`, `qwen2.5`, `qwen3` | Qwen's 151,643 tokens | quicktok |
| a path ending in `.json` | that file, in Hugging Face's form | tokenizers (`tokens/huggingface.py`) |

quicktok is preferred for its speed (*measured*: 10 times tiktoken's) and because it releases the interpreter's lock;
tiktoken is what tests compare it with, and what counts where quicktok has no wheel. Loading reads files and takes up to
half a second; what is loaded is safe in any thread.
"""

import base64
import gzip
import importlib
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import tiktoken

from gpubalancer.brain.tokens.huggingface import load_file
from gpubalancer.brain.tokens.marks import bounded_marks
from gpubalancer.brain.tokens.templates import CHATML, LLAMA3, LLAMA31, OPENAI, QWEN2, QWEN25
from gpubalancer.brain.tokens.tokenizer import Template, Tokenizer, TokenizerError

# How much is counted at once on the loop and in a thread. Worst texts (*measured*, ns per byte): quicktok 212 (random
# letters), tiktoken 1,100 (one letter repeated). So the loop is held for 2.6 ms at most, a thread for 0.3 s.
_QUICKTOK_LOOP_BYTES, _QUICKTOK_THREAD_BYTES = 12 * 1024, 1024 * 1024
_TIKTOKEN_LOOP_BYTES, _TIKTOKEN_THREAD_BYTES = 2 * 1024, 256 * 1024
_QUICKTOK_CACHED_CHARS = 512
"""quicktok counts shorter texts as fast as they are hashed and looked up."""
_TIKTOKEN_CACHED_CHARS = 32


class _Vocabulary(NamedTuple):
    name: str
    """quicktok's name, and that of bpe-openai's file where there is one."""
    template: Template
    per_text: int = 0
    """Special tokens put around a prompt that is no conversation."""


NAMES: Mapping[str, _Vocabulary] = {
    "cl100k_base": _Vocabulary("cl100k_base", OPENAI),
    "o200k_base": _Vocabulary("o200k_base", OPENAI),
    "llama3": _Vocabulary("llama3", LLAMA3, 1),
    "llama3.1": _Vocabulary("llama3", LLAMA31, 1),
    "llama3.2": _Vocabulary("llama3", LLAMA31, 1),
    "llama3.3": _Vocabulary("llama3", LLAMA31, 1),
    "qwen2": _Vocabulary("qwen3", QWEN2),
    "qwen2.5": _Vocabulary("qwen3", QWEN25),
    "qwen3": _Vocabulary("qwen3", CHATML),
}

# The patterns that OpenAI's encodings split text by before merging (tiktoken, tiktoken_ext/openai_public.py), in parts.
_ENDS = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
_UPPER, _LOWER = r"""\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}""", r"""\p{Ll}\p{Lm}\p{Lo}\p{M}"""
_LEAD = r"""[^\r\n\p{L}\p{N}]?"""
PATTERNS: Mapping[str, str] = {
    "cl100k_base": (
        r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|"""
        r"""\s+(?!\S)|\s"""
    ),
    "o200k_base": (
        rf"""{_LEAD}[{_UPPER}]*[{_LOWER}]+{_ENDS}|{_LEAD}[{_UPPER}]+[{_LOWER}]*{_ENDS}|\p{{N}}{{1,3}}"""
        r"""| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
    ),
}


def known(name: str) -> bool:
    """True if a tokenizer of this name can be loaded here, or a file of this name exists."""
    if name.endswith(".json"):
        return Path(name).is_file()
    return _entry(name) is not None


def load(name: str) -> Tokenizer:
    """The tokenizer of this name.

    Raises:
        TokenizerError: there is none of this name, or what it needs is not installed.
    """
    if name.endswith(".json"):
        return load_file(Path(name))
    entry = _entry(name)
    if entry is None:
        raise TokenizerError(
            f"no tokenizer {name!r}: expected {', '.join(NAMES)}, an OpenAI model or a file ending in .json"
        )
    return _from_quicktok(name, entry) if _quicktok() is not None else _from_tiktoken(name, entry)


def _entry(name: str) -> _Vocabulary | None:
    entry = NAMES.get(name)
    if entry is None:
        try:
            entry = NAMES.get(tiktoken.encoding_name_for_model(name))
        except KeyError:
            return None
    return entry


def _quicktok() -> Any:
    """The module, which has no types; None where it is not installed."""
    try:
        return importlib.import_module("quicktok")
    except ImportError:
        return None


def _from_quicktok(name: str, entry: _Vocabulary) -> Tokenizer:
    encoding = _quicktok().get_encoding(entry.name)
    count, encode = encoding.count, encoding.encode_ordinary
    if entry.name == "qwen3":
        # Its normalisation (NFC) is quadratic in a run of marks: *measured*, 13 s for 100,000 of them.
        def count(text: str) -> int:
            counted: int = encoding.count(bounded_marks(text))
            return counted

        def encode(text: str) -> list[int]:
            tokens: list[int] = encoding.encode_ordinary(bounded_marks(text))
            return tokens

    return Tokenizer(
        name,
        count,
        encode,
        entry.template,
        _QUICKTOK_LOOP_BYTES,
        _QUICKTOK_THREAD_BYTES,
        _QUICKTOK_CACHED_CHARS,
        entry.per_text,
    )


def _from_tiktoken(name: str, entry: _Vocabulary) -> Tokenizer:
    encoding = reference(entry.name)
    return Tokenizer(
        name,
        lambda text: len(encoding.encode_ordinary(text)),
        encoding.encode_ordinary,
        entry.template,
        _TIKTOKEN_LOOP_BYTES,
        _TIKTOKEN_THREAD_BYTES,
        _TIKTOKEN_CACHED_CHARS,
        entry.per_text,
    )


@cache
def reference(vocabulary: str) -> tiktoken.Encoding:
    """An OpenAI vocabulary (`cl100k_base`, `o200k_base`) by tiktoken, out of bpe-openai's files.

    Raises:
        TokenizerError: another vocabulary, or bpe-openai is not installed.
    """
    if vocabulary not in PATTERNS:
        raise TokenizerError(f"the vocabulary of {vocabulary} comes with quicktok-v1, which is not installed")
    # Found, not imported: the package's own code is 74 MB that we have no use for.
    found = importlib.util.find_spec("bpe_openai")
    if found is None or not found.submodule_search_locations:
        raise TokenizerError("the package bpe-openai, which holds the vocabularies, is not installed")
    file = Path(found.submodule_search_locations[0], "data", f"{vocabulary}.tiktoken.gz")
    lines = gzip.decompress(file.read_bytes()).splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    return tiktoken.Encoding(vocabulary, pat_str=PATTERNS[vocabulary], mergeable_ranks=ranks, special_tokens={})
