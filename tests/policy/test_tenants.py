"""The section `tenants`."""

import hashlib

import pytest

from gpubalancer.policy.tenants import Budget, Tenant, allows
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


def test_budgets() -> None:
    """Limits take counts and fractions, periods take durations and months."""
    budget = Budget.model_validate({"unit": "usd", "limit": "0.5", "per": "month", "when_spent": "downgrade"})
    assert (budget.limit, budget.per.length_s, budget.overrun) == (0.5, None, "debt")
    budget = Budget.model_validate({"unit": "tokens", "limit": "100k", "per": "1m", "burst": 200_000})
    assert (budget.limit, budget.per.length_s, budget.burst) == (100_000.0, 60.0, 200_000.0)


@pytest.mark.parametrize(
    "change", [{"limit": 0}, {"limit": -5}, {"unit": "euros"}, {"per": 60}, {"burst": 0}, {"when_spent": "panic"}]
)
def test_wrong_budgets_are_refused(change: dict[str, object]) -> None:
    """A limit of nothing, an unknown unit and a period without a unit are refused."""
    with pytest.raises(ValueError, match="validation error"):
        Budget.model_validate({"unit": "tokens", "limit": 5, "per": "1m", **change})


@pytest.mark.parametrize("settings", [{"share": 0}, {"priority": "high"}, {"models": ["a b"]}, {"keys": "x"}])
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
