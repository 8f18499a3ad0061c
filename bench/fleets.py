"""The simulated fleets of bench/placement.py, and their engines as processes.

An engine is a `gpubalancer engine` of its class. Its answers are as long as the request's `min_tokens` says, and one
event of a stream carries `INTERVAL_TOKENS` tokens but for the first, which leaves at once: times stay true, and a core
can play the whole fleet in real time.
"""

import contextlib
import http.client
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.prompts import MODEL
from bench.running import CHECKOUT, POLL_S, START_WITHIN_S, StartError, free_ports, process
from gpubalancer.sim.hardware import HARDWARE

INTERVAL_TOKENS = 16
CLOUD_SLOTS = 16
"""Requests that the cloud serves one account at once; its machines would bear any number."""


@dataclass(frozen=True)
class Simulated:
    """One backend."""

    name: str
    hardware: str

    @property
    def slots(self) -> int:
        """Requests that run at once."""
        return CLOUD_SLOTS if self.hardware == "cloud" else HARDWARE[self.hardware].slots

    @property
    def kind(self) -> str:
        """As the policy calls it."""
        return self.hardware if self.hardware in ("cpu", "cloud") else "gpu"


def _several(hardware: str, count: int) -> tuple[Simulated, ...]:
    return tuple(Simulated(f"{hardware}-{number + 1}", hardware) for number in range(count))


Fleet = tuple[Simulated, ...]
FLEETS: dict[str, Fleet] = {
    "mixed": (
        *_several("h100", 2),
        *_several("a100", 2),
        *_several("l40s", 4),
        *_several("cpu", 2),
        *_several("cloud", 1),
    ),
    "identical": _several("a100", 4),
}


def policy_text(fleet: Sequence[Simulated], ports: Sequence[int], ttft_s: float, tpot_s: float) -> str:
    """The fleet as its owner would write it: class and slots of each machine, and the SLO; all else is by default."""
    backends = "\n".join(
        f'  - {{name: {each.name}, url: "http://127.0.0.1:{port}", kind: {each.kind}, engine: vllm,'
        f" hardware: {each.hardware}, models: [{MODEL}], slots: {each.slots}}}"
        for each, port in zip(fleet, ports, strict=True)
    )
    return f"backends:\n{backends}\nrouting:\n  slo: {{ttft: {ttft_s * 1000:g}ms, tpot: {tpot_s * 1000:g}ms}}\n"


@contextlib.contextmanager
def engines(fleet: Sequence[Simulated], cores: frozenset[int], folder: Path) -> Iterator[list[int]]:
    """All engines of a fleet, ready; gives their ports in order. Raises StartError."""
    ports = free_ports(len(fleet))
    with contextlib.ExitStack() as stack:
        for each, port in zip(fleet, ports, strict=True):
            command = [sys.executable, "-m", "gpubalancer", *engine_arguments(each, port)]
            stack.enter_context(process(command, cores, folder / f"{each.name}.log", CHECKOUT))
        for port in ports:
            _wait_for(port)
        yield ports


def engine_arguments(each: Simulated, port: int) -> list[str]:
    """The command line after `gpubalancer`."""
    options = {
        "port": port,
        "model": MODEL,
        "hardware": each.hardware,
        "name": each.name,
        "slots": each.slots,
        "mean-output-tokens": 1,
        "stream-interval": INTERVAL_TOKENS,
    }
    return ["engine", *(text for name, value in options.items() for text in (f"--{name}", str(value)))]


def _wait_for(port: int) -> None:
    deadline_s = time.monotonic() + START_WITHIN_S
    while not is_healthy(port):
        if time.monotonic() > deadline_s:
            raise StartError(f"the engine on port {port} did not start")
        time.sleep(POLL_S)


def is_healthy(port: int) -> bool:
    """True if what listens there answers `/health` with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
