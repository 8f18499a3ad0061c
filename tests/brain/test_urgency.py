"""Classes of the queue and keys of sessions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.urgency import affinity_of, priority_of
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Priority
from gpubalancer.policy.tenants import Tenant

HEADER, SESSION = b"x-gpubalancer-priority", b"x-session-id"


def tenant(name: str = "acme", priority: str = "standard") -> Tenant:
    """Read a tenant."""
    return Tenant.model_validate({"name": name, "priority": priority})


@pytest.mark.parametrize(
    ("own", "asked", "given"),
    [
        ("interactive", None, Priority.INTERACTIVE),
        ("standard", None, Priority.STANDARD),
        ("batch", None, Priority.BATCH),
        ("interactive", b"interactive", Priority.INTERACTIVE),
        ("interactive", b"batch", Priority.BATCH),
        ("standard", b"interactive", Priority.STANDARD),
        ("standard", b"batch", Priority.BATCH),
        ("batch", b"interactive", Priority.BATCH),
        ("batch", b"standard", Priority.BATCH),
    ],
)
def test_priorities(own: str, asked: bytes | None, given: Priority) -> None:
    """The tenant's class, or the lower one that the header asks for."""
    fields = {} if asked is None else {HEADER: asked}
    assert priority_of(fields, tenant(priority=own)) is given


@pytest.mark.parametrize("asked", [b"", b"urgent", b"BATCH", b"0", b"b\xc3\xa4tch"])
def test_unknown_priorities(asked: bytes) -> None:
    """A class that does not exist is refused with those that do."""
    with pytest.raises(RequestError, match="expected one of interactive, standard, batch") as error:
        priority_of({HEADER: asked}, tenant())
    assert (error.value.code, error.value.status) == ("invalid_header", 400)


def test_affinity_goes_by_the_header_first() -> None:
    """The session's header, then the body's key, then nothing; an empty one is none."""
    by_header = affinity_of({SESSION: b"s1"}, None, tenant())
    assert affinity_of({SESSION: b"s1"}, "other", tenant()) == by_header
    assert affinity_of({}, "s1", tenant()) == by_header
    assert affinity_of({SESSION: b""}, "s1", tenant()) == by_header
    assert affinity_of({}, "other", tenant()) != by_header
    assert (
        affinity_of({}, None, tenant())
        == affinity_of({}, "", tenant())
        == affinity_of({SESSION: b""}, "", tenant())
        == 0
    )


def test_tenants_share_no_session() -> None:
    """The same key of another tenant is another session, also where names and keys run together."""
    assert affinity_of({}, "s1", tenant("acme")) != affinity_of({}, "s1", tenant("bmce"))
    assert affinity_of({}, "bs", tenant("a")) != affinity_of({}, "s", tenant("ab"))


def test_half_a_character_is_a_key_too() -> None:
    """A lone surrogate in a body's key is hashed like any other text."""
    assert affinity_of({}, "\ud800", tenant()) not in (0, affinity_of({}, "\ud801", tenant()))


@given(st.binary(min_size=1))
def test_affinities_have_64_bits(key: bytes) -> None:
    """Every key has a number above zero that fits into eight bytes, always the same."""
    found = affinity_of({SESSION: key}, None, tenant())
    assert 0 < found < 1 << 64
    assert found == affinity_of({SESSION: key}, "ignored", tenant())
