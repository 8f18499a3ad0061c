"""Simulated engines as processes of their own, for tests of a fleet that runs."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.e2e.processes import COMMAND, STOP_S

MODEL = "m"


@dataclass(frozen=True, slots=True)
class Engine:
    """One that runs, and what a policy says of it."""

    name: str
    url: str
    process: "subprocess.Popen[bytes]"

    def settings(self, **more: Any) -> dict[str, Any]:
        """Its entry in `backends`."""
        return {"name": self.name, "url": self.url, "kind": "gpu", "engine": "vllm", "models": [MODEL], **more}


@contextmanager
def engines(wanted: Mapping[str, Sequence[str]]) -> Iterator[list[Engine]]:
    """Run engines for the time of a block: by name, their further arguments; `--hardware` is one of them."""
    with ExitStack() as stack:
        started = [stack.enter_context(_process(name, arguments)) for name, arguments in wanted.items()]
        yield [Engine(name, _url(process), process) for name, process in zip(wanted, started, strict=True)]


@contextmanager
def _process(name: str, arguments: Sequence[str]) -> Iterator["subprocess.Popen[bytes]"]:
    command = [*COMMAND, "engine", "--port", "0", "--model", MODEL, "--name", name, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=STOP_S)


def _url(process: "subprocess.Popen[bytes]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    assert "listening on http://" in line, line
    return line.split()[-1]
