"""The decision as a table: what dropped each backend, or what it would have cost, and by how much the choice won.

Nothing is worked out while requests wait. `Evidence` keeps what a decision was made from, by reference; the table is
made from it when somebody asks, by the same formulas.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from gpubalancer.brain.admission import Limits, limits
from gpubalancer.brain.columns import row_of
from gpubalancer.brain.constraints import reasons
from gpubalancer.brain.cost import Weight, terms_of, weigh
from gpubalancer.brain.fleet import Flags, Fleet
from gpubalancer.brain.live import Live
from gpubalancer.brain.method import Method
from gpubalancer.brain.verdict import Choice
from gpubalancer.domain.work import Work

LATE = "slo"
"""Dropped because a prediction would not keep the SLO."""


class Evidence(NamedTuple):
    """What `choose` was given and what it answered. The columns of `live` must not change any more."""

    fleet: Fleet
    work: Work
    live: Live
    tried: Flags | None
    method: Method
    waited_s: float
    choice: Choice


@dataclass(frozen=True, slots=True)
class Row:
    """One backend.

    Attributes:
        dropped: the constraint that dropped it, None where it could have been taken.
        terms: the summands of its cost in seconds, empty where a constraint rules it out for good.
        total_s, ttft_s, tpot_s, usd: cost and predictions; None with empty terms.
        cached_tokens: of the prompt, what it is expected to have read before.
    """

    name: str
    dropped: str | None
    terms: dict[str, float]
    total_s: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    usd: float | None = None
    cached_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """The table.

    Attributes:
        choice: the chosen backend's name, None if there is none.
        reason: why it was chosen, or why none was.
        work: the request as it was classified, for people; none of its text.
        rows: in the policy's order.
        margin_s: by how much the second best costs more; below 0 where money decided, None without a second.
        policy: the policy's hash.
    """

    choice: str | None
    reason: str
    work: dict[str, Any]
    rows: tuple[Row, ...]
    margin_s: float | None
    policy: str

    def to_json(self) -> dict[str, Any]:
        """The shape of `explain --json`."""
        return {
            "choice": self.choice,
            "reason": self.reason,
            "work": self.work,
            "backends": [_row_to_json(row) for row in self.rows],
            "margin_s": self.margin_s,
            "policy": self.policy,
        }


def explain(evidence: Evidence, policy: str) -> Explanation:
    """The table of a decision.

    Arguments:
        evidence: of that decision.
        policy: hash of the policy by which it was made.
    """
    fleet, choice = evidence.fleet, evidence.choice
    dropped: list[str | None] = list(reasons(fleet, evidence.work, evidence.live, evidence.tried))
    weights = {index: _weigh(evidence, index) for index, why in enumerate(dropped) if why in (None, "slots")}
    late = _late(evidence, weights)
    for index in late - {choice.index}:
        dropped[index] = dropped[index] or LATE
    rows = tuple(_row(evidence, index, why, weights.get(index)) for index, why in enumerate(dropped))
    name = None if choice.index is None else fleet.names[choice.index]
    reason = _reason(evidence, weights, choice.index in late)
    return Explanation(name, reason, _work(evidence), rows, _margin_s(choice, rows), policy)


def _weigh(evidence: Evidence, index: int) -> Weight[float]:
    work, method = evidence.work, evidence.method
    prefer_s = float(evidence.fleet.preference_s(work)[index])
    economy, load = row_of(method.economy, index), evidence.live.load_of(index)
    return weigh(economy, load, work.prompt_tokens, work.output_tokens, method.weights, prefer_s)


def _row(evidence: Evidence, index: int, dropped: str | None, weight: Weight[float] | None) -> Row:
    name = evidence.fleet.names[index]
    if weight is None:
        return Row(name, dropped, {})
    economy, load = row_of(evidence.method.economy, index), evidence.live.load_of(index)
    prefer_s = float(evidence.fleet.preference_s(evidence.work)[index])
    terms = terms_of(weight, economy, load, evidence.method.weights, prefer_s)._asdict()
    times = weight.total_s, weight.ttft_s, weight.tpot_s
    return Row(name, dropped, terms, *times, weight.usd, load.cached_tokens)


def _late(evidence: Evidence, weights: dict[int, Weight[float]]) -> set[int]:
    """Those whose predictions would not keep what `choose` asked of them."""
    slo, work, live = evidence.method.slo, evidence.work, evidence.live
    if slo is None or not weights:
        return set()
    late = _beyond(evidence, weights, limits(slo, work, evidence.waited_s))
    if any(live.in_flight[index] < evidence.fleet.slots[index] for index in weights.keys() - late):
        return late
    economy = evidence.method.economy
    best_ttft_s = min(weight.idle_ttft_s * float(economy.ttft_ratio[index]) for index, weight in weights.items())
    best_tpot_s = min(weight.idle_tpot_s * float(economy.tpot_ratio[index]) for index, weight in weights.items())
    bounds = limits(slo, work, evidence.waited_s, best_ttft_s, best_tpot_s)
    return _beyond(evidence, weights, bounds)


def _beyond(evidence: Evidence, weights: dict[int, Weight[float]], bounds: Limits) -> set[int]:
    economy = evidence.method.economy
    return {
        index
        for index, weight in weights.items()
        if weight.ttft_s * economy.ttft_ratio[index] > bounds.ttft_s
        or weight.tpot_s * economy.tpot_ratio[index] > bounds.tpot_s
    }


def _reason(evidence: Evidence, weights: dict[int, Weight[float]], is_late: bool) -> str:
    choice = evidence.choice
    if choice.wait == "hopeless":
        return f"the SLO can no longer be met; worth another try in {choice.retry_after_s:.0f} s"
    if choice.wait == "hold":
        return "waits until one is free and keeps the SLO"
    if choice.index is None:
        return "no backend may serve this or is fit to"
    if is_late:
        return "none keeps the SLO, and this one is idle"
    if len(weights) == 1:
        return "the only one that may serve this and is fit to"
    is_by_money = evidence.method.frugal and any(weight.usd for weight in weights.values())
    return "the least money of those that keep the SLO" if is_by_money else "the least cost"


def _work(evidence: Evidence) -> dict[str, Any]:
    work = evidence.work
    return {
        "api": work.api,
        "model": work.model,
        "tenant": work.tenant,
        "tier": work.tier,
        "tier_source": work.tier_source,
        "priority": work.priority.name.lower(),
        "prompt_tokens": work.prompt_tokens,
        "output_tokens": work.output_tokens,
        "output_tokens_high": work.output_tokens_high,
        "batch": work.batch,
        "streamed": work.streamed,
        "risk": work.risk,
        "findings": {finding.detector: finding.count for finding in work.findings},
        "rules": list(work.rules),
        "waited_s": evidence.waited_s,
    }


def _margin_s(choice: Choice, rows: tuple[Row, ...]) -> float | None:
    if choice.index is None:
        return None
    chosen_s = rows[choice.index].total_s
    others = [row.total_s for index, row in enumerate(rows) if index != choice.index and row.dropped is None]
    costs = [total_s for total_s in others if total_s is not None]
    return min(costs) - chosen_s if costs and chosen_s is not None else None


def _row_to_json(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "dropped": row.dropped,
        "terms": row.terms,
        "total_s": row.total_s,
        "ttft_s": row.ttft_s,
        "tpot_s": row.tpot_s,
        "usd": row.usd,
        "cached_tokens": round(row.cached_tokens),
    }
