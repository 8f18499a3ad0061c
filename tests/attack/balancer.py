"""Runs one real `gpubalancer serve` process for the time of a block, on free ports of 127.0.0.1."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.attack.case import BODY_LIMIT_BYTES

COMMAND = (sys.executable, "-m", "gpubalancer")
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
def balancing(directory: Path, backends: list[Mapping[str, Any]]) -> Iterator[int]:
    """Serve these backends; gives the data port.

    Raises:
        AssertionError: the process ended, or was not ready in time; carries what it printed.
    """
    port, admin_port = free_ports(2)
    limits = {
        "body_bytes": BODY_LIMIT_BYTES,
        "upload_bytes": BODY_LIMIT_BYTES,
        "head_timeout": SLOW_CLIENT,
        "body_timeout": SLOW_CLIENT,
    }
    config = {
        "version": 1,
        "listen": {"host": "127.0.0.1", "port": port, "workers": 1, "limits": limits},
        "admin": {"host": "127.0.0.1", "port": admin_port},
        "state": {"directory": str(directory / "state")},
        "backends": backends,
    }
    path, log = directory / "gpubalancer.yaml", directory / "log"
    path.write_text(yaml.safe_dump(config))
    with log.open("wb") as output:
        process = subprocess.Popen([*COMMAND, "serve", "--config", str(path)], stdout=output, stderr=output)
    try:
        _wait_ready(process, admin_port, log)
        yield port
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask the process to end; a second after the deadline it is killed."""
    process.terminate()
    try:
        process.wait(STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_ready(process: "subprocess.Popen[bytes]", admin_port: int, log: Path) -> None:
    deadline_s = time.monotonic() + START_DEADLINE_S
    while not _is_ready(admin_port):
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            assert time.monotonic() < deadline_s, f"not ready after {START_DEADLINE_S} s: {log.read_text()}"
        else:
            raise AssertionError(f"the balancer ended: {log.read_text()}")


def _is_ready(admin_port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", admin_port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
