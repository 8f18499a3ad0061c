"""Hostile streams of llmock, a simulator that nobody here wrote, and its verdict over clients that stand behind us.

llmock does to the next chat request what a test scripts, and judges at the end what its client, which is we and the SDK
behind us, made of it.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import CHAT, ask, chat, connect, read_to_end, request_bytes
from tests.e2e.processes import Balancer, eventually, free_port, serving
from tests.real.conftest import Clients
from tests.real.servers import LOCAL, START_S, page, python_of, started

pytestmark = pytest.mark.real

SILENCE_S = 1
LAST_CHUNK = b"0\r\n\r\n"
CREATE = "chat.completions.create"


@dataclass(frozen=True, slots=True)
class Scene:
    """One llmock, and a balancer in front that waits one second for the next bytes of a stream."""

    port: int
    balancer: Balancer

    def forget(self) -> None:
        """Begin anew: nothing scripted, nothing to judge."""
        assert ask(self.port, "/_llmock/reset", method="POST").status == 200

    def script(self, *behaviours: dict[str, Any]) -> None:
        """What the next chat requests meet, in turn; the balancer's probes meet nothing."""
        matched = [{"match": {"path": CHAT}, **behaviour} for behaviour in behaviours]
        assert ask(self.port, "/_llmock/scenario", body={"behaviors": matched}).status == 201

    def break_stream(self, kind: str) -> None:
        """The next stream breaks so after two chunks."""
        more = {"stall_seconds": 10} if kind == "stall" else {}
        self.script({"type": "stream_fault", "kind": kind, "after_chunks": 2, **more})

    def events(self) -> list[bytes]:
        """The data of each event of a stream that ends cleanly."""
        events = ask(self.balancer.port, body=chat(stream=True)).body.split(b"\n\n")
        return [event.removeprefix(b"data: ") for event in events if event]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Both, serving; everybody on this machine may use the balancer."""
    directory, port = tmp_path_factory.mktemp("llmock"), free_port()
    log = directory / "llmock.log"
    backend = {"url": f"http://{LOCAL}:{port}", "kind": "cloud", "engine": "openai", "models": ["m"]}
    with started([_program(), "serve", "--host", LOCAL, "--port", str(port)], log) as process:
        eventually(lambda: page(port, "/openapi.json") or process.poll() is not None, "llmock to serve", START_S)
        assert process.poll() is None, log.read_text()
        timeouts = {"timeouts": {"between_bytes": f"{SILENCE_S}s"}}
        with serving(directory, [{**backend, "credential": "any-text-will-do"}], routing=timeouts) as balancer:
            yield Scene(port, balancer)


@pytest.mark.parametrize(
    ("kind", "why", "code"),
    [
        ("disconnect", "closed the connection", "backend_failed"),
        ("stall", "in time", "timed_out"),
        ("truncate", "finish reason", "backend_failed"),
    ],
)
def test_a_broken_stream_ends_with_an_error_event_and_an_abnormal_close(
    scene: Scene, kind: str, why: str, code: str
) -> None:
    """What a server breaks off, forgets or ends too early is never made to look whole; the log blames the backend."""
    scene.break_stream(kind)
    with connect(scene.balancer.port) as client:
        client.sendall(request_bytes(body=chat(stream=True), fields="Connection: close\r\n"))
        body = read_to_end(client)
    assert not body.endswith(LAST_CHUNK)
    (last,) = [line for line in body.split(b"\r\n") if line.startswith(b'data: {"error"')]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == code
    lines = scene.balancer.lines
    eventually(lambda: [line for line in lines(code=502) if why in line["detail"]], f"the log to say {why!r}")


@pytest.mark.parametrize("broken", [0, 1])
def test_a_stream_that_ends_well_crosses_as_it_is(scene: Scene, broken: int) -> None:
    """Events are not judged on the way: one that is no JSON reaches the client like the others, and so does the end."""
    if broken:
        scene.break_stream("malformed")
    *events, last = scene.events()
    assert last == b"[DONE]"
    assert sum(not _is_json(event) for event in events) == broken


@pytest.mark.parametrize("venv", ["openai2", "openai3"])
def test_llmocks_strict_verdict_on_an_sdk_behind_us_is_good(scene: Scene, clients: Clients, venv: str) -> None:
    """Refusals arrive with their `Retry-After`, the SDK keeps to it, and we add no tries of our own."""
    scene.forget()
    with clients(scene.balancer, venv, "openai") as sdk:
        scene.script(*({"type": "fail", "status": status, "retry_after": 1} for status in (429, 503)))
        sdk.ask("call", method=CREATE, model="m", messages=[{"role": "user", "content": "Refused twice."}])
        scene.script({"type": "fail", "status": 400})
        error = sdk.refused("call", method=CREATE, model="m", messages=[{"role": "user", "content": "Refused."}])
    assert error.kind == "BadRequestError"
    arrived = ask(scene.port, "/_llmock/requests").json()["requests"]
    assert [request["status"] for request in arrived if request["path"] == CHAT] == [429, 503, 200, 400]
    command = [_program(), "report", "--url", f"http://{LOCAL}:{scene.port}", "--strict", "--json"]
    report = subprocess.run(command, capture_output=True, check=False)
    assert json.loads(report.stdout)["findings"] == []
    assert report.returncode == 0


def _program() -> str:
    return str(Path(python_of("llmock")).with_name("llmock"))


def _is_json(event: bytes) -> bool:
    try:
        json.loads(event)
    except ValueError:
        return False
    return True
