"""From a request's head, its tenant and what its body asks for to its `Work`, as far as text plays no part in it."""

from collections.abc import Mapping

from gpubalancer.brain.fleet import Fleet
from gpubalancer.brain.routes import Route
from gpubalancer.brain.urgency import affinity_of, priority_of
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Work
from gpubalancer.policy.schema import Policy
from gpubalancer.policy.tenants import Tenant, allows

_NEVER = float("inf")
_NO_LABELS: frozenset[tuple[str, str]] = frozenset()
_TIER, _DEADLINE = b"x-gpubalancer-tier", b"x-gpubalancer-deadline"


def classify(
    fields: Mapping[bytes, bytes],
    route: Route,
    tenant: Tenant,
    policy: Policy,
    fleet: Fleet,
    *,
    asked: str | None,
    renamable: bool,
    streamed: bool,
    session: str | None,
    claim: str | None,
    upgrade: bool,
    received_s: float,
) -> Work:
    """Who asks for what, how urgent it is, and the tier that it has whatever its text.

    Arguments:
        fields: of the head, the last value of each.
        route: of the path.
        tenant: who asks.
        policy: the settings.
        fleet: the backends.
        asked: the model's name as the client gave it.
        renamable: the name can be changed on the way.
        streamed: an answer in pieces is asked for.
        session: what the body names as its session.
        claim: the path, if only a backend that claims it may serve the request.
        upgrade: another protocol is asked for.
        received_s: when the head had come, of the clock that deadlines are on.

    Raises:
        RequestError: `model_not_found`, `model_not_allowed`, `tier_not_served`, `invalid_header`.
    """
    tier, tier_source = _tier(fields.get(_TIER), tenant, policy.tier_ranks)
    return Work(
        api=route.api,
        model=_model(asked, tenant, fleet),
        tier=tier,
        streamed=streamed,
        deadline_s=_deadline(fields.get(_DEADLINE), received_s),
        kinds=frozenset(tenant.kinds) if tenant.kinds is not None else None,
        labels=frozenset(tenant.labels.items()) if tenant.labels else _NO_LABELS,
        claim=claim,
        model_asked=asked,
        sent_name=None if renamable else asked,
        upgrade=upgrade,
        tenant=tenant.name,
        priority=priority_of(fields, tenant),
        tier_source=tier_source,
        affinity=affinity_of(fields, session, tenant),
    )


def _model(asked: str | None, tenant: Tenant, fleet: Fleet) -> str | None:
    if asked is None:
        return None
    name = fleet.resolve(asked)
    if name is None:
        raise RequestError("model_not_found", f"The model {_shown(asked)} does not exist.", param="model")
    if not allows(tenant.models, name):
        raise RequestError("model_not_allowed", f"The model {_shown(asked)} is not open to this key.", param="model")
    return name


def _shown(text: str) -> str:
    """A client's text in a message: quoted, printable, short."""
    return repr(text[:100])


def _tier(asked: bytes | None, tenant: Tenant, ranks: Mapping[str, int]) -> tuple[int, str]:
    """The tenant's tier, or the higher one that the request asks for, and which of them decided."""
    rank, source = ranks[tenant.tier], "tenant"
    if asked is not None:
        named = ranks.get(asked.decode())
        if named is None:
            raise RequestError("invalid_header", f"x-gpubalancer-tier: expected one of {', '.join(ranks)}.")
        if named > rank:
            rank, source = named, "header"
    if rank > ranks[tenant.max_tier]:
        raise RequestError("tier_not_served", "This key may not send requests of this tier.")
    return rank, source


def _deadline(value: bytes | None, received_s: float) -> float:
    if value is None:
        return _NEVER
    if not value.isdigit() or len(value) > 9:
        raise RequestError("invalid_header", "x-gpubalancer-deadline: expected a whole number of milliseconds.")
    return received_s + int(value) / 1000
