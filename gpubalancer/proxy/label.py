"""What is written down of a request when it begins, so that its end can be recorded also if this process dies.

The fields that the record needs stand in the request's slot (`board/budget_slots`), separated by newlines, and beside
them, once one is chosen, the backend and its kind. Whoever finds the slot makes an outcome of them.
"""

from gpubalancer.board.budget_recovery import Left
from gpubalancer.domain.outcome import NOBODY, Outcome
from gpubalancer.domain.work import Work
from gpubalancer.policy.schema import Policy

SECOND_NS = 1_000_000_000
_FIELDS = 9


def describe(outcome: Outcome, work: Work, policy: Policy) -> None:
    """Write into a request's record what it asks for, as the policy has made it."""
    outcome.model, outcome.model_asked = work.model or outcome.model, work.model_asked or outcome.model_asked
    outcome.tier, outcome.tier_source = policy.tiers[work.tier].name, work.tier_source
    outcome.priority, outcome.risk, outcome.rules = work.priority.name.lower(), work.risk or "", work.rules
    outcome.findings = tuple((finding.detector, finding.count) for finding in work.findings)
    outcome.expected_prompt_tokens, outcome.expected_output_tokens = work.prompt_tokens, work.output_tokens


def label_of(outcome: Outcome) -> bytes:
    """The label of a request that is about to be served. What clients choose freely stands last: it may be cut off."""
    return (
        f"{outcome.decision_id}\n{outcome.tenant}\n{outcome.key_id}\n{outcome.api}\n{outcome.tier}\n"
        f"{outcome.tier_source}\n{outcome.request_id}\n{outcome.model}\n{outcome.model_asked}"
    ).encode()


def server_of(outcome: Outcome) -> bytes:
    """The backend that is about to get a request."""
    return f"{outcome.backend}\n{outcome.kind}".encode()


def payer_in(label: bytes) -> tuple[str, str | None]:
    """The tenant and the model of a request, by its label; no model where it named none."""
    texts = [*label.decode(errors="replace").split("\n"), *[""] * _FIELDS]
    return texts[1], texts[7] if texts[7] not in ("", NOBODY) else None


def outcome_of(left: Left, now_ns: int) -> Outcome:
    """How a request ended whose worker has died, as far as its slot tells; the instants are of the budgets' clock."""
    texts = left.label.decode(errors="replace").split("\n", _FIELDS - 1)
    decision_id, tenant, key_id, api, tier, tier_source, request_id, model, model_asked = (
        *(text or NOBODY for text in texts),
        *[NOBODY] * (_FIELDS - len(texts)),
    )
    backend, _, kind = left.server.decode(errors="replace").partition("\n")
    spending = left.spending
    took = spending.prompt_tokens or spending.completion_tokens
    return Outcome(
        request_id,
        left.started_ns / SECOND_NS,
        decision_id=decision_id,
        tenant=tenant,
        key_id=key_id,
        api=api,
        tier=tier,
        tier_source=tier_source,
        model=model,
        model_asked=model_asked,
        backend=backend or NOBODY,
        kind=kind or NOBODY,
        attempts=int(left.was_sent),
        reason="worker_killed",
        detail="the worker that served it has died",
        ended_s=now_ns / SECOND_NS,
        prompt_tokens=spending.prompt_tokens,
        cached_tokens=spending.cached_tokens,
        completion_tokens=spending.completion_tokens,
        usage_source="estimated" if took else "",
        usd=spending.nano_usd / 1e9,
        joules=spending.millijoules / 1e3,
    )
