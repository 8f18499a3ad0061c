"""Policies, fleets and work for tests of decisions."""

import hashlib
from pathlib import Path

from gpubalancer.brain.fleet import Discovery, Fleet, build_fleet
from gpubalancer.domain.work import Work
from gpubalancer.policy.load import parse
from gpubalancer.policy.schema import Policy

DIGEST = hashlib.sha256(b"key-of-acme").hexdigest()

TEXT = f"""
tiers: [{{name: public}}, {{name: internal, networks: [127.0.0.0/8]}}, {{name: secret, networks: [127.0.0.0/8]}}]
models: {{llama: {{aliases: [gpt-4o-mini]}}}}
backends:
  - {{name: a, url: "http://127.0.0.1:9001", engine: vllm, models: [llama, phi], clearance: secret, slots: 8}}
  - {{name: b, url: "http://127.0.0.1:9002", engine: tgi, models: {{llama: meta/llama}}, clearance: internal, slots: 4,
     upgrades: [/v1/realtime]}}
  - {{name: c, url: "http://127.0.0.1:9003", engine: triton, models: [resnet], clearance: public, slots: 2,
     paths: [/custom/*, /exact]}}
tenants:
  - {{name: acme, keys: ["sha256:{DIGEST}"], tier: internal, max_tier: internal, models: ["llama*"]}}
  - {{name: guest, tier: public, max_tier: secret}}
anonymous: guest
"""
"""Three backends: `a` may see everything, `b` knows llama by another name, `c` speaks KServe and claims paths."""

ROWS = {"a": 3, "b": 5, "c": 1}


def policy(text: str = TEXT) -> Policy:
    """Read a policy."""
    return parse(text, "policy.yaml", Path("/"), {})


def fleet(text: str = TEXT, discovered: dict[str, Discovery] | None = None) -> Fleet:
    """The fleet of a policy; rows are not in the policy's order."""
    return build_fleet(policy(text), ROWS, discovered or {})


def work(
    api: str = "chat",
    model: str | None = "llama",
    tier: int = 0,
    *,
    claim: str | None = None,
    sent_name: str | None = None,
    upgrade: bool = False,
) -> Work:
    """One request."""
    return Work(api, model, tier, False, float("inf"), claim=claim, sent_name=sent_name, upgrade=upgrade)
