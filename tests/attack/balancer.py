"""A real `gpubalancer serve` process with the limits that the tables are written for, and its backends' settings."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.attack.case import BODY_LIMIT_BYTES
from tests.e2e.processes import serving

START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 10.0
# Long enough that a busy machine serves a good request, short enough to wait for with the unfinished ones.
SLOW_CLIENT = "2s"


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def recording_backend(port: int) -> dict[str, Any]:
    """A backend that gets every path and method."""
    return {**backend("recorder", port), "models": ["m"], "paths": ["/*"]}


def backend(name: str, port: int) -> dict[str, Any]:
    """A backend of whom the balancer need ask nothing; it serves the model and the paths of its own name."""
    return {
        "name": name,
        "url": f"http://127.0.0.1:{port}",
        "kind": "cpu",
        "engine": "openai",
        "models": [name],
        "paths": [f"/{name}/*"],
        "slots": 64,
    }


@contextmanager
def balancing(directory: Path, backends: list[dict[str, Any]]) -> Iterator[int]:
    """Serve these backends; gives the data port.

    Raises:
        AssertionError: the process ended, or was not ready in time; carries what it printed.
    """
    limits = {
        "body_bytes": BODY_LIMIT_BYTES,
        "upload_bytes": BODY_LIMIT_BYTES,
        "head_timeout": SLOW_CLIENT,
        "body_timeout": SLOW_CLIENT,
    }
    with serving(directory, backends, listen={"limits": limits}) as balancer:
        yield balancer.port


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask the process to end; a second after the deadline it is killed."""
    process.terminate()
    try:
        process.wait(STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
