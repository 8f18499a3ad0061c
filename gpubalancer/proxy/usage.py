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
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

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

_OPENS = re.compile(rb"\s*:\s*(?=\{)")
_OLLAMA = re.compile(rb'"((?:prompt_)?eval_count)"\s*:\s*(-?[0-9]{1,18})\b')
_KEYS_TRIED = 8
_DECODER = json.JSONDecoder()
_PROMPT = ("prompt_tokens", "input_tokens", "prompt_eval_count", "prompt_n")
_COMPLETION = ("completion_tokens", "output_tokens", "eval_count", "predicted_n")
_BESIDE_PROMPT = ("cache_read_input_tokens", "cache_creation_input_tokens", "cache_n")
"""Parts of the prompt that are not in the number of `_PROMPT`."""
_CACHED = ("cache_read_input_tokens", "cache_n", "cached_tokens")
_HIDDEN = ("reasoning_tokens",)

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


_NOTHING: Mapping[str, Any] = MappingProxyType({})
_NO_DOUBTS: frozenset[Doubt] = frozenset()


class Report(NamedTuple):
    """What an engine said once. None: not there, or no number; the doubts say what was wrong with it."""

    prompt_tokens: int | None = None
    cached_tokens: int = 0
    completion_tokens: int | None = None
    hidden_tokens: int = 0
    """Reasoning that is part of the completion."""
    doubts: frozenset[Doubt] = _NO_DOUBTS
    tells_cached: bool = False
    """It names cached tokens, be they none."""


class Known(NamedTuple):
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


class Charge(NamedTuple):
    """What an answer is charged."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    source: Source
    doubts: tuple[Doubt, ...] = ()


def read_report(data: bytes) -> Report | None:
    """The last report in a piece of an answer, in whichever shape; None if there is none."""
    # Where llama.cpp gives both, `usage` knows of the cache what `timings` knows, and stands for it.
    fields = _last_object(data, b'"usage"')
    if fields is None:
        fields = _last_object(data, b'"timings"')
    if fields is None:
        fields = {name.decode(): int(number) for name, number in _OLLAMA.findall(data)} or None
    return _report(fields) if fields is not None else None


def _last_object(data: bytes, key: bytes) -> dict[str, Any] | None:
    """The last object that stands behind a key, of the last few places where it is."""
    end = len(data)
    for _ in range(_KEYS_TRIED):
        end = data.rfind(key, 0, end)
        if end < 0:
            return None
        begin = _OPENS.match(data, end + len(key))
        if begin is not None:
            fields = _object(data[begin.end() :])
            if fields is not None:
                return fields
    return None


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        fields, _ = _DECODER.raw_decode(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _report(fields: Mapping[str, Any]) -> Report:
    doubts: set[Doubt] = set()
    prompt = _number(fields, _PROMPT, doubts)
    completion = _number(fields, _COMPLETION, doubts)
    cached = _number(fields, _CACHED, doubts)
    for name in _BESIDE_PROMPT:
        if name in fields and prompt is not None:
            prompt += _number(fields, (name,), doubts) or 0
    if cached is None:
        cached = _number(_part(fields, "prompt_tokens_details", "input_tokens_details"), _CACHED, doubts)
    hidden = _number(_part(fields, "completion_tokens_details", "output_tokens_details"), _HIDDEN, doubts)
    told = frozenset(doubts) if doubts else _NO_DOUBTS
    return Report(prompt, cached or 0, completion, hidden or 0, told, cached is not None)


def _part(fields: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        part = fields.get(name)
        if isinstance(part, dict):
            return part
    return _NOTHING


def _number(fields: Mapping[str, Any], names: tuple[str, ...], doubts: set[Doubt]) -> int | None:
    """The first number that is given by one of these names."""
    for name in names:
        value = fields.get(name)
        if value is not None:
            break
    else:
        return None
    if value.__class__ is not int:
        doubts.add("missing")
        return None
    if value < 0:
        doubts.add("negative")
        return None
    number: int = value
    return number


def charge(reports: Sequence[Report], known: Known) -> Charge:
    """What to charge, by the rule above.

    Arguments:
        reports: the first and the last, or one, or none.
        known: our own numbers.
    """
    if not reports:
        completion = min(known.completion_tokens, known.most_completion_tokens)
        return Charge(known.prompt_tokens, 0, completion, "counted" if known.streamed else "estimated")
    report = reports[0] if len(reports) == 1 else _merged(reports)
    doubts = set(report.doubts)
    prompt = _charged_prompt(report.prompt_tokens, known, doubts)
    if report.cached_tokens > prompt:
        doubts.add("huge")
    said = report.completion_tokens
    completion = _charged_completion(said, report.hidden_tokens, known, doubts)
    cached = min(report.cached_tokens, prompt)
    if not doubts:
        return Charge(prompt, cached, completion, "reported")
    source: Source = "counted" if known.streamed and completion != said else "estimated"
    return Charge(prompt, cached, completion, source, tuple(sorted(doubts)))


def _merged(reports: Sequence[Report]) -> Report:
    """The largest of each number, and a doubt where one fell."""
    prompts = [report.prompt_tokens for report in reports if report.prompt_tokens is not None]
    completions = [report.completion_tokens for report in reports if report.completion_tokens is not None]
    fell: set[Doubt] = {"fell" for numbers in (prompts, completions) if numbers and numbers[-1] < numbers[0]}
    return Report(
        max(prompts, default=None),
        max(report.cached_tokens for report in reports),
        max(completions, default=None),
        max(report.hidden_tokens for report in reports),
        frozenset(fell).union(*(report.doubts for report in reports)),
    )


def _charged_prompt(said: int | None, known: Known, doubts: set[Doubt]) -> int:
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
