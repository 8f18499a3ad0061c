"""What an answer took in tokens: what the engine reports, held against what we know ourselves.

An engine's report is usually the fact. It may also be missing, broken or wrong, and a tenant is not to pay for that,
nor to profit. **The rule:**

1. Of several reports (as they come, Anthropic's in two parts) the largest of each number counts.
2. A number that is missing, no whole number, or negative is replaced by our own: for the prompt the estimate made
   before sending, for the answer the events counted, or of a whole answer its bytes by `ANSWER_BYTES_PER_TOKEN`.
3. A number outside of what can be true is charged as the nearest that can. An answer has at least what was counted
   where it reports less than a `DIFFERS_FACTOR`-th of that, and at most what the client allowed (`max_tokens` times
   answers) or the model can hold; of a stream also at most `STREAMED_FACTOR` times what was counted and
   `STREAMED_SLACK_TOKENS` more, reasoning that the engine says it hid left out. A prompt has at least one token and at
   most what the model can hold, or `ESTIMATE_FACTOR` times our estimate and `ESTIMATE_SLACK_TOKENS` more where that is
   not known. Cached tokens are part of the prompt.

Whatever falls under 2 or 3, and a total that falls from one report to the next, is a doubt: it is named in the outcome
and counted. Without any doubt the source is `reported`; without any report, or if the answer's number is our own or a
bound, `counted` for a stream; else `estimated`.

Shapes: OpenAI's and Anthropic's `usage` (Anthropic counts cached tokens apart from the rest of the input), Ollama's
`prompt_eval_count` and `eval_count`, llama.cpp's `timings`.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Doubt = Literal["missing", "negative", "huge", "fell", "differs"]
Source = Literal["reported", "counted", "estimated"]

TAIL_BYTES = 4096
"""Where the usage of a whole answer is looked for: it is about 200 bytes, and what follows it less than 1 KiB."""
ANSWER_BYTES_PER_TOKEN = 4
"""English text, by the tokenizers of `brain/tokens`; an answer's JSON makes it an upper estimate."""
DIFFERS_FACTOR = 4
"""Parsers of tool calls make up to three events of one token."""
STREAMED_FACTOR, STREAMED_SLACK_TOKENS = 100, 1_000
"""Speculative engines and vLLM's `stream_interval` put up to some ten tokens into one event."""
ESTIMATE_FACTOR, ESTIMATE_SLACK_TOKENS = 10, 100_000
"""Images and films given by address are not in the estimate."""
MOST_TOKENS = 1_000_000
"""The most that an answer can have where nothing says: the largest context windows."""

_KEY = re.compile(rb'"(usage|timings)"\s*:\s*(?=\{)')
_OLLAMA = re.compile(rb'"((?:prompt_)?eval_count)"\s*:\s*(-?[0-9]{1,18})\b')
_KEYS_TRIED = 8
_DECODER = json.JSONDecoder()
_PROMPT = ("prompt_tokens", "input_tokens", "prompt_eval_count", "prompt_n")
_COMPLETION = ("completion_tokens", "output_tokens", "eval_count", "predicted_n")
_BESIDE_PROMPT = ("cache_read_input_tokens", "cache_creation_input_tokens", "cache_n")
"""Parts of the prompt that are not in the number of `_PROMPT`."""
_CACHED = ("cache_read_input_tokens", "cache_n", "cached_tokens")

GENERATES: Mapping[str, bool] = MappingProxyType(
    {
        "/v1/chat/completions": True,
        "/v1/completions": True,
        "/v1/responses": True,
        "/v1/messages": True,
        "/api/chat": True,
        "/api/generate": True,
        "/v1/embeddings": False,
        "/v1/rerank": False,
        "/api/embed": False,
        "/api/embeddings": False,
    }
)
"""The paths whose answers take tokens, and whether they write any."""


@dataclass(frozen=True, slots=True)
class Report:
    """What an engine said once. None: not there, or no number; the doubts say what was wrong with it."""

    prompt_tokens: int | None = None
    cached_tokens: int = 0
    completion_tokens: int | None = None
    hidden_tokens: int = 0
    """Reasoning that is part of the completion."""
    doubts: frozenset[Doubt] = frozenset()
    tells_cached: bool = False
    """It names cached tokens, be they none."""


@dataclass(frozen=True, slots=True)
class Known:
    """What we know ourselves of an answer."""

    prompt_tokens: int
    """The estimate, or our own tokenizer's count."""
    completion_tokens: int
    """Events counted, or estimated from bytes."""
    streamed: bool
    generates: bool = True
    most_prompt_tokens: int | None = None
    """What the model can hold, None if that is not known."""
    most_completion_tokens: int = MOST_TOKENS


@dataclass(frozen=True, slots=True)
class Charge:
    """What an answer is charged."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    source: Source
    doubts: tuple[Doubt, ...] = ()


def read_report(data: bytes) -> Report | None:
    """The last report in a piece of an answer, in whichever shape; None if there is none."""
    keys = list(_KEY.finditer(data))[-_KEYS_TRIED:]
    # Where llama.cpp gives both, `usage` knows of the cache what `timings` knows, and stands for it.
    for key in sorted(keys, key=lambda each: (each[1] == b"usage", each.start()), reverse=True):
        fields = _object(data[key.end() :])
        if fields is not None:
            return _report(fields)
    found: dict[str, object] = {name.decode(): int(number) for name, number in _OLLAMA.findall(data)}
    return _report(found) if found else None


def _object(data: bytes) -> dict[str, object] | None:
    try:
        fields, _ = _DECODER.raw_decode(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _report(fields: Mapping[str, object]) -> Report:
    doubts: set[Doubt] = set()
    prompt = _number(fields, _PROMPT, doubts)
    beside = [_number(fields, (name,), doubts) or 0 for name in _BESIDE_PROMPT]
    details = _part(fields, "prompt_tokens_details", "input_tokens_details")
    hidden = _number(_part(fields, "completion_tokens_details", "output_tokens_details"), ("reasoning_tokens",), doubts)
    cached = _number({**details, **fields}, _CACHED, doubts)
    return Report(
        prompt_tokens=prompt + sum(beside) if prompt is not None else None,
        cached_tokens=cached or 0,
        completion_tokens=_number(fields, _COMPLETION, doubts),
        hidden_tokens=hidden or 0,
        doubts=frozenset(doubts),
        tells_cached=cached is not None,
    )


def _part(fields: Mapping[str, object], *names: str) -> dict[str, object]:
    parts = (fields.get(name) for name in names)
    return next((part for part in parts if isinstance(part, dict)), {})


def _number(fields: Mapping[str, object], names: Iterable[str], doubts: set[Doubt]) -> int | None:
    value = next((fields[name] for name in names if fields.get(name) is not None), None)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        doubts.add("missing")
        return None
    if value < 0:
        doubts.add("negative")
        return None
    return value


def charge(reports: Sequence[Report], known: Known) -> Charge:
    """What to charge, by the rule above.

    Arguments:
        reports: the first and the last, or one, or none.
        known: our own numbers.
    """
    if not reports:
        completion = min(known.completion_tokens, known.most_completion_tokens)
        return Charge(known.prompt_tokens, 0, completion, "counted" if known.streamed else "estimated")
    doubts: set[Doubt] = {doubt for report in reports for doubt in report.doubts}
    if _fell([report.prompt_tokens for report in reports]) or _fell([report.completion_tokens for report in reports]):
        doubts.add("fell")
    prompt = _charged_prompt(reports, known, doubts)
    cached = max(report.cached_tokens for report in reports)
    if cached > prompt:
        doubts.add("huge")
    said = max((each.completion_tokens for each in reports if each.completion_tokens is not None), default=None)
    completion = _charged_completion(said, max(each.hidden_tokens for each in reports), known, doubts)
    source: Source = "reported" if not doubts else "counted" if known.streamed and completion != said else "estimated"
    return Charge(prompt, min(cached, prompt), completion, source, tuple(sorted(doubts)))


def _fell(numbers: Sequence[int | None]) -> bool:
    given = [number for number in numbers if number is not None]
    return bool(given) and given[-1] < given[0]


def _charged_prompt(reports: Sequence[Report], known: Known, doubts: set[Doubt]) -> int:
    said = max((report.prompt_tokens for report in reports if report.prompt_tokens is not None), default=None)
    if not said:
        # A prompt of no tokens is none; an embedding of nothing is.
        if said is None or known.prompt_tokens:
            doubts.add("missing")
        return known.prompt_tokens
    most = known.most_prompt_tokens or ESTIMATE_FACTOR * known.prompt_tokens + ESTIMATE_SLACK_TOKENS
    if said > most:
        doubts.add("huge")
    return min(said, most)


def _charged_completion(said: int | None, hidden_tokens: int, known: Known, doubts: set[Doubt]) -> int:
    counted = known.completion_tokens
    if said is None:
        if known.generates:
            doubts.add("missing")
        return min(counted, known.most_completion_tokens) if known.generates else 0
    if known.streamed and said * DIFFERS_FACTOR < counted:
        doubts.add("differs")
        return counted
    if said > known.most_completion_tokens:
        doubts.add("huge")
        said = known.most_completion_tokens
    most_streamed = STREAMED_FACTOR * counted + STREAMED_SLACK_TOKENS + min(hidden_tokens, said)
    if known.streamed and said > most_streamed:
        doubts.add("differs")
        return most_streamed
    return said
