"""How long an answer will be: its median and 95th percentile, learned by tenant, model, API and reasoning effort.

Each key has a histogram whose buckets grow by a fifth, so that a quantile is right within a fifth at any length, and
80 numbers are all that is kept. New answers weigh more than old ones: after 500 answers an old one counts half. A new
key starts from what the model has shown with other tenants, and a new model from the prior of its API; the prior is
worth 20 answers. A reasoning effort that is asked for is part of the key, since more of it writes many times as much;
one not seen yet starts from what the model writes without.

What the client allows (`max_tokens`) caps what is expected. The balancer itself never sets it.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

GROWTH = 1.2
"""Width of a bucket, as a factor."""
BUCKETS = 80
"""The last begins at 1.2^79 = 1.8 million tokens, more than any model writes."""
HALF_LIFE = 500
"""Answers after which one counts half."""
KEYS_LIMIT = 4096
"""Keys that are remembered; about 1 KB each."""

EFFORTS = frozenset(("none", "minimal", "low", "medium", "high", "xhigh", "max"))
"""What OpenAI's and Anthropic's APIs take. Others count as none given, or clients could make keys without end."""

_PRIOR_ANSWERS = 20.0
_HEAVIER = 2 ** (1 / HALF_LIFE)
_RESCALED = 2.0**40
_LOG_GROWTH = math.log(GROWTH)
_MANY, _EVERY = 200, 8
"""After so many answers the quantiles are looked for anew once in so many: one more of hundreds hardly moves them."""


class Prior(NamedTuple):
    """What is expected of an API before anything is known."""

    median: float
    high: float
    """95th percentile."""


PRIORS: Mapping[str, Prior] = {
    "chat": Prior(150, 700),
    "messages": Prior(150, 700),
    "ollama": Prior(150, 700),
    "responses": Prior(300, 1500),
    "completions": Prior(50, 500),
}
"""Chat and completions after Azure's traces of 2023 (arXiv 2311.18677: medians of 129 for chat and 13 for code),
rounded up because answers have grown; Responses mostly serve reasoning models. APIs that are not here write nothing."""


class Expected(NamedTuple):
    """Output tokens of one request, all its answers together."""

    median: int
    high: int
    """Hardly exceeded: 95th percentile, or the client's own limit."""


class Lengths:
    """One histogram of lengths, newer ones heavier.

    Instead of making every old count lighter, each new one is made heavier; when it has grown by 2^40, all are scaled
    down together.
    """

    __slots__ = ("_added", "_quantiles", "counts", "unit")

    def __init__(self, counts: list[float] | None = None) -> None:
        self.counts = counts if counts is not None else [0.0] * BUCKETS
        self.unit = 1.0
        self._added = 0
        self._quantiles: dict[float, float] = {}

    def add(self, tokens: float) -> None:
        """Take in one answer."""
        self.counts[bucket(tokens)] += self.unit
        self.unit *= _HEAVIER
        if self.unit > _RESCALED:
            self.counts = self.weights()
            self.unit = 1.0
        self._added += 1
        if self._added < _MANY or not self._added % _EVERY:
            self._quantiles.clear()

    def quantile(self, fraction: float) -> float:
        """A length that `fraction` (0..1) of answers do not exceed, as its bucket's upper edge; 0 without answers."""
        known = self._quantiles.get(fraction)
        if known is None:
            known = self._quantiles[fraction] = self._find(fraction)
        return known

    def _find(self, fraction: float) -> float:
        left = fraction * sum(self.counts)
        for index, count in enumerate(self.counts):
            left -= count
            if count and left <= 1e-9 * self.unit:
                return GROWTH ** (index + 1) if index else 1.0
        return 0.0

    def weights(self, total: float | None = None) -> list[float]:
        """Counts in units of a new answer, or scaled to a total."""
        unit = self.unit if total is None else max(sum(self.counts), 1e-300) / total
        return [count / unit for count in self.counts]


def bucket(tokens: float) -> int:
    """The bucket of a length: bucket i holds 1.2^i up to 1.2^(i+1), the first one everything below too."""
    return min(max(int(math.log(tokens) / _LOG_GROWTH + 1e-9), 0), BUCKETS - 1) if tokens > 1 else 0


def _prior(prior: Prior) -> list[float]:
    """A log-normal histogram with the quantiles of a prior: its 40 quantiles in steps of a fortieth."""
    spread = math.log(prior.high / prior.median) / 1.645
    lengths = Lengths()
    for step in range(40):
        # Logistic quantiles stand for normal ones; their ratio is 1.702 (Haley 1952).
        fraction = (step + 0.5) / 40
        deviation = math.log(fraction / (1 - fraction)) / 1.702
        lengths.counts[bucket(prior.median * math.exp(spread * deviation))] += 1
    return lengths.weights(_PRIOR_ANSWERS)


def kind_of(api: str, effort: str | None) -> str:
    """What lengths are told apart by, beside tenant and model."""
    return f"{api}:{effort}" if effort in EFFORTS else api


class OutputLengths:
    """All histograms of a process. Not for several threads at once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, str], Lengths] = OrderedDict()
        self._priors = {api: Lengths(_prior(prior)) for api, prior in PRIORS.items()}

    def __repr__(self) -> str:
        return f"OutputLengths({len(self._kept)} keys)"

    def expect(self, tenant: str, model: str, api: str, max_tokens: int | None, answers: int) -> Expected:
        """What a request will write.

        Arguments:
            tenant: name.
            model: public name.
            api: of the route, or what `kind_of` makes of it.
            max_tokens: the client's own limit on one answer, None if it set none.
            answers: how many are asked for.
        """
        lengths = self._find(tenant, model, api)
        if lengths is None:
            return Expected(0, 0)
        limit = math.inf if max_tokens is None else max_tokens
        median, high = min(lengths.quantile(0.5), limit), min(lengths.quantile(0.95), limit)
        return Expected(math.ceil(median * answers), math.ceil(high * answers))

    def learn(self, tenant: str, model: str, api: str, tokens: int, answers: int) -> None:
        """Take in what a request wrote, all its answers together. Leave out answers that broke off."""
        if api.partition(":")[0] not in self._priors or tokens < 0 or answers < 1:
            return
        kept, each = self._kept, tokens / answers
        model_key, tenant_key = ("", model, api), (tenant, model, api)
        # Both are looked up before either learns, or a new tenant would start with its own answer counted twice.
        of_model = kept.get(model_key) or self._start(model, api)
        of_tenant = kept.get(tenant_key) or self._start(model, api)
        kept[model_key] = of_model
        kept.move_to_end(model_key)
        of_model.add(each)
        if tenant:
            kept[tenant_key] = of_tenant
            kept.move_to_end(tenant_key)
            of_tenant.add(each)
        while len(kept) > KEYS_LIMIT:
            kept.popitem(last=False)

    def _find(self, tenant: str, model: str, api: str) -> Lengths | None:
        known = self._kept.get((tenant, model, api)) or self._kept.get(("", model, api))
        if known is not None:
            return known
        plain, effort, _ = api.partition(":")
        return self._find(tenant, model, plain) if effort else self._priors.get(api)

    def _start(self, model: str, api: str) -> Lengths:
        known = self._find("", model, api) or self._priors[api]
        return Lengths(known.weights(_PRIOR_ANSWERS))

    def to_state(self) -> dict[str, Any]:
        """Everything learned, as JSON; the oldest first."""
        rows = [
            [*key, [[index, weight] for index, weight in enumerate(lengths.weights()) if weight]]
            for key, lengths in self._kept.items()
        ]
        return {"growth": GROWTH, "rows": rows}

    @classmethod
    def from_state(cls, state: object) -> "OutputLengths":
        """What `to_state` gave. Rows that are not what it gives are left out, and all if the buckets have changed."""
        made = cls()
        if not isinstance(state, dict) or state.get("growth") != GROWTH:
            return made
        rows = state.get("rows")
        for row in rows[-KEYS_LIMIT:] if isinstance(rows, list) else ():
            match row:
                case [str(tenant), str(model), str(api), list(pairs)] if _known(api) and (counts := _counts(pairs)):
                    made._kept[tenant, model, api] = Lengths(counts)
        return made


def _known(kind: str) -> bool:
    api, effort, level = kind.partition(":")
    return api in PRIORS and (not effort or level in EFFORTS)


def _counts(pairs: list[Any]) -> list[float] | None:
    counts = [0.0] * BUCKETS
    for pair in pairs:
        match pair:
            case [int(index), int() | float() as weight] if 0 <= index < BUCKETS and 0 < weight < _RESCALED:
                counts[index] = float(weight)
            case _:
                return None
    return counts if any(counts) else None
