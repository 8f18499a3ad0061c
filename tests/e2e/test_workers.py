"""Several workers on one port: their deaths, their shared slots, their end."""

import asyncio
import email
import json
import os
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.backends import STREAM_HEAD, Backend, Call, Handler, backend, chunk, whole
from tests.e2e.clients import ask, chat, connect, read_until, request_bytes
from tests.e2e.processes import COMMAND, Balancer, end, eventually, is_worker, serving

WORKERS = 3
STREAMS = 24
LAST = b"data: [DONE]\n\n\r\n0\r\n\r\n"


class Streams:
    """A handler whose streams go on until they are told to end."""

    def __init__(self) -> None:
        self.over = threading.Event()

    async def __call__(self, call: Call) -> None:
        """Stream, if the body asks for it."""
        if not json.loads(await call.body()).get("stream"):
            await call.send(whole(b'{"ok": true}'))
            return
        await call.send(STREAM_HEAD + chunk(b"data: first\n\n"))
        while not self.over.is_set():
            await call.send(chunk(b": alive\n\n"))
            await asyncio.sleep(0.02)
        await call.send(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


@pytest.fixture
def streams() -> Streams:
    """What the backend does."""
    return Streams()


@pytest.fixture
def server(streams: Streams) -> Iterator[Backend]:
    """A backend with streams."""
    with backend(streams) as server:
        yield server


@pytest.fixture
def balancer(tmp_path: Path, server: Backend) -> Iterator[Balancer]:
    """A balancer with three workers."""
    with serving(tmp_path, [server.settings()], listen={"workers": WORKERS}) as balancer:
        yield balancer


def _stream(port: int) -> tuple[socket.socket, str]:
    """A client in the middle of a stream, and the part of its request's id that all requests of a worker share."""
    client = connect(port)
    client.sendall(request_bytes(body=chat(stream=True)))
    fields = email.message_from_bytes(read_until(client, b"first\n\n").partition(b"\r\n")[2])
    return client, str(fields["x-request-id"]).rpartition("-")[0]


def test_a_killed_worker_drops_only_its_own_connections(balancer: Balancer, streams: Streams) -> None:
    """Streams of the others end whole, a new worker comes, its slots are free, and new requests succeed all along."""
    before = balancer.workers()
    assert len(before) == WORKERS
    with ExitStack() as stack:
        held = [_stream(balancer.port) for _ in range(STREAMS)]
        for client, _ in held:
            stack.enter_context(client)
        victim = before[1]
        os.kill(victim, signal.SIGKILL)
        assert {ask(balancer.port, body=chat()).status for _ in range(40)} == {200}
        eventually(lambda: b'"workers":3' in balancer.admin("GET", "/readyz")[1], "a new worker to serve")
        assert victim not in balancer.workers()
        assert set(before) - {victim} < set(balancer.workers())
        streams.over.set()
        ended = [(_ended_whole(client), worker) for client, worker in held]
    assert len({worker for _, worker in ended}) == WORKERS
    assert len({worker for is_whole, worker in ended if not is_whole}) == 1
    assert len({worker for is_whole, worker in ended if is_whole}) == WORKERS - 1
    eventually(lambda: balancer.metric("gpubalancer_in_flight") == 0, "the dead one's slots to be free")
    assert balancer.metric("gpubalancer_worker_restarts_total") == 1


def test_slots_hold_over_all_workers(tmp_path: Path) -> None:
    """Four backends of 4 slots never see more than 4 at once of 40 clients on three workers; all requests succeed."""
    now, most = Counter[int](), Counter[int]()

    def limited(index: int) -> Handler:
        async def handle(call: Call) -> None:
            await call.body()
            now[index] += 1
            most[index] = max(most[index], now[index])
            await asyncio.sleep(0.02)
            now[index] -= 1
            await call.send(whole(b'{"ok": true}'))

        return handle

    with ExitStack() as stack:
        servers = [stack.enter_context(backend(limited(index))) for index in range(4)]
        settings = [server.settings(f"b{index}", slots=4) for index, server in enumerate(servers)]
        balancer = stack.enter_context(serving(tmp_path, settings, listen={"workers": WORKERS}))
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda _: ask(balancer.port, body=chat()), range(400)))
    assert Counter(answer.status for answer in answers) == {200: 400}
    assert max(most.values()) <= 4
    assert set(most) == set(range(4))


def test_sigterm_drains(balancer: Balancer, streams: Streams) -> None:
    """A stream in flight ends whole after SIGTERM, new connections are refused meanwhile, and the exit code is 0."""
    with _stream(balancer.port)[0] as client:
        balancer.process.terminate()
        eventually(lambda: _is_refused(balancer.port), "the port to close")
        assert balancer.process.poll() is None
        read_until(client, b": alive\n\n")
        streams.over.set()
        assert _ended_whole(client)
    assert balancer.process.wait(10) == 0
    assert balancer.lines("stopped")
    assert balancer.logged(streamed=True)["code"] == 200


def test_a_killed_supervisor_is_succeeded(balancer: Balancer, streams: Streams) -> None:
    """After kill -9 of the supervisor its workers serve on; a new `serve` takes over; streams in flight end whole."""
    orphans = balancer.workers()
    successor = None
    try:
        with _stream(balancer.port)[0] as client:
            balancer.process.kill()
            balancer.process.wait()
            assert {ask(balancer.port, body=chat()).status for _ in range(20)} == {200}
            assert all(map(is_worker, orphans))
            with balancer.log.open("ab") as output:
                command = [*COMMAND, "serve", "--config", str(balancer.config)]
                successor = subprocess.Popen(command, stdout=output, stderr=output)
            eventually(lambda: balancer.admin("GET", "/readyz")[0] == 200, "the successor to serve", 20)
            assert {ask(balancer.port, body=chat()).status for _ in range(20)} == {200}
            streams.over.set()
            assert _ended_whole(client)
        eventually(lambda: not any(map(is_worker, orphans)), "the old workers to end")
    finally:
        for worker in filter(is_worker, orphans):
            os.kill(worker, signal.SIGKILL)
        if successor is not None:
            end(successor, [])
    assert successor.returncode == 0


def _ended_whole(client: socket.socket) -> bool:
    """True if the stream comes to its proper end."""
    data = b""
    try:
        while LAST not in data and (piece := client.recv(65536)):
            data += piece
    except ConnectionResetError:
        return False
    return data.endswith(LAST)


def _is_refused(port: int) -> bool:
    """True once nobody listens; the kernel resets a connection that arrives in the very moment of closing."""
    try:
        with connect(port):
            return False
    except ConnectionResetError:
        return False
    except ConnectionRefusedError:
        return True
