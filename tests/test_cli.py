"""The commands as a whole: all are told, and each brings in only what it needs."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from gpubalancer.cli import main
main({arguments!r}, standalone_mode=False)
print([name for name in {modules!r} if name in sys.modules])
"""


def run(arguments: list[str], modules: list[str]) -> str:
    """What a command prints, and behind it which of some modules it has brought in."""
    program = PROGRAM.format(arguments=arguments, modules=modules)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_all_commands_are_told() -> None:
    """Those in modules of their own too, and not the one that the supervisor starts."""
    told = run(["--help"], [])
    for name in ("agent", "check", "demo", "engine", "explain", "keys", "serve", "usage"):
        assert f"\n  {name} " in told
    assert "\n  worker " not in told


@pytest.mark.parametrize("name", ["agent", "engine", "explain", "usage"])
def test_a_command_does_not_bring_in_the_balancer(name: str) -> None:
    """Which takes half a second, and a report over a month is to take less than two."""
    told = run([name, "--help"], ["gpubalancer.app", "gpubalancer.proxy.worker"])
    assert told.startswith("Usage: ")
    assert told.endswith("[]\n")
