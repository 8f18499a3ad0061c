"""What has happened so far, counted: the only path from outcomes to metrics.

Each worker adds its outcomes to a `Tally` of its own; every second `take_delta` gives what was added since, as plain
JSON values, and the supervisor merges it into the one that the metrics render. A worker that dies takes at most its
last second along, and no total ever falls.

One request costs one dictionary lookup: its `Cell` holds the counters of (tenant, api, model, backend, code), and the
histograms of (api, model, backend, code), which the cells of all tenants share. Past `cells_limit` a new combination is
counted under `OTHER`, with its code cut to the hundred, so that no input can make the tally grow without end.

To count something more per request: a slot in `Cell` or `Spread`, its name in `COUNTERS` or `BOUNDS`, a line in `add`.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from gpubalancer.domain.audit import WHAT, Delivered, Predicted, ratios
from gpubalancer.domain.errors import FAILURES, Blame
from gpubalancer.domain.outcome import Outcome

OTHER = "other"
CELLS_LIMIT = 10_000

REFUSALS = frozenset(code for code, row in FAILURES.items() if row.blame != Blame.BACKEND and code != "client_left")
"""The reasons by which we say no. The rest are a backend's failures, and a client that left."""

COUNTERS = (
    "requests",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "usage_reported",
    "usage_counted",
    "usage_estimated",
    "usage_disputed",
)
"""The slots of `Cell` that count; their order is that of a delta's rows."""

BOUNDS: dict[str, tuple[float, ...]] = {
    "request_s": (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    "ttft_s": (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    "tpot_s": (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
    "prompt_tokens": tuple(4**power for power in range(14)),
    "completion_tokens": tuple(4**power for power in range(14)),
}
"""Upper bounds of the buckets in `Spread`, those of the OpenTelemetry semantic conventions (gen-ai-metrics.md)."""

OVERHEAD_BOUNDS_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0)
"""Ours: what the balancer adds is tenths of a millisecond, and seconds only where a request had to wait."""

ERROR_BOUNDS = (0.1, 0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.11, 1.25, 1.5, 2.0, 4.0, 10.0)
"""Of delivered over predicted: alike to both sides of 1."""

CellKey = tuple[str, str, str, str, int]
"""tenant, api, model, backend, code."""
SpreadKey = tuple[str, str, str, int]
"""api, model, backend, code."""


class Histogram:
    """Counts of values by bucket: bucket i holds the values up to and including `bounds[i]`, the last all above."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def merge(self, counts: Sequence[int], total: float) -> None:
        """Add another histogram of the same bounds.

        Errors:
            ValueError: it has another number of buckets.
        """
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, counts, strict=True)]
        self.sum += total

    def take(self) -> list[Any] | None:
        """`[counts, sum]` since the last take, or None if nothing was added; zero afterwards."""
        if not any(self.counts):
            return None
        taken = [self.counts, self.sum]
        self.counts, self.sum = [0] * len(self.counts), 0.0
        return taken


class Spread:
    """How times and tokens of like requests are spread: one histogram for each of `BOUNDS`."""

    __slots__ = tuple(BOUNDS)

    request_s: Histogram
    ttft_s: Histogram
    tpot_s: Histogram
    prompt_tokens: Histogram
    completion_tokens: Histogram

    def __init__(self) -> None:
        for name, bounds in BOUNDS.items():
            setattr(self, name, Histogram(bounds))


class Cell:
    """The counters of one combination of labels, and the histograms that it shares."""

    __slots__ = (*COUNTERS, "spread")

    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    usage_reported: int
    usage_counted: int
    usage_estimated: int
    usage_disputed: int

    def __init__(self, spread: Spread) -> None:
        self.spread = spread
        for name in COUNTERS:
            setattr(self, name, 0)


class Tally:
    """All counts, of one worker or of the whole balancer. Read `cells`, `spreads`, `refused` and the rest freely.

    Attributes:
        refused: requests that we refused, by (tenant, reason).
        tiers: requests by (tier, what decided it).
        spent: USD and joules by (tenant, backend).
        budget_actions: requests with which a budget did something, by (owner, unit, period, what it did).
        errors: delivered over predicted, by what was predicted.
        overhead_s: seconds between a request's head and its first byte to a backend.
        upstream_cancelled: requests given up at their backend because the client had left.
        streams_broken: answers that a backend broke off after their first byte had been sent.
    """

    def __init__(self, cells_limit: int = CELLS_LIMIT) -> None:
        self.cells_limit = cells_limit
        self.cells: dict[CellKey, Cell] = {}
        self.spreads: dict[SpreadKey, Spread] = {}
        self.refused: dict[tuple[str, str], int] = {}
        self.tiers: dict[tuple[str, str], int] = {}
        self.spent: dict[tuple[str, str], list[float]] = {}
        self.budget_actions: dict[tuple[str, str, str, str], int] = {}
        self.overhead_s = Histogram(OVERHEAD_BOUNDS_S)
        self.errors = {what: Histogram(ERROR_BOUNDS) for what in WHAT}
        self.upstream_cancelled = 0
        self.streams_broken = 0

    def add(self, outcome: Outcome) -> None:
        """Count one request that has ended. About 2 us."""
        key = (outcome.tenant, outcome.api, outcome.model, outcome.backend, outcome.code)
        cell = self.cells.get(key) or self._cell(key)
        cell.requests += 1
        spread = cell.spread
        spread.request_s.add(outcome.ended_s - outcome.started_s)
        if outcome.prompt_tokens or outcome.completion_tokens:
            cell.prompt_tokens += outcome.prompt_tokens
            cell.cached_tokens += outcome.cached_tokens
            cell.completion_tokens += outcome.completion_tokens
            spread.prompt_tokens.add(outcome.prompt_tokens)
            spread.completion_tokens.add(outcome.completion_tokens)
        if outcome.usage_source:
            _add_usage(cell, outcome)
        if outcome.streamed and outcome.first_token_s:
            spread.ttft_s.add(outcome.ttft_s)
            if outcome.completion_tokens > 1:
                spread.tpot_s.add(outcome.tpot_s)
        if outcome.sent_s:
            self.overhead_s.add(outcome.overhead_s)
        if outcome.usd or outcome.joules:
            spent = self.spent.setdefault((outcome.tenant, outcome.backend), [0.0, 0.0])
            spent[0] += outcome.usd
            spent[1] += outcome.joules
        if outcome.predicted is not None:
            self._add_errors(outcome.predicted, outcome.delivered)
        tier = (outcome.tier, outcome.tier_source)
        self.tiers[tier] = self.tiers.get(tier, 0) + 1
        for action in outcome.budget_actions:
            self._add_action(action, 1)
        if outcome.reason:
            self._add_failed(outcome)

    def take_delta(self) -> dict[str, Any]:
        """What was added since the last take, as JSON values for `merge`; the counts are zero afterwards."""
        refused, self.refused = self.refused, {}
        tiers, self.tiers = self.tiers, {}
        spent, self.spent = self.spent, {}
        actions, self.budget_actions = self.budget_actions, {}
        cells = [[*key, *counts] for key, cell in self.cells.items() if (counts := _take(cell))]
        spreads = [
            [*key, name, *taken]
            for key, spread in self.spreads.items()
            for name in BOUNDS
            if (taken := getattr(spread, name).take())
        ]
        delta = {
            "cells": cells,
            "spreads": spreads,
            "refused": [[*key, count] for key, count in refused.items()],
            "tiers": [[*key, count] for key, count in tiers.items()],
            "spent": [[*key, *amounts] for key, amounts in spent.items()],
            "budget_actions": [[*key, count] for key, count in actions.items()],
            "errors": [[what, *taken] for what, errors in self.errors.items() if (taken := errors.take())],
            "overhead_s": self.overhead_s.take(),
            "upstream_cancelled": self.upstream_cancelled,
            "streams_broken": self.streams_broken,
        }
        self.upstream_cancelled = self.streams_broken = 0
        return delta

    def merge(self, delta: dict[str, Any]) -> None:
        """Add what another tally's `take_delta` gave, before or after a way through JSON."""
        for tenant, api, model, backend, code, *counts in delta["cells"]:
            cell = self._cell((tenant, api, model, backend, code))
            for name, count in zip(COUNTERS, counts, strict=True):
                setattr(cell, name, getattr(cell, name) + count)
        for api, model, backend, code, name, counts, total in delta["spreads"]:
            histogram: Histogram = getattr(self._spread((api, model, backend, code)), name)
            histogram.merge(counts, total)
        for tenant, reason, count in delta["refused"]:
            self._add_refused(tenant, reason, count)
        for tier, source, count in delta["tiers"]:
            self.tiers[tier, source] = self.tiers.get((tier, source), 0) + count
        for tenant, backend, usd, joules in delta["spent"]:
            known = self.spent.setdefault((tenant, backend), [0.0, 0.0])
            known[0] += usd
            known[1] += joules
        for owner, unit, per, what, count in delta["budget_actions"]:
            self._add_action((owner, unit, per, what), count)
        for what, counts, total in delta["errors"]:
            self.errors[what].merge(counts, total)
        if delta["overhead_s"]:
            self.overhead_s.merge(*delta["overhead_s"])
        self.upstream_cancelled += delta["upstream_cancelled"]
        self.streams_broken += delta["streams_broken"]

    def _add_errors(self, predicted: Predicted, delivered: Delivered) -> None:
        for what, ratio in ratios(predicted, delivered):
            self.errors[what].add(ratio)

    def _add_failed(self, outcome: Outcome) -> None:
        if outcome.reason in REFUSALS:
            self._add_refused(outcome.tenant, outcome.reason, 1)
        elif outcome.reason == "client_left":
            self.upstream_cancelled += 1 if outcome.sent_s else 0
        elif 0 < outcome.status < 400:
            self.streams_broken += 1

    def _add_action(self, action: tuple[str, str, str, str], count: int) -> None:
        """As many keys as the policy has budgets, times what those do; and those of policies before it."""
        if action not in self.budget_actions and len(self.budget_actions) >= self.cells_limit:
            action = (OTHER, OTHER, OTHER, action[3])
        self.budget_actions[action] = self.budget_actions.get(action, 0) + count

    def _add_refused(self, tenant: str, reason: str, count: int) -> None:
        key = (tenant, reason)
        if key not in self.refused and len(self.refused) >= self.cells_limit:
            key = (OTHER, reason if reason in FAILURES else OTHER)
        self.refused[key] = self.refused.get(key, 0) + count

    def _cell(self, key: CellKey) -> Cell:
        cell = self.cells.get(key)
        if cell is None and len(self.cells) >= self.cells_limit:
            key = (OTHER, OTHER, OTHER, OTHER, key[4] // 100 * 100)
            cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = Cell(self._spread(key[1:]))
        return cell

    def _spread(self, key: SpreadKey) -> Spread:
        spread = self.spreads.get(key)
        if spread is None and len(self.spreads) >= self.cells_limit:
            key = (OTHER, OTHER, OTHER, key[3] // 100 * 100)
            spread = self.spreads.get(key)
        if spread is None:
            spread = self.spreads[key] = Spread()
        return spread


def _add_usage(cell: Cell, outcome: Outcome) -> None:
    if outcome.usage_source == "reported":
        cell.usage_reported += 1
    elif outcome.usage_source == "counted":
        cell.usage_counted += 1
    else:
        cell.usage_estimated += 1
    if outcome.usage_doubts:
        cell.usage_disputed += 1


def _take(cell: Cell) -> list[int] | None:
    if not cell.requests:
        return None
    counts = [getattr(cell, name) for name in COUNTERS]
    for name in COUNTERS:
        setattr(cell, name, 0)
    return counts
