"""Policies for tests, from YAML text."""

from pathlib import Path

from gpubalancer.policy.load import load
from gpubalancer.policy.schema import Policy

TEXT = """
version: 1
tiers: [{name: public}, {name: internal, networks: [127.0.0.0/8]}]
backends:
  - {name: gpu-a, url: "http://127.0.0.1:9001", kind: gpu, engine: vllm, models: [llama], clearance: internal, slots: 8}
  - {name: new, url: "http://127.0.0.1:9002"}
"""


def write(path: Path, text: str = TEXT) -> Path:
    """Write a policy file."""
    path.write_text(text)
    return path


def policy(folder: Path, text: str = TEXT) -> Policy:
    """Read a policy."""
    return load(write(folder / "policy.yaml", text), {})
