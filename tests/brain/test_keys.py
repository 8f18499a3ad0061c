"""Keys: where they are presented, and whose they are."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.keys import KeyRing, presented_key
from gpubalancer.domain.errors import RequestError
from tests.brain.policies import TEXT, policy

RING = KeyRing(policy())
ONLY_KEYS = KeyRing(policy(TEXT.replace("anonymous: guest", "")))
NOBODY_DECLARED = KeyRing(policy('backends: [{url: "http://127.0.0.1:1"}]'))


def refused(ring: KeyRing, key: bytes | None) -> str:
    """The code with which a key is refused."""
    with pytest.raises(RequestError) as caught:
        ring.payer_of(key)
    return caught.value.code


@pytest.mark.parametrize(
    "fields",
    [
        {b"authorization": b"Bearer k"},
        {b"authorization": b"bearer k"},
        {b"authorization": b"BEARER  k "},
        {b"x-api-key": b"k"},
        {b"api-key": b"k"},
        {b"authorization": b"Bearer k", b"x-api-key": b"k", b"api-key": b"k"},
    ],
)
def test_a_key_is_found(fields: dict[bytes, bytes]) -> None:
    """OpenAI's, Anthropic's and Azure's fields are read, and may agree."""
    assert presented_key(fields) == b"k"


@pytest.mark.parametrize("fields", [{}, {b"authorization": b""}, {b"x-api-key": b""}, {b"cookie": b"Bearer k"}])
def test_no_key(fields: dict[bytes, bytes]) -> None:
    """A request without a key presents none."""
    assert presented_key(fields) is None


@pytest.mark.parametrize(
    "fields",
    [
        {b"authorization": b"Basic k"},
        {b"authorization": b"k"},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer a", b"x-api-key": b"b"},
        {b"x-api-key": b"a", b"api-key": b"b"},
    ],
)
def test_other_schemes_and_two_keys_are_refused(fields: dict[bytes, bytes]) -> None:
    """It is never left open which key counts."""
    with pytest.raises(RequestError) as caught:
        presented_key(fields)
    assert caught.value.code == "invalid_api_key"


def test_a_known_key_is_its_tenants() -> None:
    """The digest of the key names the tenant, and its beginning the key."""
    payer = RING.payer_of(b"key-of-acme")
    assert (payer.tenant.name, payer.key_id) == ("acme", hashlib.sha256(b"key-of-acme").hexdigest()[:8])


@given(st.binary(max_size=40).filter(lambda key: key != b"key-of-acme"))
def test_no_other_key_is_accepted(key: bytes) -> None:
    """Where keys exist, an unknown one is refused, even if nobody needs one."""
    assert refused(RING, key) == "invalid_api_key"


def test_without_a_key() -> None:
    """The anonymous tenant pays, or the request is refused with 401."""
    assert (RING.payer_of(None).tenant.name, RING.payer_of(None).key_id) == ("guest", "-")
    assert refused(ONLY_KEYS, None) == "missing_api_key"


def test_where_no_keys_exist_any_key_is_anonymous() -> None:
    """SDKs must send some key; without declared keys it means nothing."""
    assert NOBODY_DECLARED.payer_of(b"sk-anything").tenant.name == "anonymous"
    assert NOBODY_DECLARED.payer_of(None).tenant.name == "anonymous"


def test_errors_hold_no_key() -> None:
    """The sentence for the client never repeats what it presented."""
    with pytest.raises(RequestError) as caught:
        RING.payer_of(b"canary-secret")
    assert "canary" not in caught.value.message
