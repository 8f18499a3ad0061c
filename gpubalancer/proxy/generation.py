"""Everything that one policy means to a worker, built whole and swapped by one pointer.

A request keeps the generation that it began with. What must outlive a reload is handed on: the pool of a backend whose
address, credential and trust are unchanged goes to the next generation with its open connections.
"""

import ipaddress
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gpubalancer.brain.budget import BudgetPlan
from gpubalancer.brain.fleet import Discovery, Fleet, build_fleet
from gpubalancer.brain.insight import Insight, build_insight
from gpubalancer.brain.keys import KeyRing
from gpubalancer.policy.backends import Backend
from gpubalancer.policy.schema import Policy
from gpubalancer.policy.tiers import Tier
from gpubalancer.proxy.judging import Judge
from gpubalancer.wire.forward import Origin
from gpubalancer.wire.pool import Endpoint, Pool
from gpubalancer.wire.sweep import Sweeper
from gpubalancer.wire.tls import client_context

_SEED = secrets.randbits(64)
"""Of the hashes that this process keeps of texts: nobody outside can make two texts collide."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One policy, ready to serve."""

    number: int
    policy: Policy
    fleet: Fleet
    keys: KeyRing
    pools: tuple[Pool, ...]
    """One for each backend, in the fleet's order."""
    insight: Insight
    judge: Judge
    plan: BudgetPlan


def build_generation(
    number: int,
    policy: Policy,
    rows: Mapping[str, int],
    discovered: Mapping[str, Discovery],
    previous: Generation | None,
    clock: Callable[[], float],
    sweeper: Sweeper,
) -> Generation:
    """Build what a policy needs; nothing of `previous` changes.

    Raises:
        OSError: a file of TLS settings can't be read.
        TokenizerError: a tokenizer can't be loaded.
    """
    kept = _unchanged(previous, policy) if previous is not None else {}
    pools = tuple(
        kept.get(backend.name) or Pool(_endpoint(backend, policy), clock, sweeper) for backend in policy.backends
    )
    insight = build_insight(policy, _SEED, previous.insight if previous is not None else None)
    fleet = build_fleet(policy, rows, discovered)
    return Generation(number, policy, fleet, KeyRing(policy), pools, insight, Judge(policy, fleet), BudgetPlan(policy))


def drop_generation(old: Generation, new: Generation) -> None:
    """Close what the new generation has not taken over; connections in use close when they are given back."""
    for pool in old.pools:
        if pool not in new.pools:
            pool.close()


def _unchanged(previous: Generation, policy: Policy) -> dict[str, Pool]:
    before = {
        backend.name: (_identity(backend, previous.policy), pool)
        for backend, pool in zip(previous.policy.backends, previous.pools, strict=True)
    }
    return {
        backend.name: before[backend.name][1]
        for backend in policy.backends
        if backend.name in before and before[backend.name][0] == _identity(backend, policy)
    }


def _identity(backend: Backend, policy: Policy) -> tuple[object, ...]:
    """What a connection to this backend depends on."""
    tier = _tier(backend, policy)
    return (
        backend.url,
        backend.engine,
        backend.credential,
        backend.tls,
        tier.networks,
        policy.routing.timeouts.connect_s,
    )


def _tier(backend: Backend, policy: Policy) -> Tier:
    return policy.tiers[policy.tier_ranks[backend.clearance or ""]]


def _endpoint(backend: Backend, policy: Policy) -> Endpoint:
    tier, host = _tier(backend, policy), f"[{backend.host}]" if ":" in backend.host else backend.host
    usual_port = 443 if backend.is_tls else 80
    authority = host if backend.port == usual_port else f"{host}:{backend.port}"
    secret = backend.credential.get_secret_value() if backend.credential else ""
    return Endpoint(
        host=backend.host,
        port=backend.port,
        origin=Origin(
            authority=authority.encode(),
            path_prefix=backend.path_prefix,
            credential_lines=_credential_lines(backend.engine, secret),
        ),
        tls=_trust(backend) if backend.is_tls else None,
        server_name=(backend.tls.server_name if backend.tls else None) or backend.host,
        connect_s=policy.routing.timeouts.connect_s,
        admits=lambda address: tier.admits(ipaddress.ip_address(address.partition("%")[0])),
    )


def _credential_lines(engine: str | None, secret: str) -> bytes:
    if not secret:
        return b""
    if engine == "anthropic":
        return b"x-api-key: %b\r\n" % secret.encode()
    return b"authorization: Bearer %b\r\n" % secret.encode()


def _trust(backend: Backend) -> ssl.SSLContext:
    tls = backend.tls
    return client_context(
        authorities=tls.ca if tls else None,
        certificate=tls.certificate if tls else None,
        key=tls.key if tls else None,
    )
