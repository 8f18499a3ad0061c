"""Bytes per token, learned from what engines report: for models without a tokenizer, and for texts too large to count.

A text is of one of five kinds, told by a few slices of it, for the number of bytes in a token differs more by kind
than by model. A request's tokens are the sum of its kinds' bytes, each divided by its ratio. When the engine reports
the true number, each ratio moves by the error, in the logarithm, as far as it had a share in it: first by much (the
prior is worth four requests), later by a thirtieth, so that it follows a change within some dozens of requests.

Ratios are kept by model and tenant, and by model alone, from which a new tenant starts. A report that can't be true
moves them no more than a wrong factor of four does, and never out of their bounds.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

PRIORS: Mapping[str, float] = {"words": 4.0, "code": 3.5, "dense": 1.6, "letters": 3.4, "wide": 3.2}
"""Bytes per token before anything is known, by kind: words of Latin script, code and data, what has no words (base64,
digits), scripts of 2 bytes a letter (Cyrillic, Arabic, Greek, Hebrew), and of 3 (Chinese, Thai, Hindi), emoji included.
About the mean of OpenAI's, Llama 3's and Qwen's vocabularies, *measured* on the texts of this project's tests."""
_KINDS = tuple(PRIORS)
_WORDS, _CODE, _DENSE, _LETTERS, _WIDE = range(5)

_LEAST, _MOST = 0.5, 16.0
"""No vocabulary has fewer bytes in a token than one per two bytes of a text, nor more in its mean."""
_FARTHEST = math.log(4.0)
"""Largest error that is believed."""
_PRIOR_WEIGHT = 4.0
_SLOWEST = 1 / 30
_FULL_TOKENS = 64
"""Smaller requests teach less: what stands around their text weighs more."""
_ABSURD = 1e12
"""No number of a state is as large; an infinity or a NaN is not smaller."""
KEYS_LIMIT = 4096
"""Pairs of model and tenant that are remembered; about 500 bytes each."""

_SLICE_CHARS = 256
_MANY = 64
_SHORT_CHARS = 1024
_EXACT_CHARS = 64 * 1024
"""Longer texts have their bytes reckoned from the slices."""
_SIGNS = '(){}[];=_<>"/|\\'


class Extent(NamedTuple):
    """Bytes of a prompt's texts, by kind in the order of `PRIORS`."""

    words: float = 0.0
    code: float = 0.0
    dense: float = 0.0
    letters: float = 0.0
    wide: float = 0.0


def measure(texts: Sequence[tuple[str, int]]) -> Extent:
    """How much of which kind texts are.

    Takes 5 us a text, whatever its length; of many texts the short ones are looked at as one, so that the most that a
    body on the event loop can hold takes 2 ms.

    Arguments:
        texts: each with how often the engine reads it (`Plan.texts`).
    """
    sums = [0.0] * len(_KINDS)
    if len(texts) > _MANY:
        short = [text for text, times in texts if times == 1 and len(text) < _SHORT_CHARS]
        texts = [each for each in texts if each[1] > 1 or len(each[0]) >= _SHORT_CHARS]
        texts.append(("".join(short), 1))
    for text, times in texts:
        if text:
            kind, size_bytes = _kind_and_bytes(text)
            sums[kind] += size_bytes * times
    return Extent(*sums)


def _kind_and_bytes(text: str) -> tuple[int, float]:
    chars, sample = len(text), text
    if chars > 3 * _SLICE_CHARS:
        middle = chars // 2
        sample = text[:_SLICE_CHARS] + text[middle : middle + _SLICE_CHARS] + text[-_SLICE_CHARS:]
    if sample.isascii() and text.isascii():
        return _latin_kind(sample), chars
    width = len(sample.encode("utf-8", "replace")) / len(sample)
    size_bytes = width * chars if chars > _EXACT_CHARS else len(text.encode("utf-8", "replace"))
    # A Latin text with accents has about 1.1 bytes a letter, Cyrillic with its blanks 1.8, Chinese 2.9.
    if width < 1.35:
        return _latin_kind(sample), size_bytes
    return (_LETTERS if width < 2.2 else _WIDE), size_bytes


def _latin_kind(sample: str) -> int:
    blanks = sample.count(" ") + sample.count("\n")
    # Words are 5 letters long on average, in code 12; what goes on for 24 without a blank is no text.
    if blanks * 24 < len(sample):
        return _DENSE
    signs = sum(map(sample.count, _SIGNS))
    return _CODE if signs * 25 > len(sample) else _WORDS


@dataclass(slots=True)
class _Ratios:
    """What is known for one key: bytes per token by kind, and how many requests each has learned from."""

    values: list[float] = field(default_factory=lambda: list(PRIORS.values()))
    weights: list[float] = field(default_factory=lambda: [0.0] * len(_KINDS))

    def tokens(self, extent: Extent) -> float:
        return sum([size_bytes / ratio for size_bytes, ratio in zip(extent, self.values, strict=True)])

    def learn(self, extent: Extent, tokens: float) -> None:
        expected = self.tokens(extent)
        error = min(max(math.log(tokens / expected), -_FARTHEST), _FARTHEST)
        full = min(tokens / _FULL_TOKENS, 1.0)
        for kind, size_bytes in enumerate(extent):
            share = full * size_bytes / self.values[kind] / expected
            if share:
                pace = max(1 / (_PRIOR_WEIGHT + self.weights[kind]), _SLOWEST)
                moved = self.values[kind] * math.exp(-pace * share * error)
                self.values[kind] = min(max(moved, _LEAST), _MOST)
                self.weights[kind] += share


class BytesPerToken:
    """All ratios of a process. Not for several threads at once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], _Ratios] = OrderedDict()

    def __repr__(self) -> str:
        return f"BytesPerToken({len(self._kept)} keys)"

    def tokens(self, model: str, tenant: str, extent: Extent) -> int:
        """Expected tokens of texts of this extent, without what a chat template puts around them."""
        ratios = self._kept.get((model, tenant)) or self._kept.get((model, "")) or _UNKNOWN
        return math.ceil(ratios.tokens(extent))

    def learn(self, model: str, tenant: str, extent: Extent, tokens: int) -> None:
        """Take in what an engine reported.

        Arguments:
            model: public name.
            tenant: name.
            extent: of all texts of the prompt.
            tokens: those of the report, less the template's and the media's (`Plan.known_tokens`).
        """
        if tokens <= 0 or sum(extent) <= 0:
            return
        of_model = self._kept.pop((model, ""), None) or _Ratios()
        of_tenant = self._kept.pop((model, tenant), None) or _Ratios(list(of_model.values))
        of_model.learn(extent, tokens)
        self._kept[model, ""] = of_model
        if tenant:
            of_tenant.learn(extent, tokens)
            self._kept[model, tenant] = of_tenant
        while len(self._kept) > KEYS_LIMIT:
            self._kept.popitem(last=False)

    def to_state(self) -> dict[str, Any]:
        """Everything learned, as JSON; the oldest first."""
        rows = [[model, tenant, kept.values, kept.weights] for (model, tenant), kept in self._kept.items()]
        return {"kinds": list(_KINDS), "rows": rows}

    @classmethod
    def from_state(cls, state: object) -> "BytesPerToken":
        """What `to_state` gave. Rows that are not what it gives are left out, and all if the kinds have changed."""
        made = cls()
        if not isinstance(state, dict) or state.get("kinds") != list(_KINDS):
            return made
        rows = state.get("rows")
        for row in rows[-KEYS_LIMIT:] if isinstance(rows, list) else ():
            match row:
                case [str(model), str(tenant), list(values), list(weights)] if _numbers(values) and _numbers(weights):
                    bounded = [min(max(value, _LEAST), _MOST) for value in values]
                    made._kept[model, tenant] = _Ratios(bounded, [max(weight, 0.0) for weight in weights])
        return made


def _numbers(values: list[Any]) -> bool:
    return len(values) == len(_KINDS) and all(type(value) in (int, float) and abs(value) < _ABSURD for value in values)


_UNKNOWN = _Ratios()
