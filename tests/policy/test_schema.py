"""The whole policy: defaults that serve, and the way between processes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.policy import units
from gpubalancer.policy.schema import Policy, dump, restore
from tests.policy.reading import BACKEND, EXAMPLE, faults, read

DIGEST = "ab" * 32


def test_the_least_file_serves() -> None:
    """A list of URLs is enough."""
    policy = read("backends: [{url: 'http://127.0.0.1:8000'}, {url: 'https://api.example.com/v1'}]")
    assert [backend.name for backend in policy.backends] == ["127.0.0.1:8000", "api.example.com:443"]
    assert [backend.clearance for backend in policy.backends] == ["restricted", "public"]
    assert [tier.name for tier in policy.tiers] == ["public", "internal", "confidential", "restricted"]
    assert policy.backends[0].model_dump(include={"kind", "engine", "models"}) == dict.fromkeys(
        ("kind", "engine", "models")
    )
    tenant = policy.tenants[0]
    assert (policy.anonymous, tenant.name, tenant.tier, tenant.max_tier) == (
        "anonymous",
        "anonymous",
        "public",
        "restricted",
    )


def test_everybody_is_anonymous_on_loopback_only() -> None:
    """Elsewhere the file has to say who may come in."""
    (line,) = faults(BACKEND + "listen: {host: 0.0.0.0}")
    assert line == (
        "p.yaml:1: tenants: found nothing, expected tenants with keys, or `anonymous: anonymous` to serve everybody, "
        'because listen.host "0.0.0.0" can be reached from other machines'
    )
    assert read(BACKEND + "listen: {host: 0.0.0.0}\nanonymous: anonymous").anonymous == "anonymous"


def test_declared_tenants_are_the_only_ones() -> None:
    """Whoever declares tenants has no anonymous one, unless it is named."""
    text = BACKEND + f"tenants: [{{name: acme, keys: ['sha256:{DIGEST}']}}]\n"
    assert read(text).anonymous is None
    assert [tenant.name for tenant in read(text).tenants] == ["acme"]
    assert read(text + "anonymous: acme").anonymous == "acme"


def test_ranks_and_names() -> None:
    """Tiers have ranks, and models are known by their aliases."""
    policy = read(EXAMPLE.read_text())
    assert policy.tier_ranks == {"public": 0, "internal": 1, "confidential": 2, "restricted": 3}
    assert policy.model_names == {
        "llama-3.1-8b": "llama-3.1-8b",
        "phi-3-mini": "phi-3-mini",
        "gpt-4o-mini": "llama-3.1-8b",
    }


SECRETS = f"""
admin: {{token: hush-token}}
state: {{ledger: "postgresql://u:hush-pass@h/db"}}
backends: [{{url: "http://10.0.0.1", credential: hush-credential}}]
tenants: [{{name: a, keys: ["sha256:{DIGEST}"]}}]
"""


def test_secrets_never_show() -> None:
    """Neither in the repr nor in an ordinary dump."""
    policy = read(SECRETS)
    shown = repr(policy) + str(policy) + policy.model_dump_json() + str(policy.model_dump(exclude={"tenants"}))
    assert "hush" not in shown
    assert DIGEST not in repr(policy)


def test_secrets_cross_between_processes() -> None:
    """The whole policy arrives."""
    policy = read(SECRETS)
    assert b"hush-credential" in dump(policy)
    assert restore(dump(policy)) == policy


def test_the_example_crosses_between_processes() -> None:
    """Nothing of it is lost, and it dumps to the same bytes again."""
    policy = read(EXAMPLE.read_text())
    assert restore(dump(policy)) == policy
    assert dump(restore(dump(policy))) == dump(policy)
    assert restore(dump(policy)).hash == policy.hash


def test_the_hash_is_of_the_content() -> None:
    """Equal content has an equal hash, however it was written; another secret is another hash."""
    policy = read(BACKEND)
    assert len(policy.hash) == 12
    assert int(policy.hash, 16) >= 0
    assert read("# again\n" + BACKEND + "version: 1\nlisten: {port: 8080}\n").hash == policy.hash
    assert read(SECRETS).hash != read(SECRETS.replace("hush-token", "hush-other")).hash
    assert read(SECRETS).hash != read(SECRETS.replace("hush-pass", "hush-word")).hash


def test_a_policy_made_in_code_is_checked_too() -> None:
    """Not only the file's reader compares the sections."""
    with pytest.raises(ValueError, match="a declared tenant"):
        Policy.model_validate({"backends": [{"url": "http://a"}], "anonymous": "nobody"})


_NAMES = st.from_regex(r"[a-z][a-z0-9._-]{0,8}", fullmatch=True)
_DURATIONS = st.decimals("0.001", units.MAX_DURATION_S, places=3).map(float).map(units.write_duration)
_BUDGETS = st.fixed_dictionaries(
    {
        "unit": st.sampled_from(["tokens", "usd", "joules", "requests"]),
        "limit": st.floats(0.001, 1e12),
        "per": _DURATIONS | st.just("month"),
    }
)
_BACKENDS = st.fixed_dictionaries(
    {"url": st.sampled_from(["http://127.0.0.1:8000", "https://a.example/v1", "http://[fd00::2]:1/x"])},
    optional={
        "kind": st.sampled_from(["gpu", "cpu", "cloud"]),
        "models": st.lists(_NAMES, min_size=1, unique=True) | st.dictionaries(_NAMES, _NAMES, min_size=1),
        "slots": st.integers(1, 10_000),
        "credential": st.text("abc123-_", max_size=9),
        "labels": st.dictionaries(_NAMES, _NAMES),
        "price": st.fixed_dictionaries({"usd_per_hour": st.floats(0, 1e6)}),
        "tls": st.just({"ca": "/a.pem"}) | st.none(),
    },
)
_POLICIES = st.fixed_dictionaries(
    {"backends": st.lists(_BACKENDS, min_size=1, max_size=3)},
    optional={
        "listen": st.fixed_dictionaries(
            {}, optional={"port": st.integers(0, 65_535), "limits": st.fixed_dictionaries({"head_timeout": _DURATIONS})}
        ),
        "tenants": st.lists(
            st.fixed_dictionaries({"name": _NAMES}, optional={"budgets": st.lists(_BUDGETS, max_size=2)}), max_size=2
        ),
        "admin": st.fixed_dictionaries({"token": st.text("xyz", max_size=5), "port": st.integers(0, 65_535)}),
        "state": st.fixed_dictionaries({"directory": st.sampled_from(["/var/lib/x", "state"])}),
        "telemetry": st.fixed_dictionaries({"interval": _DURATIONS}),
        "routing": st.just({"rules": [{"name": "r", "when": {"prompt_tokens": "< 2k"}, "set": {"tier": "internal"}}]}),
    },
)


@given(_POLICIES)
def test_every_policy_crosses_between_processes(content: dict[str, object]) -> None:
    """What was dumped is restored exactly, whatever it is."""
    try:
        policy = Policy.model_validate(content, context={"folder": Path("/etc")})
    except ValueError:
        return
    assert restore(dump(policy)) == policy
    assert dump(restore(dump(policy))) == dump(policy)
