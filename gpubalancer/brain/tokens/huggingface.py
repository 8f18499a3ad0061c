"""A tokenizer out of a `tokenizer.json`, with the chat template that stands beside it.

The engine's own files are used, so counts are the engine's. `tokenizers` holds the interpreter's lock while it encodes
one text and releases it for a batch (*measured*: 28 ms and 1 ms of a 30 ms text), so a batch of one is what is asked
for where it is worth it. The template is `chat_template.jinja`, or `chat_template` in `tokenizer_config.json`.

Texts between special tokens are counted for themselves only if that gives the same numbers: a few old tokenizers put a
blank in front of every text. That is tried out when the file is loaded.
"""

import importlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from gpubalancer.brain.tokens.chat_template import ChatTemplate
from gpubalancer.brain.tokens.templates import PLAIN
from gpubalancer.brain.tokens.tokenizer import Template, Tokenizer, TokenizerError

_LOOP_BYTES, _THREAD_BYTES = 4 * 1024, 256 * 1024
"""*Measured* with a small BPE: 0.3 us per byte of code, 0.3 us per byte of one letter."""
_CACHED_CHARS = 1
_BATCH_CHARS = 4 * 1024
"""From here on the interpreter's lock is worth releasing."""
Encode = Callable[[str], list[int]]
_TRIALS = (
    "Hello, world",
    " leading",
    "tail \n",
    "\n\n\nlines\n",
    "a  b\tc",
    "1234567",
    "\u4e2d\u6587 \U0001f600",
    "'s",
)


def load_file(path: Path) -> Tokenizer:
    """The tokenizer of a file.

    Raises:
        TokenizerError: the file is missing or no tokenizer, or `tokenizers` is not installed.
    """
    try:
        library = importlib.import_module("tokenizers")
    except ImportError:
        raise TokenizerError(f"{path} needs the package tokenizers: pip install 'gpubalancer[huggingface]'") from None
    document = _json(path)
    with _Translated(path):
        engine = library.Tokenizer.from_str(path.read_text())
    engine.no_truncation()
    engine.no_padding()

    def encode(text: str) -> list[int]:
        ids: list[int] = engine.encode(text, add_special_tokens=False).ids
        return ids

    def count(text: str) -> int:
        if len(text) < _BATCH_CHARS:
            return len(encode(text))
        return len(engine.encode_batch_fast([text], add_special_tokens=False)[0])

    return Tokenizer(
        str(path),
        count,
        encode,
        _template(path, document, encode),
        _LOOP_BYTES,
        _THREAD_BYTES,
        _CACHED_CHARS,
        engine.num_special_tokens_to_add(is_pair=False),
    )


def _template(path: Path, document: Mapping[str, Any], encode: Encode) -> Template:
    beside = path.with_name("tokenizer_config.json")
    settings = _json(beside) if beside.is_file() else {}
    file = path.with_name("chat_template.jinja")
    source = file.read_text() if file.is_file() else _default(settings.get("chat_template"))
    if source is None:
        return PLAIN
    specials = _specials(document)
    separable = specials and _adds_up(specials[0], encode)
    separator = re.compile("|".join(map(re.escape, specials))) if separable else None
    return Template(path.name, ChatTemplate(source, _names(settings), separator).render)


class _Translated:
    """What tokenizers raises for a file that it can't use: an exception of no class of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if kind is Exception:
            raise TokenizerError(f"{self._path} is no tokenizer that can be used here: {error}") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise TokenizerError(f"{path} can't be read: {error}") from None
    if not isinstance(found, dict):
        raise TokenizerError(f"{path} can't be read: it is no JSON object")
    return found


def _default(templates: object) -> str | None:
    """The template for conversations; some models have several by name."""
    if isinstance(templates, list):
        templates = {each.get("name"): each.get("template") for each in templates}.get("default")
    return templates if isinstance(templates, str) else None


def _names(settings: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token` and its like, which templates write by name."""
    named = {key: value for key, value in settings.items() if key.endswith("_token")}
    texts = {key: value.get("content") if isinstance(value, dict) else value for key, value in named.items()}
    return {key: text for key, text in texts.items() if isinstance(text, str)}


def _specials(document: Mapping[str, Any]) -> list[str]:
    """Texts of the special tokens, longest first; none if one of them also takes what stands beside it."""
    added = document.get("added_tokens") or []
    if any(token.get("lstrip") or token.get("rstrip") or token.get("single_word") for token in added):
        return []
    return sorted((token["content"] for token in added), key=len, reverse=True)


def _adds_up(special: str, encode: Encode) -> bool:
    """True if texts between special tokens have as many tokens for themselves as together."""
    together = len(encode(special.join(_TRIALS)))
    return together == sum(len(encode(text)) for text in _TRIALS) + len(_TRIALS) - 1
