"""The reader process, spoken to as its worker does: orders and bodies in, one answer each out."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest

from gpubalancer.brain.routes import find_route
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.channel import LENGTH, Message, encode
from gpubalancer.proxy.reading import order_to_learn, order_to_read

CHILD = (
    "import socket, sys; from gpubalancer.proxy.reading import Reading;"
    "Reading(socket.socket(fileno=int(sys.argv[1])), 7, float(sys.argv[2]), int(sys.argv[3])).run()"
)
POLICY = Policy.model_validate(
    {
        "backends": [{"url": "http://127.0.0.1:9", "models": ["m"], "credential": "top-secret"}],
        "models": {"m": {"tokenizer": "cl100k_base", "aliases": ["n"]}},
        "sensitivity": {"detectors": {"payment_card": "confidential"}},
    }
)
SLOW = b'{"model":"m","messages":[' + b'{"role":"user","content":""},' * 100_000 + b'{"role":"user","content":"a"}]}'
"""3 MB that take half a second."""


GIVEN_UP: tuple[Message, ...] = ({"kind": "too_costly"}, {"kind": "ended"})


class Child:
    """The process, and the worker's end of its socket."""

    def __init__(self, process: "subprocess.Popen[bytes]", channel: socket.socket) -> None:
        self.process = process
        self.channel = channel

    def send(self, order: Message, body: bytes = b"") -> None:
        """Send an order, and a body behind it."""
        self.channel.sendall(encode(order) + body)

    def answer(self) -> Message:
        """The next answer; of a kind of its own if there is none, because the process has ended."""
        head = self._take(LENGTH.size)
        if not head:
            return {"kind": "ended"}
        message: Message = orjson.loads(self._take(LENGTH.unpack(head)[0]))
        return message

    def _take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.channel.recv(size - len(data))
            if not piece:
                return b""
            data += piece
        return data

    def read(self, body: bytes) -> Message:
        """What it says of a body."""
        route = find_route("/v1/chat/completions")
        assert route is not None
        self.send(order_to_read(route, None, len(body)), body)
        return self.answer()


@contextmanager
def child(cpu_s: float = 10.0, memory_bytes: int = 2**30) -> Iterator[Child]:
    """A process with these limits, which has learned the policy."""
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    with ours, theirs:
        command = [sys.executable, "-c", CHILD, str(theirs.fileno()), str(cpu_s), str(memory_bytes)]
        with subprocess.Popen(command, pass_fds=(theirs.fileno(),)) as process:
            theirs.close()
            running = Child(process, ours)
            running.send(order_to_learn(POLICY))
            try:
                assert running.answer() == {"kind": "ready"}
                yield running
            finally:
                ours.close()
                process.wait(10)


@pytest.fixture(scope="module")
def reading() -> Iterator[Child]:
    """One process for all tests that leave it alive."""
    with child() as running:
        yield running


def chat(**fields: Any) -> bytes:
    """The body of a chat."""
    return orjson.dumps({"model": "n", "messages": [{"role": "user", "content": "4111 1111 1111 1111"}], **fields})


def test_a_policys_secrets_are_not_told() -> None:
    """The process learns tokenizers, other names of models and detectors."""
    order = order_to_learn(POLICY)
    assert set(order) == {"kind", "tokenizers", "aliases", "sensitivity", "tiers"}
    assert (order["tokenizers"], order["aliases"]) == ({"m": "cl100k_base"}, {"n": "m"})
    assert b"top-secret" not in orjson.dumps(order)


def test_a_body_is_read_by_the_policy(reading: Child) -> None:
    """Its answer has the tokens and the findings."""
    answer = reading.read(chat())
    assert (answer["kind"], answer["asked"], answer["known_tokens"]) == ("read", "n", 18)
    assert answer["findings"] == [["payment_card", 1, 0, 2]]


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"{", "invalid_json"), (b"{}", "missing_model"), (b'{"model":"' + b"a" * 600 + b'"}', "model_not_found")],
)
def test_what_is_wrong_with_a_body_is_told(reading: Child, body: bytes, code: str) -> None:
    """With the code and the sentence that the client gets."""
    answer = reading.read(body)
    assert (answer["kind"], answer["code"]) == ("refused", code)
    assert answer["message"]


def test_another_policy_may_be_learned(reading: Child) -> None:
    """Bodies behind it are read by it."""
    other = Policy.model_validate({"backends": [{"url": "http://127.0.0.1:9", "models": ["m"]}]})
    reading.send(order_to_learn(other))
    assert reading.answer() == {"kind": "ready"}
    assert reading.read(chat())["findings"] == []
    reading.send(order_to_learn(POLICY))
    assert reading.answer() == {"kind": "ready"}
    assert len(reading.read(chat())["findings"]) == 1


def test_reading_is_stopped_when_the_client_has_left(reading: Child) -> None:
    """A signal ends what is being read, and nothing else: before and behind it, bodies are read."""
    os.kill(reading.process.pid, signal.SIGUSR1)
    route = find_route("/v1/chat/completions")
    assert route is not None
    assert reading.read(chat())["kind"] == "read"
    reading.send(order_to_read(route, None, len(SLOW)), SLOW)
    used_s = cpu_s(reading.process.pid)
    until_s = time.monotonic() + 30
    while cpu_s(reading.process.pid) < used_s + 0.05:
        assert time.monotonic() < until_s, "the process has not begun to read"
        time.sleep(0.001)
    os.kill(reading.process.pid, signal.SIGUSR1)
    assert reading.answer() == {"kind": "stopped"}
    assert reading.read(chat())["kind"] == "read"


def cpu_s(pid: int) -> float:
    """Processor time that a process has used."""
    with open(f"/proc/{pid}/schedstat") as file:  # noqa: PTH123
        return int(file.read().split()[0]) / 1e9


def test_a_terminals_signals_are_for_others(reading: Child) -> None:
    """The process lives as long as its worker."""
    os.kill(reading.process.pid, signal.SIGINT)
    os.kill(reading.process.pid, signal.SIGTERM)
    assert reading.read(chat())["kind"] == "read"


def test_a_body_has_so_much_time() -> None:
    """What takes more of the process's own time is given up, and the process is as good as before."""
    with child(cpu_s=0.1) as running:
        assert running.read(SLOW)["code"] == "body_too_costly"
        assert running.read(chat())["kind"] == "read"
    assert running.process.returncode == 0


def test_a_body_has_so_much_memory() -> None:
    """What needs more is given up, if not by the process then with it: a library may take no memory for a crash."""
    with child(memory_bytes=2**27) as running:
        assert running.read(b'{"model":"m","prompt":"' + b"a" * 2**20 + b'"}')["kind"] == "read"
        text = b"a" * 2**25 + "\U0001f600".encode()  # four bytes a letter, once parsed
        assert running.read(b'{"model":"m","prompt":"' + text + b'"}') in GIVEN_UP
