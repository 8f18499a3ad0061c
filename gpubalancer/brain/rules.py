"""What the operator's rules make of a request.

A rule is compiled once for each policy: what it asks becomes predicates, what it does becomes values to add. Some of
what it asks no rule can change (`FIXED`: the API, the tenant, the risk, streaming), so for each combination of those
the rules that may match are found once and kept; combinations are as few as tenants and APIs. What remains is looked at
for every request, in the file's order; each rule sees what earlier ones made of the tier, the priority and the model.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from gpubalancer.brain.urgency import CLASSES
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Preference, Priority, Selection, Work
from gpubalancer.policy.hours import Hours
from gpubalancer.policy.rules import Comparison, Rule, Selector, When, span
from gpubalancer.policy.schema import Policy
from gpubalancer.policy.tenants import allows

Fields = Mapping[bytes, bytes]
_Test = Callable[[Work, Fields, float], bool]
_Fixed = tuple[object, ...]

FIXED: Mapping[str, str] = {"api": "api", "tenant": "tenant", "risk": "risk", "stream": "streamed"}
"""Keys of `when` that no rule changes, and the attribute of the work that they ask for."""
_fixed_of = attrgetter(*FIXED.values())


@dataclass(frozen=True, slots=True)
class _Compiled:
    """One rule.

    Attributes:
        name: as explanations show it.
        fixed: for each of `FIXED` the values that match, None for any.
        tests: what is looked at for each request; all must hold.
        required, denied_kinds, preferred: what is added to the work.
        priority, tier, model: what the work is made; None for as it is.
        tenants: those that may use `model`.
    """

    name: str
    fixed: tuple[frozenset[object] | None, ...]
    tests: tuple[_Test, ...]
    required: tuple[Selection, ...]
    denied_kinds: frozenset[str]
    preferred: tuple[Preference, ...]
    priority: Priority | None
    tier: int | None
    model: str | None
    tenants: frozenset[str]


class Rules:
    """The rules of one policy, ready to be applied."""

    def __init__(self, rules: Sequence[_Compiled], highest: Mapping[str, int]) -> None:
        self._rules = tuple(rules)
        self._highest = highest
        self._concerned: dict[_Fixed, tuple[_Compiled, ...]] = {}

    def __len__(self) -> int:
        return len(self._rules)

    def apply(self, work: Work, fields: Fields, wall_s: float) -> None:
        """Let every rule that matches change the work, in the file's order.

        Arguments:
            work: the request with all that is known of it, tenant, tier and tokens included.
            fields: of the head, names in lower case.
            wall_s: seconds since 1970 began in UTC.

        Raises:
            RequestError: `tier_not_served` if a rule raised the tier above the tenant's highest, `model_not_allowed` if
                a rule chose a model that the tenant may not use.
        """
        if not self._rules:
            return
        fixed = _fixed_of(work)
        rules = self._concerned.get(fixed)
        if rules is None:
            rules = self._concerned[fixed] = tuple(rule for rule in self._rules if _concerns(rule, fixed))
        for rule in rules:
            for holds in rule.tests:
                if not holds(work, fields, wall_s):
                    break
            else:
                self._act(rule, work)

    def _act(self, rule: _Compiled, work: Work) -> None:
        work.rules += (rule.name,)
        work.required += rule.required
        work.preferred += rule.preferred
        if rule.denied_kinds:
            work.denied_kinds |= rule.denied_kinds
        if rule.priority is not None:
            work.priority = rule.priority
        if rule.tier is not None and rule.tier > work.tier:
            if rule.tier > self._highest[work.tenant]:
                raise RequestError("tier_not_served", "This key may not send requests of this tier.")
            work.tier, work.tier_source = rule.tier, f"rule:{rule.name}"
        if rule.model is not None and work.model is not None:
            if work.tenant not in rule.tenants:
                raise RequestError("model_not_allowed", "The model for such requests is not open to this key.")
            work.model = rule.model


def compile_rules(policy: Policy) -> Rules:
    """The rules of a policy, with ranks for its tiers and predicates for its conditions."""
    highest = {tenant.name: policy.tier_ranks[tenant.max_tier] for tenant in policy.tenants}
    return Rules([_compile(rule, policy) for rule in policy.routing.rules], highest)


def _compile(rule: Rule, policy: Policy) -> _Compiled:
    model, tier, priority = rule.changes.model, rule.changes.tier, rule.changes.priority
    return _Compiled(
        name=rule.name,
        fixed=tuple(_values(getattr(rule.when, key)) for key in FIXED),
        tests=tuple(_tests(rule.when, policy.tier_ranks)),
        required=(_selection(rule.require),) if rule.require is not None else (),
        denied_kinds=frozenset(kind.value for kind in rule.deny_kinds),
        preferred=(Preference(_selection(rule.prefer), rule.prefer.worth_s),) if rule.prefer is not None else (),
        priority=CLASSES[priority] if priority is not None else None,
        tier=policy.tier_ranks[tier] if tier is not None else None,
        model=model,
        tenants=frozenset(tenant.name for tenant in policy.tenants if model and allows(tenant.models, model)),
    )


def _values(given: tuple[object, ...] | bool | None) -> frozenset[object] | None:
    if given is None:
        return None
    return frozenset(given if isinstance(given, tuple) else (given,))


def _concerns(rule: _Compiled, fixed: _Fixed) -> bool:
    return all(wanted is None or value in wanted for wanted, value in zip(rule.fixed, fixed, strict=True))


def _selection(selector: Selector) -> Selection:
    return Selection(
        names=frozenset(selector.name or ()),
        kinds=frozenset(kind.value for kind in selector.kind or ()),
        engines=frozenset(selector.engine or ()),
        hardware=frozenset(selector.hardware or ()),
        labels=frozenset(selector.labels.items()),
    )


def _tests(when: When, ranks: Mapping[str, int]) -> Iterator[_Test]:
    """The predicates of a rule, those that cost least first."""
    if when.model is not None:
        yield _one_of("model", when.model)
    if when.tier is not None:
        yield _one_of("tier", [ranks[name] for name in when.tier])
    if when.priority is not None:
        yield _one_of("priority", [CLASSES[name] for name in when.priority])
    if when.prompt_tokens is not None:
        yield _within("prompt_tokens", when.prompt_tokens)
    if when.output_tokens is not None:
        yield _within("output_tokens", when.output_tokens)
    for name, patterns in when.header.items():
        yield _has_header(name.lower().encode(), patterns)
    if when.time is not None:
        yield _in_hours(when.time)


def _one_of(attribute: str, values: Sequence[object]) -> _Test:
    read, wanted = attrgetter(attribute), frozenset(values)
    return lambda work, fields, wall_s: read(work) in wanted


def _within(attribute: str, bounds: Sequence[Comparison]) -> _Test:
    read: Callable[[Work], Any] = attrgetter(attribute)
    low, high = span(bounds)
    return lambda work, fields, wall_s: low <= read(work) <= high


def _has_header(name: bytes, patterns: Sequence[str]) -> _Test:
    # Cut at the stars, so that no value, however long, costs more than one pass over it for each piece.
    wanted = [pattern.encode().split(b"*") for pattern in patterns]

    def holds(work: Work, fields: Fields, wall_s: float) -> bool:
        value = fields.get(name)
        return value is not None and any(_spells(value, pieces) for pieces in wanted)

    return holds


def _spells(value: bytes, pieces: Sequence[bytes]) -> bool:
    """True if `value` is the pieces in their order with anything between them."""
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return value == first
    end = len(value) - len(last)
    if len(first) > end or not value.startswith(first) or not value.endswith(last):
        return False
    position = len(first)
    for piece in pieces[1:-1]:
        position = value.find(piece, position, end)
        if position < 0:
            return False
        position += len(piece)
    return True


def _in_hours(spans: Sequence[Hours]) -> _Test:
    return lambda work, fields, wall_s: any(hours.contain(wall_s) for hours in spans)
