"""Starts real processes of gpubalancer on free ports of 127.0.0.1 and asks the operating system about them."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

COMMAND = (sys.executable, "-m", "gpubalancer")
START_S = 60.0
STOP_S = 15.0


def eventually(condition: Callable[[], Any], what: str, within_s: float = 10.0) -> Any:
    """The first true value of a condition that is asked again and again.

    Raises:
        AssertionError: it did not come true in time; says what was waited for.
    """
    until_s = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < until_s, f"waited {within_s} s for {what}"
        time.sleep(0.01)
    return value


def free_port(host: str = "127.0.0.1") -> int:
    """A port that was free a moment ago."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        return int(server.getsockname()[1])


@dataclass(slots=True)
class Balancer:
    """One running `gpubalancer serve`."""

    process: "subprocess.Popen[bytes]"
    settings: dict[str, Any]
    config: Path
    log: Path

    @property
    def port(self) -> int:
        """The data port."""
        return int(self.settings["listen"]["port"])

    def admin(self, method: str, path: str) -> tuple[int, bytes]:
        """Status and body of the admin port's answer; status 0 if there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.settings["admin"]["port"], timeout=15)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def post(self, path: str, body: Any) -> Any:
        """The JSON of the admin port's answer to a JSON body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.settings["admin"]["port"], timeout=15)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def metric(self, name: str, *labels: str) -> float:
        """The sum of a metric's samples whose line holds all these texts."""
        lines = self.admin("GET", "/metrics")[1].decode().splitlines()
        wanted = [line for line in lines if re.match(rf"{name}[ {{]", line) and all(label in line for label in labels)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in wanted)

    def lines(self, event: str = "request", **fields: Any) -> list[dict[str, Any]]:
        """The log's whole lines of an event, with these values."""
        texts = [text for text in self.log.read_text().splitlines(keepends=True) if text.endswith("}\n")]
        parsed = [json.loads(text) for text in texts]
        return [line for line in parsed if line["event"] == event and fields.items() <= line.items()]

    def logged(self, **fields: Any) -> dict[str, Any]:
        """The access log's line with these values, waited for."""
        found: list[dict[str, Any]] = eventually(lambda: self.lines(**fields), f"{fields} in the access log")
        return found[0]

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        return children(self.process.pid)

    def write(self, settings: dict[str, Any]) -> None:
        """Put other settings into the file, in one step."""
        self.settings = settings
        fresh = self.config.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(settings))
        fresh.replace(self.config)

    def reload(self) -> tuple[int, dict[str, Any]]:
        """Reload by the admin port."""
        status, body = self.admin("POST", "/admin/v1/reload")
        return status, json.loads(body)


def policy(directory: Path, backends: list[dict[str, Any]], **sections: dict[str, Any]) -> dict[str, Any]:
    """Settings for a balancer on free ports; sections are merged into, or added to, what stands here."""
    settings: dict[str, Any] = {
        "version": 1,
        "listen": {"host": "127.0.0.1", "port": free_port(), "workers": 1},
        "admin": {"host": "127.0.0.1", "port": free_port()},
        "state": {"directory": str(directory / "state")},
        "backends": backends,
    }
    for name, section in sections.items():
        settings[name] = {**settings.get(name, {}), **section} if isinstance(section, dict) else section
    return settings


@contextmanager
def serving(directory: Path, backends: list[dict[str, Any]], **sections: Any) -> Iterator[Balancer]:
    """Run `gpubalancer serve` in front of these backends for the time of a block."""
    settings = policy(directory, backends, **sections)
    with running(directory, settings) as balancer:
        yield balancer


@contextmanager
def running(directory: Path, settings: dict[str, Any]) -> Iterator[Balancer]:
    """Run `gpubalancer serve` on these settings; whatever of it is left at the end is killed, by process id."""
    config, log = directory / "gpubalancer.yaml", directory / "log"
    config.write_text(yaml.safe_dump(settings))
    with log.open("wb") as output:
        process = subprocess.Popen([*COMMAND, "serve", "--config", str(config)], stdout=output, stderr=output)
    balancer = Balancer(process, settings, config, log)
    born: list[int] = []
    try:
        eventually(lambda: _ready(balancer), f"the balancer to serve:\n{log.read_text()}", START_S)
        born = balancer.workers()
        yield balancer
    finally:
        end(process, born)


def _ready(balancer: Balancer) -> bool:
    assert balancer.process.poll() is None, f"the balancer ended: {balancer.log.read_text()}"
    return balancer.admin("GET", "/readyz")[0] == 200


def end(process: "subprocess.Popen[bytes]", workers: list[int]) -> None:
    """Ask a balancer to stop; kill it, and its workers that outlive it, if it takes too long."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for worker in workers:
        if is_worker(worker):
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


def is_worker(pid: int) -> bool:
    """True while a process id belongs to a live worker of gpubalancer."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"gpubalancer" in arguments and b"worker" in arguments


def children(pid: int) -> list[int]:
    """The process ids of a process's workers."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in map(int, found) if is_worker(child)]


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM, from /proc."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def engine(*models: str, name: str = "engine", **options: object) -> Iterator[str]:
    """Run `gpubalancer engine` for the time of a block; gives its URL."""
    arguments = ["--port", "0", "--hardware", "h100", "--name", name, "--speedup", "100"]
    arguments += [text for model in models for text in ("--model", model)]
    arguments += [text for key, value in options.items() for text in (f"--{key.replace('_', '-')}", str(value))]
    with subprocess.Popen([*COMMAND, "engine", *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline().decode()
            assert line, "the engine did not start"
            yield line.split()[-1]
        finally:
            process.terminate()
            process.wait(STOP_S)
