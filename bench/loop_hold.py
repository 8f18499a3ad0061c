"""How long the worst inputs that we know hold a worker's event loop: real bytes through a real balancer.

A supervisor and one worker serve as always, but on the worker's loop there is a beat each half millisecond
(`bench.probed_worker`). One input is sent at a time: bodies of 32 MB, which the reader process reads; the largest of
the same kind that are still read on the loop or counted in its thread; and bytes of every kind that a head or a framing
may be made slow with. Noted is the longest that the loop's thread computed between two beats, and the longest that a
beat was late while the process computed, in whichever thread. The least of a few rounds, of 32 MB the only one.

    python -m bench.loop_hold
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from bench.hostile_bodies import BODIES, SECRETS
from bench.probed_worker import CPU_MS, LATE_MS, figures
from bench.running import free_ports
from gpubalancer.brain.content import LOOP_BYTES, VALUES_LIMIT, heavy

LARGE_BYTES = 32 * 1024 * 1024 - 1024
READ_BYTES = 256_000
"""What uvloop takes of a socket at once."""
ANSWER_S = 120.0
START_S = 30.0
DETECTORS = ("secrets", "payment_card", "national_id", "iban", "email", "phone", "passport", "medical_record")


@dataclass(frozen=True)
class Input:
    """Bytes to send, and what they are."""

    name: str
    kind: str
    data: bytes


@dataclass(frozen=True)
class Held:
    """What came of one input: the longest hold of the loop, and the answer's status."""

    name: str
    kind: str
    size_bytes: int
    status: int
    cpu_ms: float
    late_ms: float


_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
_FORM = b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
_SMALL = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


def posted(body: bytes) -> bytes:
    """A chat with this body."""
    return b"%bcontent-length: %d\r\n\r\n%b" % (_HEAD, len(body), body)


def bytes_on_the_wire() -> Mapping[str, bytes]:
    """What a head or a framing may be made slow with; half a megabyte of each where there is no limit before."""
    get, times = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n", 2 * READ_BYTES
    fields = b"".join(b"f%d: %b\r\n" % (number, b"x" * 240) for number in range(120))
    form = b'name="model"\r\n' * (64 * 1024 // 14)
    return {
        "a small chat": posted(_SMALL),
        "head of 32 KiB, 120 fields": _HEAD + fields + b"content-length: %d\r\n\r\n%b" % (len(_SMALL), _SMALL),
        "fields without end": (_HEAD + b"a:b\r\n" * times)[:times],
        "one field without end": _HEAD + b"a: " + b"b" * times,
        "tokens of Connection": _HEAD + b"connection: " + b"a," * 16_000 + b"\r\n\r\n",
        "a target of escapes": b"GET /" + b"%41" * 2_700 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        "a query of many names": b"GET /v1/models?" + b"a=b&" * 2_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        "pipelined requests": get * (times // len(get)),
        "empty lines": b"\r\n" * (times // 2),
        "chunks of one byte": _HEAD + _CHUNKED + b"1\r\nx\r\n" * (times // 6),
        "a chat in chunks of two bytes": _HEAD + _CHUNKED
        + b"".join(b"2\r\n%b\r\n" % _SMALL[at : at + 2] for at in range(0, len(_SMALL) - 1, 2))
        + b"1\r\n%b\r\n" % _SMALL[-1:] + b"1\r\n \r\n" * 40_000 + b"0\r\n\r\n",
        "chunk extensions": _HEAD + _CHUNKED + b"1;" + b"a" * times + b"\r\nx\r\n0\r\n\r\n",
        "trailers": _HEAD + _CHUNKED + b"1\r\nx\r\n0\r\n" + b"a:b\r\n" * (times // 5) + b"\r\n",
        "a form of nothing but models": _FORM + b"content-length: %d\r\n\r\n%b" % (len(form), form),
        "a form in chunks of one byte": _FORM + _CHUNKED + b"1\r\nx\r\n" * (times // 6),
    }  # fmt: skip


def largest_light(make: Callable[[int], bytes]) -> bytes:
    """The largest body of a kind that no other process reads."""
    least, most = VALUES_LIMIT, LOOP_BYTES + 1
    while most - least > 64:
        middle = (least + most) // 2
        if heavy(make(middle)):
            most = middle
        else:
            least = middle
    return make(least)


def inputs(large_bytes: int) -> Iterator[Input]:
    """Everything that is sent."""
    for name, data in bytes_on_the_wire().items():
        yield Input(name, "bytes", data)
    for name, make in {**BODIES, **SECRETS}.items():
        yield Input(name, "read here", posted(largest_light(make)))
    for name, make in BODIES.items():
        yield Input(name, "read apart", posted(make(large_bytes)))


# The balancer, the backend behind it, and the client in front.


async def _swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A backend that takes everything and says nothing."""
    with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0] or b"0")
            while length > 0:
                length -= len(await reader.read(min(length, 1 << 20)))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    writer.close()


@contextlib.contextmanager
def backend() -> Iterator[int]:
    """The backend's port."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(_swallow, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@contextlib.contextmanager
def balancer(folder: Path, backend_port: int) -> Iterator[int]:
    """The data port of a balancer whose one worker is probed."""
    port, admin_port = free_ports(2)
    policy = {
        "listen": {"port": port},
        "admin": {"port": admin_port},
        "state": {"directory": str(folder / "state")},
        "models": {"m": {"tokenizer": "cl100k_base"}},
        "backends": [
            {"name": "b", "url": f"http://127.0.0.1:{backend_port}", "models": {"m": "vendor/m"}, "slots": 64}
        ],
        "sensitivity": {"detectors": dict.fromkeys(DETECTORS, "internal")},
    }
    (folder / "policy.yaml").write_text(json.dumps(policy))
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -m bench.probed_worker "$@"\n')
    python.chmod(0o755)
    start = f"import sys; sys.executable = {str(python)!r}; from gpubalancer.cli import main; main()"
    command = [sys.executable, "-c", start, "serve", "--config", str(folder / "policy.yaml")]
    environment = {**os.environ, "LOOP_PROBE": str(folder / "probe")}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process,
    ):
        try:
            until_s = time.monotonic() + START_S
            while send(port, posted(_SMALL)) != 200:
                if time.monotonic() > until_s or process.poll() is not None:
                    raise RuntimeError((folder / "log").read_text()[-2000:])
                time.sleep(0.1)
            yield port
        finally:
            process.terminate()


def send(port: int, data: bytes) -> int:
    """Send bytes and wait for an answer; its status, 0 if there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as client:
            sending = threading.Thread(target=_send_all, args=(client, data))
            sending.start()
            client.settimeout(ANSWER_S if data.startswith(b"POST") else 1)
            answer = b""
            with contextlib.suppress(TimeoutError):
                answer = client.recv(1000)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            sending.join()
        return int(answer.split(b" ", 2)[1]) if answer else 0
    except ConnectionError:
        return 0


def _send_all(client: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # who refuses does not listen to the end
        client.sendall(data)
        if b"chunked" in data[:300] and not data.endswith(b"0\r\n\r\n"):
            client.shutdown(socket.SHUT_WR)


def measure(large_bytes: int, rounds: int, only: Sequence[str] = ()) -> list[Held]:
    """Send everything, what is large once, and note what it held."""
    found: dict[tuple[str, str], Held] = {}
    with tempfile.TemporaryDirectory() as name, backend() as backend_port:
        folder = Path(name)
        longest = figures(folder / "probe", create=True)
        with balancer(folder, backend_port) as port:
            send(port, posted(b"{" * (LOOP_BYTES + 1)))  # starts the reader process
            for number, each in ((number, each) for number in range(rounds) for each in inputs(large_bytes)):
                if (only and each.name not in only) or (number and each.kind == "read apart"):
                    continue
                time.sleep(0.02)
                longest[:] = 0
                status = send(port, each.data)
                time.sleep(0.02)
                held = Held(
                    each.name, each.kind, len(each.data), status, float(longest[CPU_MS]), float(longest[LATE_MS])
                )
                before = found.get((each.kind, each.name), held)
                found[each.kind, each.name] = min(before, held, key=lambda one: one.cpu_ms)
    return list(found.values())


@click.command()
@click.option("--bytes", "large_bytes", default=LARGE_BYTES, show_default=True, help="Size of what is read apart.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--only", multiple=True, help="Names of inputs.")
def main(large_bytes: int, rounds: int, only: tuple[str, ...]) -> None:
    """Measure, and print."""
    for held in measure(large_bytes, rounds, only):
        times = f"{held.cpu_ms:8.2f} ms {held.late_ms:8.1f} ms"
        click.echo(f"{times}  {held.status:3}  {held.size_bytes:10,}  {held.kind}: {held.name}")


if __name__ == "__main__":
    main()
