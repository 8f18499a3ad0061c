"""Reload: by signal, by a change of the file, and by the admin port."""

import asyncio
import copy
import hashlib
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.backends import STREAM_HEAD, Backend, Call, answer_ok, backend, chunk
from tests.e2e.clients import ask, chat, connect, read_until, request_bytes
from tests.e2e.processes import Balancer, eventually, serving

RELOADS = 50


def _tenant(name: str, *keys: str) -> dict[str, object]:
    return {"name": name, "keys": [f"sha256:{hashlib.sha256(key.encode()).hexdigest()}" for key in keys]}


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def server() -> Iterator[Backend]:
    """A backend that answers 200."""
    with backend(answer_ok) as server:
        yield server


@pytest.fixture
def balancer(tmp_path: Path, server: Backend) -> Iterator[Balancer]:
    """Two workers; one tenant has two keys, the other one."""
    tenants = [_tenant("acme", "acme-1", "acme-2"), _tenant("umbrella", "umbrella-1")]
    with serving(tmp_path, [server.settings()], listen={"workers": 2}, tenants=tenants) as balancer:
        yield balancer


@contextmanager
def _load(port: int, clients: int = 4) -> Iterator[list[int]]:
    """Clients that send one request after the other; gives their statuses, 0 for a failed connection."""
    statuses: list[int] = []
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            try:
                statuses.append(ask(port, body=chat(), fields=_bearer("acme-1")).status)
            except OSError:
                statuses.append(0)

    with ThreadPoolExecutor(clients) as pool:
        sending = [pool.submit(send) for _ in range(clients)]
        try:
            yield statuses
        finally:
            stop.set()
    for future in sending:
        future.result()


def _reloads(balancer: Balancer, result: str) -> float:
    return balancer.metric("gpubalancer_config_reloads_total", f'result="{result}"')


def test_fifty_reloads_under_load_fail_no_request(balancer: Balancer) -> None:
    """Every request is served while the policy changes 50 times, by signal, by its file and by the admin port."""
    with _load(balancer.port) as statuses:
        for number in range(RELOADS):
            settings = copy.deepcopy(balancer.settings)
            settings["backends"][0]["slots"] = 32 + number
            before = _reloads(balancer, "applied")
            balancer.write(settings)
            if number % 25 == 0:
                eventually(lambda: _reloads(balancer, "applied") > before, "the file's change to be seen")  # noqa: B023
            elif number % 2:
                os.kill(balancer.process.pid, signal.SIGHUP)
                eventually(lambda: _reloads(balancer, "applied") > before, "the signal to be obeyed")  # noqa: B023
            else:
                assert balancer.reload()[0] == 200
        eventually(lambda: len(statuses) > 200, "some load")
    assert set(statuses) == {200}
    assert _reloads(balancer, "applied") >= RELOADS
    assert _reloads(balancer, "failed") == 0


def test_a_bad_file_changes_nothing(balancer: Balancer) -> None:
    """It is said in the answer, the log, /readyz and the metric; requests go on; a good file heals it."""
    good = balancer.settings
    balancer.config.write_text("version: 1\nbackendz: []\n")
    os.kill(balancer.process.pid, signal.SIGHUP)
    eventually(lambda: _reloads(balancer, "failed") >= 1, "the reload to fail")
    status, answer = balancer.reload()
    assert status == 422
    assert any("backendz" in fault for fault in answer["faults"])
    status, ready = balancer.admin("GET", "/readyz")
    assert status == 200
    assert b"failed: " in ready
    assert b"gpubalancer.yaml:1: " in ready
    assert any("backendz" in line["message"] for line in balancer.lines("log", level="error"))
    assert ask(balancer.port, body=chat(), fields=_bearer("acme-1")).status == 200
    balancer.write(good)
    assert balancer.reload()[0] == 200
    assert b"failed" not in balancer.admin("GET", "/readyz")[1]


def test_a_removed_key_is_refused(balancer: Balancer) -> None:
    """A key and a tenant that left the file are refused, also on a connection that they had proved themselves on."""
    with connect(balancer.port) as client:
        client.sendall(request_bytes(fields="Authorization: Bearer acme-2\r\n"))
        assert read_until(client, b'{"ok": true}').startswith(b"HTTP/1.1 200 ")
        balancer.write({**balancer.settings, "tenants": [_tenant("acme", "acme-1")]})
        assert balancer.reload()[0] == 200
        client.sendall(request_bytes(fields="Authorization: Bearer acme-2\r\n"))
        assert read_until(client, b"invalid_api_key").startswith(b"HTTP/1.1 401 ")
    statuses = {key: ask(balancer.port, body=chat(), fields=_bearer(key)).status for key in ("acme-1", "umbrella-1")}
    assert statuses == {"acme-1": 200, "umbrella-1": 401}


def test_streams_in_flight_survive(balancer: Balancer, server: Backend) -> None:
    """A stream ends whole and keeps its slot counted, though its tenant and limits have changed since it began."""
    go_on = threading.Event()

    async def handle(call: Call) -> None:
        await call.body()
        await call.send(STREAM_HEAD + chunk(b"data: first\n\n"))
        while not go_on.is_set():
            await call.send(chunk(b": alive\n\n"))
            await asyncio.sleep(0.01)
        await call.send(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    server.handler = handle
    with connect(balancer.port) as client:
        client.sendall(request_bytes(fields="Authorization: Bearer umbrella-1\r\n", body=chat(stream=True)))
        read_until(client, b"first\n\n")
        settings = {**balancer.settings, "tenants": [_tenant("acme", "acme-1")]}
        settings["backends"] = [{**settings["backends"][0], "slots": 3}]
        balancer.write(settings)
        assert balancer.reload()[0] == 200
        assert balancer.metric("gpubalancer_in_flight") == 1
        go_on.set()
        assert read_until(client, b"\r\n0\r\n\r\n").endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert balancer.logged(tenant="umbrella")["code"] == 200


def test_a_removed_backend_gets_no_new_request(balancer: Balancer, server: Backend) -> None:
    """After a reload, requests go to the backend that came, and none to the one that left."""
    with backend(answer_ok) as other:
        balancer.write({**balancer.settings, "backends": [other.settings("other")]})
        assert balancer.reload()[0] == 200
        answers = [ask(balancer.port, body=chat(), fields=_bearer("acme-1")) for _ in range(8)]
    assert {(answer.status, answer.fields["x-gpubalancer-backend"]) for answer in answers} == {(200, "other")}
    assert server.calls == []
