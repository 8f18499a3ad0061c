"""Policies for these tests, from YAML text, and the lines of what is wrong with them."""

from collections.abc import Mapping
from pathlib import Path

from gpubalancer.policy.faults import PolicyError
from gpubalancer.policy.load import parse
from gpubalancer.policy.schema import Policy

EXAMPLE = Path(__file__).parents[2] / "config" / "gpubalancer.yaml"
FOLDER = Path("/etc/gpubalancer")
BACKEND = "backends: [{url: 'http://127.0.0.1:8000'}]\n"


def read(text: str, environ: Mapping[str, str] | None = None, folder: Path = FOLDER) -> Policy:
    """The policy that a text describes."""
    return parse(text, "p.yaml", folder, environ or {})


def faults(text: str, environ: Mapping[str, str] | None = None, folder: Path = FOLDER) -> list[str]:
    """The lines of what is wrong with a text, nothing if it is a policy."""
    try:
        read(text, environ, folder)
    except PolicyError as error:
        return [fault.line() for fault in error.faults]
    return []
