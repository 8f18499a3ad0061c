"""The section `tenants`."""

import hashlib

import pytest

from gpubalancer.policy.tenants import Tenant, allows
from gpubalancer.policy.tiers import DEFAULT_TIERS

DIGEST = hashlib.sha256(b"key").hexdigest()


def tenant(**settings: object) -> Tenant:
    """A tenant with these settings."""
    return Tenant.model_validate({"name": "acme", **settings})


def test_defaults() -> None:
    """A tenant that only has a name may use everything and send every tier."""
    made = tenant().tiered(DEFAULT_TIERS)
    assert (made.tier, made.max_tier, made.models, made.share, made.priority) == (
        *("public", "restricted", ("*",), 1.0, "standard"),
    )


def test_given_tiers_stay() -> None:
    """The file knows better."""
    made = tenant(tier="internal", max_tier="confidential").tiered(DEFAULT_TIERS)
    assert (made.tier, made.max_tier) == ("internal", "confidential")


def test_keys_are_digests() -> None:
    """The policy holds the SHA-256 of keys, in either case of letters, and does not show them."""
    made = tenant(keys=[f"sha256:{DIGEST.upper()}"])
    assert made.key_digests == (hashlib.sha256(b"key").digest(),)
    assert DIGEST not in repr(made)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (DIGEST, '"sha256:" before'),
        ("sk-plain-key", "gpubalancer keys new"),
        (f"sha256:{DIGEST[:-1]}", "64 hexadecimal digits"),
        (f"sha256:sha256:{DIGEST}", "64 hexadecimal digits"),
        (f"md5:{DIGEST}", "64 hexadecimal digits"),
        (5, "64 hexadecimal digits"),
    ],
)
def test_a_wrong_key_says_what_was_expected(key: object, said: str) -> None:
    """A bare digest or a plain key is refused with a message that helps, and without the key."""
    with pytest.raises(ValueError, match="sha256") as caught:
        tenant(keys=[key])
    assert said in str(caught.value)
    assert "sk-plain" not in str(caught.value)


def test_a_key_may_have_a_name_and_budgets() -> None:
    """A mapping says more of a key than its hash; a plain hash is the same key."""
    full = {"hash": f"sha256:{DIGEST}", "name": "laptop", "budgets": [{"unit": "requests", "limit": 5, "per": "1m"}]}
    made = tenant(keys=[full])
    assert made.key_digests == tenant(keys=[f"sha256:{DIGEST}"]).key_digests
    assert (made.keys[0].name, made.keys[0].budgets[0].unit) == ("laptop", "requests")
    tiered = made.tiered(DEFAULT_TIERS)
    assert Tenant.model_validate_json(tiered.model_dump_json()) == tiered


@pytest.mark.parametrize(
    "settings",
    [{"share": 0}, {"priority": "high"}, {"models": ["a b"]}, {"keys": "x"}, {"parent": "a b"}, {"time_zone": "x"}],
)
def test_wrong_tenants_are_refused(settings: dict[str, object]) -> None:
    """Each of these is a slip."""
    with pytest.raises(ValueError, match="validation error"):
        tenant(**settings)


@pytest.mark.parametrize(
    ("patterns", "model", "allowed"),
    [
        (("*",), "anything/at:all", True),
        (("llama*",), "llama-3", True),
        (("llama*",), "Llama-3", False),
        (("phi", "llama"), "llama", True),
        (("phi",), "phi-3", False),
        ((), "phi", False),
    ],
)
def test_allows(patterns: tuple[str, ...], model: str, allowed: bool) -> None:
    """A tenant's patterns match whole names, by case."""
    assert allows(patterns, model) is allowed
