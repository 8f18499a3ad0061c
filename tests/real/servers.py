"""Starts real inference servers on free ports of 127.0.0.1, waits until they serve, and ends them by process id.

Each runs in a virtual environment of its own under .venvs, which `make test-real` fills from requirements/real-*.txt.
"""

import http.client
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import eventually, free_port

CHECKOUT = Path(__file__).parents[2]
VENVS = CHECKOUT / ".venvs"
WEIGHTS = CHECKOUT / ".cache" / "gemma3-270m-q4-k-m.gguf"
START_S = 60.0
STOP_S = 10.0
LOCAL = "127.0.0.1"

_MOCKER_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "TOKIO_WORKER_THREADS": "2",
    "DYN_DISCOVERY_BACKEND": "file",
    "DYN_REQUEST_PLANE": "tcp",
    "DYN_EVENT_PLANE": "zmq",
    "DYN_TCP_RPC_HOST": LOCAL,
    "DYN_HOST_IP": LOCAL,
    "DYN_SYSTEM_HOST": LOCAL,
    "DYN_EVENT_PLANE_HOST": LOCAL,
    "DYN_TCP_RESPONSE_STREAM_HOST": LOCAL,
}
"""Frontend and worker find each other by a folder and speak over loopback; without these they want etcd and NATS."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running inference server."""

    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """Its root."""
        return f"http://{LOCAL}:{self.port}"

    def text(self, path: str) -> str:
        """A page of it; empty while there is none."""
        return page(self.port, path).decode()

    def page(self, path: str) -> Any:
        """A JSON page of it; None while there is none."""
        return json.loads(self.text(path) or "null")


def python_of(venv: str) -> str:
    """The interpreter of one of the virtual environments; the test fails in one sentence if that is not filled."""
    if not (VENVS / f"{venv}.stamp").exists():  # written when all packages are there
        pytest.fail(f".venvs/{venv} is not filled: `make .venvs/{venv}.stamp` does it, or says why not", pytrace=False)
    return str(VENVS / venv / "bin" / "python")


@contextmanager
def started(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, *, answers: bool = False
) -> "Iterator[_Process]":
    """Run a program for the time of a block, its output in a file; it is killed if it does not stop when asked.

    Arguments:
        arguments: its command line.
        log: file that its output is added to.
        environment: what is added to ours.
        answers: its standard output is a pipe instead.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if answers else output,
            stderr=output,
            cwd=CHECKOUT,
            env={**os.environ, "NO_PROXY": LOCAL, "no_proxy": LOCAL, **(environment or {})},
        )
    try:
        yield process
    finally:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended by itself, and the test says so
            process.stdin.close()
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def llamacpp(directory: Path, *options: str) -> Iterator[Server]:
    """A llama.cpp server with the 270-million-parameter Gemma 3; with `embeddings` it gives vectors instead of text."""
    port, log = free_port(), directory / "llamacpp.log"
    arguments = [python_of("llamacpp"), "-m", "tests.real.llamacpp", str(WEIGHTS), str(port), *options]
    with started(arguments, log) as process:
        _wait(lambda: page(port, "/health"), "llama.cpp", log, process)
        yield Server(port, process)


@contextmanager
def mocker(directory: Path, model_folder: Path, name: str, *options: str, model: str = "tiny") -> Iterator[Server]:
    """NVIDIA's Dynamo: its HTTP frontend with one mocked engine behind it.

    Arguments:
        directory: for its files.
        model_folder: as `tiny_model.write` makes.
        name: of its log and its folder.
        options: for `dynamo.mocker`.
        model: name that it serves.
    """
    python, log = python_of("dynamo"), directory / f"{name}.log"
    port = free_port()
    environment = {**_MOCKER_ENVIRONMENT, "DYN_FILE_KV": str(directory / name)}
    worker = [python, "-m", "dynamo.mocker", "--model-path", str(model_folder), "--model-name", model]
    worker += ["--max-num-seqs", "8", "--num-gpu-blocks-override", "8192", "--block-size", "16", *options]
    front = [python, "-m", "dynamo.frontend", "--http-host", LOCAL, "--http-port", str(port)]
    front += ["--router-mode", "round-robin", "--enable-anthropic-api"]
    with ExitStack() as stack:
        engine = stack.enter_context(started(worker, log, environment))
        process = stack.enter_context(started(front, log, environment))
        _wait(lambda: b'"id"' in page(port, "/v1/models"), name, log, engine, process)
        yield Server(port, process)


_Process = subprocess.Popen[bytes]


def _wait(ready: Any, name: str, log: Path, *processes: _Process) -> None:
    """Wait until a server serves; a process that has ended is told with the end of its log."""

    def check() -> Any:
        if any(process.poll() is not None for process in processes):
            pytest.fail(f"{name} did not start:\n{log.read_text(errors='replace')[-2000:]}", pytrace=False)
        return ready()

    eventually(check, f"{name} to serve (its log: {log})", START_S)


def page(port: int, path: str) -> bytes:
    """A page of a server on this machine; empty while there is none."""
    connection = http.client.HTTPConnection(LOCAL, port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read()
        return content if answer.status == 200 else b""
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        connection.close()
