"""Rules at random, and an interpreter that does what the file says, word by word and slowly."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from hypothesis import strategies as st

from gpubalancer.domain.work import Preference, Priority, Selection, Work
from gpubalancer.policy.routing import Routing
from gpubalancer.policy.rules import Rule
from gpubalancer.policy.schema import Policy
from tests.brain.policies import policy

TEXT = """
tiers: [{name: public}, {name: internal}, {name: secret}]
backends:
  - {name: a, url: "http://127.0.0.1:9001", kind: gpu, engine: vllm, hardware: h100, models: [m, n], labels: {x: y}}
  - {name: b, url: "http://127.0.0.1:9002", kind: cpu, engine: llamacpp, models: [m, n]}
tenants:
  - {name: t, max_tier: internal, models: [m]}
  - {name: u}
anonymous: u
"""
POLICY = policy(TEXT)
"""Tenant `t` may use one model and send two tiers, `u` may do everything."""


def ruled(*rules: Mapping[str, Any]) -> Policy:
    """The policy with these rules, unchecked, so that a test may say anything."""
    named = [{"name": str(index)} | dict(rule) for index, rule in enumerate(rules)]
    return POLICY.model_copy(update={"routing": Routing.model_validate({"rules": named})})


_TIERS, _CLASSES = ["public", "internal", "secret"], ["interactive", "standard", "batch"]
_BOUNDS = st.builds("{} {}".format, st.sampled_from(["<", "<=", "=", ">=", ">"]), st.integers(0, 4))
_HOURS = st.sampled_from(["00:00-12:00", "18:00-06:00", "mon-wed 10:00-14:00", "sat 23:00-01:00 Asia/Kolkata"])


def _some(values: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)


_WHEN = st.fixed_dictionaries(
    {},
    optional={
        "api": _some(["chat", "embeddings"]),
        "model": _some(["m", "n"]),
        "tenant": _some(["t", "u"]),
        "tier": _some(_TIERS),
        "priority": _some(_CLASSES),
        "risk": st.just("injection"),
        "prompt_tokens": st.lists(_BOUNDS, min_size=1, max_size=2),
        "output_tokens": _BOUNDS,
        "stream": st.booleans(),
        "header": st.dictionaries(st.sampled_from(["x-a", "X-B"]), _some(["a", "a*", "*b"])),
        "time": st.lists(_HOURS, min_size=1, max_size=2),
    },
)
_SELECTORS = st.fixed_dictionaries(
    {},
    optional={
        "kind": _some(["gpu", "cpu"]),
        "name": _some(["a", "b"]),
        "labels": st.just({"x": "y"}),
        "engine": st.just("vllm"),
    },
)
_CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "tier": st.sampled_from(_TIERS),
        "priority": st.sampled_from(_CLASSES),
        "model": st.sampled_from(["m", "n"]),
    },
)
_LIMITS: dict[str, st.SearchStrategy[Any]] = {
    "require": _SELECTORS,
    "prefer": _SELECTORS,
    "deny_kinds": _some(["gpu", "cpu", "cloud"]),
}
RULES = st.fixed_dictionaries({"when": _WHEN}, optional=_LIMITS | {"set": _CHANGES})
_LIMITING_RULES = st.fixed_dictionaries({"when": _WHEN}, optional=_LIMITS)
ORDERED_RULES = st.lists(_LIMITING_RULES, max_size=5).flatmap(
    lambda rules: st.tuples(st.just(rules), st.permutations(range(len(rules))))
)
WORKS = st.builds(
    Work,
    api=st.sampled_from(["chat", "embeddings", "claimed"]),
    model=st.sampled_from(["m", "n", None]),
    tier=st.integers(0, 2),
    streamed=st.booleans(),
    deadline_s=st.just(float("inf")),
    tenant=st.sampled_from(["t", "u"]),
    priority=st.sampled_from(Priority),
    prompt_tokens=st.integers(0, 5),
    output_tokens=st.integers(0, 5),
    risk=st.sampled_from(["injection", None]),
)
FIELDS = st.dictionaries(st.sampled_from([b"x-a", b"x-b", b"x-c"]), st.text("ab", max_size=3).map(str.encode))
WALLS_S = st.floats(0, 14 * 86_400)


def _is_for(rule: Rule, work: Work, fields: Mapping[bytes, bytes], wall_s: float) -> bool:
    """What a rule asks, word by word."""
    when = rule.when
    facts: list[tuple[Any, Any]] = [
        (when.api, work.api),
        (when.model, work.model),
        (when.tenant, work.tenant),
        (when.tier, _TIERS[work.tier]),
        (when.priority, _CLASSES[work.priority]),
        (when.risk, work.risk),
        (None if when.stream is None else [when.stream], work.streamed),
    ]
    if any(wanted is not None and fact not in wanted for wanted, fact in facts):
        return False
    if not all(bound.holds(work.prompt_tokens) for bound in when.prompt_tokens or ()):
        return False
    if not all(bound.holds(work.output_tokens) for bound in when.output_tokens or ()):
        return False
    for name, patterns in when.header.items():
        value = fields.get(name.lower().encode())
        if value is None or not any(fnmatchcase(value.decode(), pattern) for pattern in patterns):
            return False
    return when.time is None or any(hours.contain(wall_s) for hours in when.time)


def interpreted(work: Work, rules: Sequence[Rule], fields: Mapping[bytes, bytes], wall_s: float) -> Work | str:
    """The work as the file's words leave it, or the code of its refusal."""
    left = replace(work)
    for rule in rules:
        if not _is_for(rule, left, fields, wall_s):
            continue
        left.rules = (*left.rules, rule.name)
        if rule.require:
            left.required = (*left.required, _selection(rule.require))
        if rule.prefer:
            left.preferred = (*left.preferred, Preference(_selection(rule.prefer), rule.prefer.worth_s))
        left.denied_kinds = left.denied_kinds | {str(kind) for kind in rule.deny_kinds}
        if rule.changes.priority:
            left.priority = Priority(_CLASSES.index(rule.changes.priority))
        if rule.changes.tier and _TIERS.index(rule.changes.tier) > left.tier:
            left.tier, left.tier_source = _TIERS.index(rule.changes.tier), f"rule:{rule.name}"
            if left.tenant == "t" and left.tier > 1:
                return "tier_not_served"
        if rule.changes.model and left.model:
            left.model = rule.changes.model
            if left.tenant == "t" and left.model == "n":
                return "model_not_allowed"
    return left


def _selection(selector: Any) -> Selection:
    names = {"names": "name", "kinds": "kind", "engines": "engine", "hardware": "hardware"}
    given = {key: frozenset(map(str, getattr(selector, name) or ())) for key, name in names.items()}
    return Selection(**given, labels=frozenset(selector.labels.items()))
