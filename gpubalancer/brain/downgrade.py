"""What a request becomes when a budget with `when_spent: downgrade` no longer pays for what it asks for.

The model's `downgrade_to` answers if the tenant may use it and some backend may serve the request with it; else the
request goes to the cheapest kind of backend among those that may serve it. Whatever else constrains the request (tier,
rules, labels) still does, because only its model or its kinds change.
"""

from dataclasses import replace

import numpy as np

from gpubalancer.brain.columns import Column, Economy
from gpubalancer.brain.fleet import Fleet
from gpubalancer.brain.price import usd_alone
from gpubalancer.domain.work import Work
from gpubalancer.policy.schema import Policy
from gpubalancer.policy.tenants import Tenant, allows

KINDS = ("cpu", "gpu", "cloud")
"""The cheapest first, where prices do not tell."""


def downgrade(work: Work, policy: Policy, fleet: Fleet, economy: Economy[Column], tenant: Tenant) -> str:
    """Make a request a cheaper one.

    Returns:
        What it has become, `model=NAME` or `kind=KIND`; empty if there is nothing cheaper, and it is as it was.
    """
    model = _cheaper_model(work, policy, fleet, tenant)
    if model is not None:
        # The prompt was counted by the other model's tokenizer.
        work.model, work.counted = model, work.counted and _same_tokenizer(policy, work.model, model)
        return f"model={model}"
    kind = _cheapest_kind(work, fleet, economy)
    if kind is not None:
        work.kinds = frozenset((kind,))
        return f"kind={kind}"
    return ""


def _cheaper_model(work: Work, policy: Policy, fleet: Fleet, tenant: Tenant) -> str | None:
    known = policy.models.get(work.model or "")
    # A name that can't be changed on the way (uploads, paths) stays.
    if known is None or known.downgrade_to is None or work.sent_name is not None:
        return None
    model = fleet.resolve(known.downgrade_to)
    if model is None or not allows(tenant.models, model):
        return None
    limit = fleet.contexts.get(model)
    if limit is not None and work.prompt_tokens >= limit * work.batch:
        return None
    return model if fleet.eligible(replace(work, model=model, counted=False)).any() else None


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
