"""Tokens of texts without their tokenizer, learned from what engines report; also for texts too large to count.

A prompt is measured by how many letters of which script it has, how many digits, signs and blanks, and in how many
texts. Its tokens are the sum of these amounts, each times a rate. When the engine reports the true number, each rate
moves by its part of the error: a Kalman filter that keeps one variance for each rate and no covariances. A rate that
is little known moves far, one that is well known hardly; a floor under the variances lets all follow a change within
some dozens of reports. Scripts are learned apart, and so is what a chat template puts around each text. Once a model is
known to a tenant, only one report in some is learned from, and each that surprises.

Rates are kept by model and tenant, and by model alone, from which a new tenant starts. A report that can't be true
moves them no more than a wrong factor of four does, and never out of their bounds.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import mul
from typing import Any, NamedTuple

PRIORS: Mapping[str, float] = {
    "letters": 0.2, "capitals": 0.38, "digits": 0.62, "blanks": 0.25, "breaks": 0.56, "signs": 0.61, "dense": 0.62,
    "accented": 1.0, "cyrillic": 0.33, "semitic": 0.6, "indic": 0.77, "kana": 0.93, "han": 0.76, "hangul": 0.8,
    "symbols": 1.3, "emoji": 2.0, "texts": 0.0,
}  # fmt: skip
"""Tokens per character, and per text, before anything is known. About the mean of OpenAI's, Llama 3's and Qwen's
vocabularies, *measured* on the texts of this project's tests and benchmarks. `dense` are Latin letters of texts without
words (base64, hexadecimal), `cyrillic` has Greek too, `semitic` all from Hebrew to N'Ko, `indic` India's and Thailand's
scripts, `symbols` what has three bytes and is none of these."""
_KINDS = tuple(PRIORS)
_LETTERS, _CAPITALS, _BLANKS, _BREAKS, _DENSE = map(_KINDS.index, ("letters", "capitals", "blanks", "breaks", "dense"))
_DIGITS, _SIGNS, _TEXTS = map(_KINDS.index, ("digits", "signs", "texts"))

_LEADS: Mapping[str, Sequence[int]] = {
    "breaks": range(0x20), "signs": range(0x21, 0x80), "blanks": (0x20,), "digits": range(0x30, 0x3A),
    "capitals": range(0x41, 0x5B), "letters": range(0x61, 0x7B), "accented": range(0xC2, 0xCE),
    "cyrillic": range(0xCE, 0xD6), "semitic": range(0xD6, 0xE0), "indic": (0xE0,), "symbols": (0xE1, 0xE2, 0xEE, 0xEF),
    "kana": (0xE3,), "han": range(0xE4, 0xEA), "hangul": range(0xEA, 0xEE), "emoji": range(0xF0, 0xF8),
}  # fmt: skip
"""What the first byte of a character in UTF-8 tells of it; later rows overwrite earlier ones."""
_NO_LEAD = 255


def _table() -> bytes:
    table = bytearray([_NO_LEAD] * 256)
    for name, leads in _LEADS.items():
        for lead in leads:
            table[lead] = _KINDS.index(name)
    return bytes(table)


_TABLE = _table()
_OTHERS = tuple(_KINDS.index(name) for name in _LEADS if _KINDS.index(name) > _DENSE)

_LEAST = tuple(rate / 16 if name != "texts" else -4.0 for name, rate in PRIORS.items())
"""A text may take fewer tokens than the four that `Plan.known_tokens` has for its message."""
_MOST = tuple(4.0 if name != "texts" else 64.0 for name in PRIORS)
"""A character has four bytes at most, and no vocabulary makes more tokens of it."""
_DOUBT = tuple(max(0.6 * rate, 0.05) if name != "texts" else 3.0 for name, rate in PRIORS.items())
"""Standard deviation of a rate that nothing is known of."""
_RESTLESS = tuple(max(0.03 * rate, 0.003) if name != "texts" else 0.05 for name, rate in PRIORS.items())
"""Least standard deviation: alone, a rate moves by an eighth of each error."""
_NOISE_FRACTION, _NOISE_TOKENS = 0.08, 2.0
"""How far a prompt of known rates is from its sum, *measured* with four vocabularies: 6 to 7 % at the median."""
_SETTLED, _EVERY, _SURPRISE_FRACTION = 200, 8, 0.15
"""After so many reports a key learns from one in so many, and from each that is further off than rates that are known
are in nine of ten cases: learning from a report takes 25 us, and from what was expected there is little to learn."""
_FARTHEST = 4.0
"""Largest factor between expected and reported that is believed."""
_ABSURD = 1e12
"""No number of a state is as large; an infinity or a NaN is not smaller."""
_DECIMALS = 6
KEYS_LIMIT = 4096
"""Pairs of model and tenant that are remembered; about 1.5 KB each."""

_SLICES, _SLICE_CHARS = 4, 512
_MANY = 64
_SHORT_CHARS = 1024
_WORD_LETTERS = 24
"""Words are 5 letters long on average, in code 12; what goes on for longer without anything between is no text."""


class Extent(NamedTuple):
    """Characters of a prompt's texts, by kind in the order of `PRIORS`, and the number of texts."""

    letters: float = 0.0
    capitals: float = 0.0
    digits: float = 0.0
    blanks: float = 0.0
    breaks: float = 0.0
    signs: float = 0.0
    dense: float = 0.0
    accented: float = 0.0
    cyrillic: float = 0.0
    semitic: float = 0.0
    indic: float = 0.0
    kana: float = 0.0
    han: float = 0.0
    hangul: float = 0.0
    symbols: float = 0.0
    emoji: float = 0.0
    texts: float = 0.0


def measure(texts: Sequence[tuple[str, int]]) -> Extent:
    """How much of which kind texts are.

    Takes 5 us a text, whatever its length; of many texts the short ones are looked at as one, so that the most that a
    body on the event loop can hold takes 2 ms.

    Arguments:
        texts: each with how often the engine reads it (`Plan.texts`).
    """
    sums = [0.0] * len(_KINDS)
    sums[_TEXTS] = float(sum([times for _, times in texts]))
    if len(texts) > _MANY:
        short = [text for text, times in texts if times == 1 and len(text) < _SHORT_CHARS]
        texts = [each for each in texts if each[1] > 1 or len(each[0]) >= _SHORT_CHARS]
        texts.append(("".join(short), 1))
    for text, times in texts:
        if text:
            _add(text, times, sums)
    return Extent(*sums)


def _add(text: str, times: int, sums: list[float]) -> None:
    sample = text
    if len(text) > _SLICES * _SLICE_CHARS:
        step = (len(text) - _SLICE_CHARS) // (_SLICES - 1)
        sample = "".join([text[start : start + _SLICE_CHARS] for start in range(0, step * _SLICES, step)])
    count = sample.encode("utf-8", "replace").translate(_TABLE).count
    each = times * len(text) / len(sample)
    letters, capitals, blanks, breaks = count(_LETTERS), count(_CAPITALS), count(_BLANKS), count(_BREAKS)
    between = blanks + breaks
    if not sample.isascii():
        for kind in _OTHERS:
            found = count(kind)
            between += found
            sums[kind] += found * each
    if letters + capitals > _WORD_LETTERS * (between + 1):
        sums[_DENSE] += (letters + capitals) * each
    else:
        sums[_LETTERS] += letters * each
        sums[_CAPITALS] += capitals * each
    sums[_BLANKS] += blanks * each
    sums[_BREAKS] += breaks * each
    sums[_DIGITS] += count(_DIGITS) * each
    sums[_SIGNS] += count(_SIGNS) * each


@dataclass(slots=True)
class _Rates:
    """What is known for one key: tokens by kind, and how sure each is."""

    values: list[float] = field(default_factory=lambda: list(PRIORS.values()))
    deviations: list[float] = field(default_factory=lambda: list(_DOUBT))
    reports: int = 0
    """How many have come since this process began to count."""

    def tokens(self, extent: Extent) -> float:
        tokens: float = sum(map(mul, extent, self.values))
        return max(tokens, 0.0)

    def teaches(self, extent: Extent, tokens: int) -> bool:
        """True if a report should be learned from; counts it."""
        self.reports += 1
        if self.reports <= _SETTLED or not self.reports % _EVERY:
            return True
        expected = self.tokens(extent)
        return abs(tokens - expected) > _SURPRISE_FRACTION * expected

    def learn(self, extent: Extent, tokens: float) -> None:
        expected = max(self.tokens(extent), 1.0)
        believed = min(max(tokens, expected / _FARTHEST), expected * _FARTHEST)
        squares = [(amount * doubt) ** 2 for amount, doubt in zip(extent, self.deviations, strict=True)]
        whole = sum(squares) + (_NOISE_FRACTION * believed) ** 2 + _NOISE_TOKENS**2
        for kind, amount in enumerate(extent):
            if amount > 0:
                share = squares[kind] / whole
                moved = self.values[kind] + share * (believed - expected) / amount
                self.values[kind] = min(max(moved, _LEAST[kind]), _MOST[kind])
                doubt = self.deviations[kind] * math.sqrt(max(1 - share, 0.0))
                self.deviations[kind] = max(doubt, _RESTLESS[kind])


class TextTokens:
    """All rates of a process. Not for several threads at once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], _Rates] = OrderedDict()

    def __repr__(self) -> str:
        return f"TextTokens({len(self._kept)} keys)"

    def tokens(self, model: str, tenant: str, extent: Extent) -> int:
        """Expected tokens of texts of this extent, without what is known of a chat template (`Plan.known_tokens`)."""
        rates = self._kept.get((model, tenant)) or self._kept.get((model, "")) or _UNKNOWN
        return math.ceil(rates.tokens(extent))

    def learn(self, model: str, tenant: str, extent: Extent, tokens: int) -> None:
        """Take in what an engine reported.

        Arguments:
            model: public name.
            tenant: name.
            extent: of all texts of the prompt.
            tokens: those of the report, less the template's and the media's (`Plan.known_tokens`).
        """
        known = self._kept.get((model, tenant))
        if known is not None and not known.teaches(extent, tokens):
            return
        if tokens <= 0 or sum(extent) <= extent.texts:
            return
        of_model = self._kept.pop((model, ""), None) or _Rates()
        of_tenant = self._kept.pop((model, tenant), None) or _Rates(list(of_model.values))
        of_model.learn(extent, tokens)
        self._kept[model, ""] = of_model
        if tenant:
            of_tenant.learn(extent, tokens)
            self._kept[model, tenant] = of_tenant
        while len(self._kept) > KEYS_LIMIT:
            self._kept.popitem(last=False)

    def to_state(self) -> dict[str, Any]:
        """Everything learned, as JSON; the oldest first."""
        rows = [
            [model, tenant, _short(kept.values), _short(kept.deviations)]
            for (model, tenant), kept in self._kept.items()
        ]
        return {"kinds": list(_KINDS), "rows": rows}

    @classmethod
    def from_state(cls, state: object) -> "TextTokens":
        """What `to_state` gave. Rows that are not what it gives are left out, and all if the kinds have changed."""
        made = cls()
        if not isinstance(state, dict) or state.get("kinds") != list(_KINDS):
            return made
        rows = state.get("rows")
        for row in rows[-KEYS_LIMIT:] if isinstance(rows, list) else ():
            match row:
                case [str(model), str(tenant), list(values), list(doubts)] if _numbers(values) and _numbers(doubts):
                    made._kept[model, tenant] = _Rates(
                        _bounded(values, _LEAST, _MOST), _bounded(doubts, _RESTLESS, _DOUBT)
                    )
        return made


def _short(values: Sequence[float]) -> list[float]:
    return [round(value, _DECIMALS) for value in values]


def _bounded(values: Sequence[float], least: Sequence[float], most: Sequence[float]) -> list[float]:
    return [min(max(float(value), low), high) for value, low, high in zip(values, least, most, strict=True)]


def _numbers(values: list[Any]) -> bool:
    return len(values) == len(_KINDS) and all(type(value) in (int, float) and abs(value) < _ABSURD for value in values)


_UNKNOWN = _Rates()
