"""What a request becomes when a budget with `when_spent: downgrade` no longer pays for what it asks for.

The model's `downgrade_to` answers if the tenant may use it and some backend may serve the request with it; else the
request goes to the cheapest kind of backend among those that may serve it. Whatever else constrains the request (tier,
rules, labels) still does. Rules are applied again to the cheaper model, and what they demand of it is added: no rule
lets go of a request that it had bound. Where they refuse it or choose another model, it does not answer.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gpubalancer.brain.columns import Column, Economy
from gpubalancer.brain.fleet import Fleet
from gpubalancer.brain.price import usd_alone
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Work
from gpubalancer.policy.schema import Policy
from gpubalancer.policy.tenants import Tenant, allows

KINDS = ("cpu", "gpu", "cloud")
"""The cheapest first, where prices do not tell."""


def downgrade(
    work: Work,
    policy: Policy,
    fleet: Fleet,
    economy: Economy[Column],
    tenant: Tenant,
    apply_rules: Callable[[Work], None],
) -> str:
    """Make a request a cheaper one.

    Arguments:
        work: the request as the rules have left it.
        policy: has the models.
        fleet: says who may serve it.
        economy: what backends cost.
        tenant: whose it is.
        apply_rules: lets the policy's rules change a request, or raises `RequestError`.

    Returns:
        What it has become, `model=NAME` or `kind=KIND`; empty if there is nothing cheaper, and it is as it was.
    """
    cheaper = _with_cheaper_model(work, policy, fleet, tenant, apply_rules)
    if cheaper is not None:
        _become(work, cheaper)
        return f"model={work.model}"
    kind = _cheapest_kind(work, fleet, economy)
    if kind is not None:
        work.kinds = frozenset((kind,))
        return f"kind={kind}"
    return ""


def _with_cheaper_model(
    work: Work, policy: Policy, fleet: Fleet, tenant: Tenant, apply_rules: Callable[[Work], None]
) -> Work | None:
    """The request for the cheaper model, bound by the rules for both; None if that can't be served."""
    model = _cheaper_model(work, policy, fleet, tenant)
    if model is None:
        return None
    # What rules preferred they prefer again, or it was of the other model; the prompt was counted by its tokenizer.
    counted = work.counted and _same_tokenizer(policy, work.model, model)
    cheaper = replace(work, model=model, counted=counted, preferred=())
    try:
        apply_rules(cheaper)
    except RequestError:
        return None
    if cheaper.model != model or not fleet.eligible(cheaper).any():
        return None
    cheaper.required = tuple(dict.fromkeys(cheaper.required))
    cheaper.rules = tuple(dict.fromkeys(cheaper.rules))
    return cheaper


def _become(work: Work, other: Work) -> None:
    """Take over what a model and the rules decide."""
    work.model, work.counted, work.priority = other.model, other.counted, other.priority
    work.tier, work.tier_source = other.tier, other.tier_source
    work.required, work.denied_kinds, work.preferred = other.required, other.denied_kinds, other.preferred
    work.rules = other.rules


def _cheaper_model(work: Work, policy: Policy, fleet: Fleet, tenant: Tenant) -> str | None:
    """The model's `downgrade_to`, if the tenant may use it and the prompt fits, as far as it was estimated."""
    known = policy.models.get(work.model or "")
    # A name that can't be changed on the way (uploads, paths) stays.
    if known is None or known.downgrade_to is None or work.sent_name is not None:
        return None
    model = fleet.resolve(known.downgrade_to)
    if model is None or not allows(tenant.models, model):
        return None
    limit = fleet.contexts.get(model)
    return model if limit is None or work.prompt_tokens < limit * work.batch else None


def _same_tokenizer(policy: Policy, before: str | None, after: str) -> bool:
    models = policy.models
    return before in models and after in models and models[before].tokenizer == models[after].tokenizer


def _cheapest_kind(work: Work, fleet: Fleet, economy: Economy[Column]) -> str | None:
    usd = usd_alone(economy, work.prompt_tokens, work.output_tokens_high)
    least: dict[str, float] = {}
    for index in np.flatnonzero(fleet.eligible(work)).tolist():
        kind = fleet.kinds[index]
        if kind is not None:
            least[kind] = min(float(usd[index]), least.get(kind, float("inf")))
    if len(least) < 2:
        return None
    return min(least, key=lambda kind: (least[kind], KINDS.index(kind)))
