"""Budgets that could not work: that count nothing, count twice, or can't be counted; and parents that are no tree."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpubalancer.domain.backend import Kind
from gpubalancer.domain.budget import CLAIMS_LIMIT, MOST, SCALE
from gpubalancer.policy.backends import Backend
from gpubalancer.policy.budgets import Budget, is_too_much
from gpubalancer.policy.findings import Finding, Path, near, quoted
from gpubalancer.policy.tenants import Tenant, allows

if TYPE_CHECKING:
    from gpubalancer.policy.schema import Policy


def _lists(policy: "Policy") -> Iterator[tuple[Path, tuple[Budget, ...]]]:
    """Each list of budgets: the tenants' own and their keys'."""
    for index, tenant in enumerate(policy.tenants):
        yield ("tenants", index, "budgets"), tenant.budgets
        for place, key in enumerate(tenant.keys):
            yield ("tenants", index, "keys", place, "budgets"), key.budgets


def _budgets(policy: "Policy") -> Iterator[tuple[Path, Budget]]:
    for path, budgets in _lists(policy):
        yield from (((*path, place), budget) for place, budget in enumerate(budgets))


def _periods_fit(policy: "Policy") -> Iterator[Finding]:
    for path, budget in _budgets(policy):
        if budget.unit == "concurrent" and budget.per is not None:
            yield Finding((*path, "per"), quoted(budget.per.text), "none: `concurrent` counts requests at one time")
        if budget.unit != "concurrent" and budget.per is None:
            yield Finding((*path, "per"), "nothing", "a period: a duration such as 1m, or day, week or month")
        if budget.burst is not None and (budget.per is None or budget.per.length_s is None):
            what = budget.per.text if budget.per else budget.unit
            expected = (
                f"none: a {what}'s budget may be spent at any pace" if budget.per else "none: nothing is saved up"
            )
            yield Finding((*path, "burst"), f"a burst for {'a ' if budget.per else ''}{what}", expected)


def _amounts_fit(policy: "Policy") -> Iterator[Finding]:
    for path, budget in _budgets(policy):
        for key, amount in (("limit", budget.limit), ("burst", budget.burst)):
            if amount is None:
                continue
            if is_too_much(amount, budget.unit):
                expected = f"at most {MOST // SCALE[budget.unit]} {budget.unit}, so that no sum overflows"
                yield Finding((*path, key), f"{amount:g} {budget.unit}", expected)
            elif SCALE[budget.unit] == 1 and not amount.is_integer():
                yield Finding((*path, key), f"{amount:g} {budget.unit}", "a whole number")
            elif amount * SCALE[budget.unit] < 1:
                yield Finding((*path, key), f"{amount:g} {budget.unit}", f"at least {1 / SCALE[budget.unit]:g}")


def _said_once(policy: "Policy") -> Iterator[Finding]:
    for path, budgets in _lists(policy):
        seen: set[tuple[str, str, frozenset[str]]] = set()
        for place, budget in enumerate(budgets):
            one = budget.unit, budget.period_key, frozenset(budget.models)
            if one in seen:
                per = f" per {budget.per.text}" if budget.per else ""
                key = "per" if budget.per else "unit"
                expected = "one budget for each unit and period (and `models`)"
                yield Finding((*path, place, key), f"{budget.unit}{per} a second time", expected)
            seen.add(one)


def _weights_matter(policy: "Policy") -> Iterator[Finding]:
    for path, budget in _budgets(policy):
        if budget.cached_weight != 1.0 and budget.unit not in ("tokens", "prompt_tokens"):
            found = f"a weight of cached tokens for {budget.unit}"
            yield Finding((*path, "cached_weight"), found, "none, since only `tokens` and `prompt_tokens` count them")
        if not budget.models:
            yield Finding((*path, "models"), "an empty list", "at least one, or no `models` at all for any")


def _models_match(policy: "Policy") -> Iterator[Finding]:
    """A limit that is off because no model has its name, where every backend says what it serves."""
    if any(backend.models is None for backend in policy.backends):
        return
    known = sorted({*policy.models, *(name for backend in policy.backends for name in backend.models or {})})
    for path, budget in _budgets(policy):
        for place, pattern in enumerate(budget.models):
            if not any(allows((pattern,), name) for name in known):
                expected = f"a model's own name, or a pattern that fits one: {near(pattern, known)}"
                yield Finding((*path, "models", place), quoted(pattern), expected)


def _parents_are_a_tree(policy: "Policy") -> Iterator[Finding]:
    parents = {tenant.name: tenant.parent for tenant in policy.tenants}
    for index, tenant in enumerate(policy.tenants):
        if tenant.parent is None:
            continue
        path: Path = ("tenants", index, "parent")
        if tenant.parent not in parents:
            others = [name for name in parents if name != tenant.name]
            yield Finding(path, quoted(tenant.parent), f"a declared tenant: {near(tenant.parent, others)}")
        elif _is_own_ancestor(tenant.name, parents):
            yield Finding(path, quoted(tenant.parent), "a tenant above this one, not below it")


def _is_own_ancestor(name: str, parents: dict[str, str | None]) -> bool:
    above = parents[name]
    for _ in parents:
        if above is None or above == name:
            break
        above = parents.get(above)
    return above == name


def _few_enough(policy: "Policy") -> Iterator[Finding]:
    by_name = {tenant.name: tenant for tenant in policy.tenants}
    for index, tenant in enumerate(policy.tenants):
        most = max((len(key.budgets) for key in tenant.keys), default=0)
        count = most + sum(len(payer.budgets) for payer in lineage(tenant, by_name))
        if count > CLAIMS_LIMIT:
            expected = f"at most {CLAIMS_LIMIT}, with its parents' and those of one key"
            yield Finding(("tenants", index, "budgets"), f"{count} budgets", expected)


def lineage(tenant: Tenant, by_name: dict[str, Tenant]) -> list[Tenant]:
    """The tenant and its ancestors, nearest first; a cycle ends where it closes."""
    found = [tenant]
    while (parent := by_name.get(found[-1].parent or "")) is not None and parent not in found:
        found.append(parent)
    return found


def _can_be_measured(policy: "Policy") -> Iterator[Finding]:
    """Money needs a price wherever the payer's requests may go; energy needs one place where it is measured."""
    by_name = {tenant.name: tenant for tenant in policy.tenants}
    used = {tenant.name: _reach(tenant, policy) for tenant in policy.tenants}
    for index, tenant in enumerate(policy.tenants):
        spenders = [each.name for each in policy.tenants if tenant in lineage(each, by_name)]
        reached = {backend.name: backend for name in spenders for backend in used[name]}.values()
        for path, budget in _budgets(policy):
            if path[1] != index:
                continue
            if budget.unit == "usd":
                for backend in reached:
                    if "price" not in backend.model_fields_set:
                        free = "{usd_per_hour: 0} if it is free"
                        expected = f"a `price` for backend {quoted(backend.name)} that it may use, {free}"
                        yield Finding((*path, "unit"), "usd", expected)
                        break
            if budget.unit == "joules" and reached and not any(_has_meter(backend) for backend in reached):
                expected = "an `agent` or `exporter` of at least one backend that it may use, to measure energy"
                yield Finding((*path, "unit"), "joules", expected)


def _reach(tenant: Tenant, policy: "Policy") -> list[Backend]:
    return [
        backend
        for backend in policy.backends
        if (tenant.kinds is None or backend.kind is None or backend.kind in tenant.kinds)
        and tenant.labels.items() <= backend.labels.items()
        and (backend.models is None or any(allows(tenant.models, model) for model in backend.models))
    ]


def _has_meter(backend: Backend) -> bool:
    telemetry = backend.telemetry
    return backend.kind is not Kind.CLOUD and (telemetry.agent is not None or telemetry.exporter is not None)


SHARED_MOST = (1 << 53) - 1
"""The greatest number that a server of shared budgets can count with."""


def _fits_the_server(policy: "Policy") -> Iterator[Finding]:
    if policy.state.budgets_url is None:
        return
    for path, budget in _budgets(policy):
        for key, amount in (("limit", budget.scaled_limit), ("burst", budget.scaled_capacity)):
            if SHARED_MOST < amount <= MOST and (key == "limit" or budget.burst is not None):
                most = SHARED_MOST // SCALE[budget.unit]
                expected = f"at most {most} {budget.unit} where budgets are on a server (`state.budgets`)"
                yield Finding((*path, key), f"{amount / SCALE[budget.unit]:g} {budget.unit}", expected)


BUDGET_CHECKS = (
    _periods_fit,
    _amounts_fit,
    _said_once,
    _weights_matter,
    _models_match,
    _parents_are_a_tree,
    _few_enough,
    _can_be_measured,
    _fits_the_server,
)
