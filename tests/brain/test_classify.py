"""From fields and body to `Work`: who asks for what, how urgently, and the tier that no text is needed for."""

import pytest

from gpubalancer.brain.classify import classify
from gpubalancer.brain.routes import Route, find_route
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Priority, Work
from tests.brain.policies import fleet, policy


def route(path: str = "/v1/chat/completions") -> Route:
    """A route of the table."""
    found = find_route(path)
    assert found is not None
    return found


def classified(
    fields: dict[bytes, bytes] | None = None,
    *,
    tenant: str = "acme",
    asked: str | None = "llama",
    renamable: bool = True,
) -> Work:
    """A request's work under the test policy."""
    settings = policy()
    payer = next(each for each in settings.tenants if each.name == tenant)
    return classify(
        fields or {},
        route(),
        payer,
        settings,
        fleet(),
        asked=asked,
        renamable=renamable,
        streamed=True,
        session="s",
        claim=None,
        upgrade=False,
        received_s=1000.0,
    )


def refused_work(fields: dict[bytes, bytes] | None = None, *, tenant: str = "acme", asked: str = "llama") -> str:
    """The code with which a request is refused."""
    with pytest.raises(RequestError) as caught:
        classified(fields, tenant=tenant, asked=asked)
    return caught.value.code


def test_work() -> None:
    """API, public model, the tenant's tier and no deadline."""
    made = classified(asked="gpt-4o-mini")
    assert (made.api, made.model, made.tier, made.streamed) == ("chat", "llama", 1, True)
    assert made.deadline_s == float("inf")
    assert made.sent_name is None


def test_a_name_that_cannot_change_is_kept() -> None:
    """An upload's model must be known to the backend by the name that the client sent."""
    assert classified(asked="gpt-4o-mini", renamable=False).sent_name == "gpt-4o-mini"


def test_models_are_checked() -> None:
    """Unknown models are 404, models that the tenant may not use 403."""
    assert refused_work(asked="nothing") == "model_not_found"
    assert refused_work(asked="phi") == "model_not_allowed"
    assert classified(tenant="guest", asked="phi").model == "phi"
    assert classified(asked=None).model is None


@pytest.mark.parametrize(("asked", "rank"), [(b"public", 0), (b"internal", 1), (b"secret", 2)])
def test_a_header_raises_the_tier(asked: bytes, rank: int) -> None:
    """A tenant of the lowest tier may ask for a higher one within its bounds."""
    assert classified({b"x-gpubalancer-tier": asked}, tenant="guest").tier == rank


def test_a_header_never_lowers_the_tier() -> None:
    """A request of an internal tenant stays internal, whatever it asks for."""
    assert classified({b"x-gpubalancer-tier": b"public"}).tier == 1


def test_a_tier_above_the_tenants_is_refused() -> None:
    """Beyond `max_tier` there is no service, and no silent lowering."""
    assert refused_work({b"x-gpubalancer-tier": b"secret"}) == "tier_not_served"


@pytest.mark.parametrize("asked", [b"", b"Internal", b"internal ", b"top", b"0"])
def test_an_unknown_tier_is_refused(asked: bytes) -> None:
    """A tier is named exactly."""
    assert refused_work({b"x-gpubalancer-tier": asked}) == "invalid_header"


def test_deadline() -> None:
    """Milliseconds after the request was received."""
    assert classified({b"x-gpubalancer-deadline": b"1500"}).deadline_s == 1001.5


@pytest.mark.parametrize("value", [b"", b"-1", b"1.5", b"1s", b"1e3", b"1234567890", b" 1"])
def test_a_deadline_is_a_whole_number(value: bytes) -> None:
    """Anything but a plain number of milliseconds is refused."""
    assert refused_work({b"x-gpubalancer-deadline": value}) == "invalid_header"


def test_the_tiers_source_is_told() -> None:
    """It is the tenant's, unless the header raised it."""
    assert classified().tier_source == "tenant"
    assert classified({b"x-gpubalancer-tier": b"internal"}).tier_source == "tenant"
    assert classified({b"x-gpubalancer-tier": b"secret"}, tenant="guest").tier_source == "header"


def test_work_carries_its_payer_its_class_and_its_session() -> None:
    """Rules, queue and prefixes read them from the work."""
    work = classified({b"x-gpubalancer-priority": b"batch"})
    assert (work.tenant, work.priority) == ("acme", Priority.BATCH)
    assert work.affinity
    assert work.affinity != classified({b"x-session-id": b"other"}).affinity
