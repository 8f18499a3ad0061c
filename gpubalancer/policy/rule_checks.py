"""Rules that could never do anything: never match, choose no backend, or change nothing.

Only what the file itself decides is found. A backend whose kind or engine the file leaves open may turn out to be any;
labels and hardware are known from the file alone. What is wrong by itself (a name that nothing has) is told there, and
only where each part is right does the whole get looked at: a selector that fits no backend, tenants that can't have the
tier. Names of tiers, models and tenants are looked up in `checks`, with everybody else's.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from gpubalancer.domain.backend import Kind
from gpubalancer.policy.backends import Backend
from gpubalancer.policy.findings import Finding, Path, listed, near, quoted
from gpubalancer.policy.rules import Rule, Selector, When, span
from gpubalancer.policy.tenants import PRIORITIES, Tenant, allows

if TYPE_CHECKING:
    from gpubalancer.policy.schema import Policy


def _rules(policy: "Policy") -> Iterator[tuple[Path, Rule]]:
    return ((("routing", "rules", index), rule) for index, rule in enumerate(policy.routing.rules))


def _selectors(rule: Rule, path: Path) -> Iterator[tuple[Path, Selector]]:
    if rule.require is not None:
        yield (*path, "require"), rule.require
    if rule.prefer is not None:
        yield (*path, "prefer"), rule.prefer


def _given(part: When | Selector) -> Iterator[tuple[str, Collection[object]]]:
    """What a part of a rule chooses by: each key, and the values or names given for it."""
    for key in type(part).model_fields:
        value = getattr(part, key)
        if isinstance(value, tuple) or (isinstance(value, dict) and value):
            yield key, value


def _something_changes(policy: "Policy") -> Iterator[Finding]:
    for path, rule in _rules(policy):
        acts = (rule.require, rule.prefer, rule.deny_kinds, *rule.changes.model_dump(exclude_none=True))
        if not any(acts):
            yield Finding(path, "a rule that changes nothing", "`set`, `require`, `prefer` or `deny_kinds`")
        for at, selector in _selectors(rule, path):
            if not any(_given(selector)):
                yield Finding(at, "nothing to choose by", "`kind`, `name`, `engine`, `hardware` or `labels`")


def _lists_are_filled(policy: "Policy") -> Iterator[Finding]:
    for path, rule in _rules(policy):
        parts: list[tuple[Path, When | Selector]] = [((*path, "when"), rule.when), *_selectors(rule, path)]
        for at, part in parts:
            for key, values in _given(part):
                if not values:
                    yield Finding((*at, key), "an empty list", f"at least one, or no `{key}` at all for any")
        for name, values in rule.when.header.items():
            if not values:
                yield Finding((*path, "when", "header", name), "an empty list", 'at least one, or "*" for any')


def _bounds_agree(policy: "Policy") -> Iterator[Finding]:
    for path, rule in _rules(policy):
        for key, bounds in (("prompt_tokens", rule.when.prompt_tokens), ("output_tokens", rule.when.output_tokens)):
            low, high = span(bounds or ())
            if low > high:
                found = listed(map(str, bounds or ()))
                yield Finding((*path, "when", key), found, "comparisons that some number fulfils, since all must hold")


def _headers_once(policy: "Policy") -> Iterator[Finding]:
    for path, rule in _rules(policy):
        seen: set[str] = set()
        for name in rule.when.header:
            if name.lower() in seen:
                at = (*path, "when", "header", name)
                yield Finding(
                    at, f"{quoted(name)} a second time", "each header once, since names are equal in any case"
                )
            seen.add(name.lower())


def _risks_are_labelled(policy: "Policy") -> Iterator[Finding]:
    action = policy.sensitivity.injection.action
    for path, rule in _rules(policy):
        if rule.when.risk and action != "label":
            expected = f"sensitivity.injection.action: label, since with {quoted(action)} no request has a risk"
            yield Finding((*path, "when", "risk"), listed(rule.when.risk), expected)


def _tenants_can_match(policy: "Policy") -> Iterator[Finding]:
    """Whether some tenant of a rule may have its tier, use its models and be of its class."""
    ranks = policy.tier_ranks
    set_before: set[str] = set()
    for path, rule in _rules(policy):
        when = rule.when
        tenants = [tenant for tenant in policy.tenants if when.tenant is None or tenant.name in when.tenant]
        known = {ranks[name] for name in when.tier or () if name in ranks}
        if tenants and known and not any(_may_have(tenant, known, ranks) for tenant in tenants):
            yield Finding((*path, "when", "tier"), listed(when.tier or ()), f"a tier that {_whose(when)} may send")
        for key, models in (("when", when.model), ("set", (rule.changes.model,) if rule.changes.model else None)):
            if tenants and models and not any(allows(tenant.models, name) for tenant in tenants for name in models):
                yield Finding((*path, key, "model"), listed(models), f"a model that {_whose(when)} may use")
        classes = set_before.union(*(PRIORITIES[PRIORITIES.index(tenant.priority) :] for tenant in tenants))
        if tenants and when.priority and classes.isdisjoint(when.priority):
            expected = f"a class that {_whose(when)} or an earlier rule gives: {listed(sorted(classes))}"
            yield Finding((*path, "when", "priority"), listed(when.priority), expected)
        set_before.update([rule.changes.priority] if rule.changes.priority else ())


def _may_have(tenant: Tenant, tiers: Collection[int], ranks: dict[str, int]) -> bool:
    """True if a tenant's requests may have one of the tiers; also if its own tiers are unknown, which is told there."""
    lowest, highest = ranks.get(tenant.tier, 0), ranks.get(tenant.max_tier, len(ranks))
    return any(lowest <= tier <= highest for tier in tiers)


def _whose(when: When) -> str:
    return "some tenant" if when.tenant is None else f"tenant {' or '.join(map(quoted, when.tenant))}"


def _selectors_fit(policy: "Policy") -> Iterator[Finding]:
    for path, rule in _rules(policy):
        unknown = [
            found for at, selector in _selectors(rule, path) for found in _unknown(selector, policy.backends, at)
        ]
        yield from unknown
        if not unknown and policy.backends:
            yield from _leaves_none(rule, policy.backends, path)


def _unknown(selector: Selector, backends: Sequence[Backend], path: Path) -> Iterator[Finding]:
    """What a selector names that no backend has."""
    named = [backend.name for backend in backends]
    hardware = [backend.hardware for backend in backends if backend.hardware is not None]
    engines = [backend.engine for backend in backends if backend.engine is not None]
    may_be_any = len(engines) < len(backends)
    words = (
        ("name", selector.name, named, "a backend's name"),
        ("engine", None if may_be_any else selector.engine, engines, "a backend's engine"),
        ("hardware", selector.hardware, hardware, "a backend's hardware"),
    )
    for key, wanted, known, what in words:
        for place, name in enumerate(wanted or ()):
            if name not in known:
                yield Finding((*path, key, place), quoted(name), f"{what}: {near(name, sorted(set(known)))}")
    for label, value in selector.labels.items():
        values = {backend.labels[label] for backend in backends if label in backend.labels}
        if value not in values:
            known_labels = values or {label for backend in backends for label in backend.labels}
            what = "a value that a backend's label has" if values else "a label that a backend carries"
            expected = f"{what}: {near(value if values else label, sorted(known_labels))}"
            yield Finding((*path, "labels", label), quoted(value if values else label), expected)


def _leaves_none(rule: Rule, backends: Sequence[Backend], path: Path) -> Iterator[Finding]:
    allowed = set(Kind) - set(rule.deny_kinds)
    left = [backend for backend in backends if _may_fit(Selector(), backend, allowed)]
    if not left:
        yield Finding((*path, "deny_kinds"), listed(rule.deny_kinds), "kinds without which there is still a backend")
        return
    for at, selector in _selectors(rule, path):
        left = [backend for backend in left if _may_fit(selector, backend, allowed)]
        if not left:
            asks_more = rule.deny_kinds or (selector is rule.prefer and rule.require)
            whole = "it and what else the rule asks for" if asks_more else "all of it"
            yield Finding(at, "a choice that no backend fits", f"at least one backend that fits {whole}")
            return


def _may_fit(selector: Selector, backend: Backend, kinds: Collection[Kind]) -> bool:
    """True if a backend fits, as far as the file says, and is of one of these kinds."""
    own_kinds = set(Kind) if backend.kind is None else {backend.kind}
    return (
        not own_kinds.isdisjoint(set(kinds) & set(selector.kind or kinds))
        and (selector.name is None or backend.name in selector.name)
        and (selector.engine is None or backend.engine is None or backend.engine in selector.engine)
        and (selector.hardware is None or backend.hardware in selector.hardware)
        and selector.labels.items() <= backend.labels.items()
    )


RULE_CHECKS = (
    _something_changes,
    _lists_are_filled,
    _bounds_agree,
    _headers_once,
    _risks_are_labelled,
    _tenants_can_match,
    _selectors_fit,
)
