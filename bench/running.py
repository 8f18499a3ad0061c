"""Processes of one run: the stub backends, and one contestant at a time, each on its core, each ended by its own id.

A contestant is started afresh for every visit, so that its memory starts from idle and nobody's background work is on
the core while another is measured. It is ready when it has answered one real request rightly. Every process leads a
process group of its own; the group is what is ended.
"""

import contextlib
import grp
import hashlib
import http.client
import os
import pwd
import resource
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.client import UnaryAnswer
from bench.peers import Contestant
from bench.prompts import chat_bodies

START_WITHIN_S = 90.0  # LiteLLM imports for ten seconds and more
STOP_WITHIN_S = 10.0
POLL_S = 0.1
CHECKOUT = Path(__file__).parent.parent


class StartError(RuntimeError):
    """A contestant did not answer in time, or ended; the message holds the end of what it printed."""


@dataclass(frozen=True)
class Cores:
    """Which cores the contestant has, and which the load generator and the backends share."""

    contestant: frozenset[int]
    others: frozenset[int]

    @property
    def shared(self) -> bool:
        """True on a machine of one core, where figures of latency mean little."""
        return self.contestant == self.others


def divide_cores(available: Sequence[int]) -> Cores:
    """The first core for the contestant, the rest for everything else; one core is shared."""
    first, *rest = sorted(available)
    return Cores(frozenset({first}), frozenset(rest or [first]))


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that were free a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def run_values(backend_ports: Sequence[int]) -> dict[str, str]:
    """What the contestants' configurations may name; ports and key are new for each run."""
    key = "sk-bench-" + secrets.token_hex(24)
    port, admin_port = free_ports(2)
    return {
        "port": str(port),
        "admin_port": str(admin_port),
        "first_backend_port": str(backend_ports[0]),
        "second_backend_port": str(backend_ports[1]),
        "key": key,
        "key_sha256": hashlib.sha256(key.encode()).hexdigest(),
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "group": grp.getgrgid(os.getgid()).gr_name,
    }


@contextlib.contextmanager
def process(
    command: Sequence[str], cores: frozenset[int], log: Path, folder: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process on these cores, working in `folder`, its output in `log`; at the end its whole group is ended."""
    pinned = ["taskset", "-c", ",".join(map(str, sorted(cores))), *command]
    with log.open("wb") as output:
        started = subprocess.Popen(
            pinned,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd=folder,
            env=os.environ | (environment or {}),
        )
    try:
        yield started
    finally:
        _end(started)


def _end(started: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the group, and SIGKILL to what is left of it after a while."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        started.wait(STOP_WITHIN_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()


def end_processes_on_sigterm() -> None:
    """Make SIGTERM an orderly end, so that what was started is ended too (SIGINT is one already)."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(128 + signal.SIGTERM))


def raise_file_limit() -> None:
    """As many open files as the system allows: a thousand streams are two thousand sockets in a balancer."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def answers(port: int, key: str) -> bool:
    """True if one unary request gets the right answer now."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    answer = UnaryAnswer()
    try:
        connection.request("POST", "/v1/chat/completions", chat_bodies(64)[0], headers)
        response = connection.getresponse()
        answer.feed(response.read())
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return response.status == 200 and not answer.fault()


def wait_until_ready(started: subprocess.Popen[bytes], port: int, key: str, log: Path) -> None:
    """Return once it answers rightly. Raises StartError."""
    deadline_s = time.monotonic() + START_WITHIN_S
    while not answers(port, key):
        if started.poll() is not None or time.monotonic() > deadline_s:
            how = (
                f"ended with {started.returncode}" if started.returncode is not None else "gave no right answer in time"
            )
            tail = log.read_text(errors="replace").strip().splitlines()[-5:]
            raise StartError(f"{how}: {' / '.join(tail) or 'it printed nothing'}")
        time.sleep(POLL_S)


@contextlib.contextmanager
def backends(cores: Cores, folder: Path, interval_s: float) -> Iterator[list[int]]:
    """Two stub servers; gives their ports."""
    ports = free_ports(2)
    with contextlib.ExitStack() as stack:
        for port in ports:
            command = [sys.executable, "-m", "bench.backends", "--port", str(port), "--interval", str(interval_s)]
            log = folder / f"backend-{port}.log"
            started = stack.enter_context(process(command, cores.others, log, CHECKOUT))
            wait_until_ready(started, port, "none", log)
        yield ports


@contextlib.contextmanager
def contestant(
    row: Contestant, program: Path, values: dict[str, str], cores: Cores, folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """The contestant, ready to be measured. Raises StartError."""
    folder.mkdir(parents=True)
    command, log = row.command(program, values, folder), folder / "output.log"
    with process(command, cores.contestant, log, folder, row.environment) as started:
        wait_until_ready(started, int(values["port"]), values["key"], log)
        yield started
