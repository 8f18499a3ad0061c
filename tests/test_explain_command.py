"""`gpubalancer explain`, in this process: what it prints, and one sentence for what can't be had."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gpubalancer.brain.columns import build_economy
from gpubalancer.brain.experience import Experience
from gpubalancer.brain.fleet import build_fleet
from gpubalancer.brain.insight import build_insight
from gpubalancer.brain.live import Live
from gpubalancer.brain.method import method_of
from gpubalancer.control.admin import build_app, start
from gpubalancer.control.explain import Scene, explain_request, read_question
from gpubalancer.explain_command import explain_command
from gpubalancer.policy.load import load
from gpubalancer.policy.schema import Policy
from tests.brain.policies import TEXT
from tests.control.test_admin import Balancer

ADMIN_SECRET = "not-a-real-token"
TEXT_OF_REQUEST = "nobody should read this"


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    """A chat with llama."""
    file = tmp_path / "request.json"
    file.write_text(json.dumps({"model": "llama", "messages": [{"role": "user", "content": TEXT_OF_REQUEST}]}))
    return file


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A policy file with three backends and the tenants acme and guest."""
    file = tmp_path / "policy.yaml"
    file.write_text(TEXT)
    return file


def run(*arguments: object) -> Result:
    """Run the command."""
    command = explain_command(lambda path: load(path, {}))
    return CliRunner(env={"ADMIN": ADMIN_SECRET, "EMPTY": ""}).invoke(command, [str(each) for each in arguments])


class Running(Balancer):
    """A balancer that serves a policy; its first backend is down."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        rows = {backend.name: row for row, backend in enumerate(policy.backends)}
        fleet = build_fleet(policy, rows, {})
        up, nothing = np.arange(len(fleet)) > 0, np.zeros(len(fleet), np.int32)
        method = method_of(policy.routing, build_economy(policy, fleet))
        live = Live(up=up, draining=nothing > 0, in_flight=nothing)
        self.scene = Scene(policy, fleet, method, live, build_insight(policy, 0, None), Experience())

    async def explain(self, body: bytes) -> dict[str, Any]:
        return explain_request(read_question(body), self.scene, 0.0, Random(0))[0].to_json()


@contextmanager
def admin(operator: Balancer, token: str | None = None) -> Iterator[str]:
    """The URL of an admin port that listens in a thread."""
    loop, ready, urls = asyncio.new_event_loop(), threading.Event(), []

    async def serve() -> None:
        runner = await start(build_app(operator, lambda: token), "127.0.0.1", 0)
        urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        ready.set()
        await stop.wait()
        await runner.cleanup()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def assert_sentence(done: Result, *parts: str) -> None:
    """Exit 1, and one line on standard error only."""
    assert (done.exit_code, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.endswith(".\n")
    assert all(part in done.stderr for part in parts), done.stderr


def test_offline_it_prints_a_table(config: Path, request_file: Path) -> None:
    """Every backend has its line, the choice is marked, and nothing of the text is there."""
    done = run("--config", config, "--tenant", "acme", request_file)
    assert done.exit_code == 0
    assert done.stdout.startswith("chat with llama, for acme: ")
    assert {line.split()[0] for line in done.stdout.splitlines()[4:7]} == {"a", "b", "c"}
    assert done.stdout.count("<- chosen") == 1
    assert "Note: nothing is known but the policy" in done.stdout
    assert TEXT_OF_REQUEST not in done.output


def test_offline_it_prints_json(config: Path, request_file: Path) -> None:
    """The documented shape, headers taken into account."""
    header = "X-GPUBalancer-Tier: secret"
    done = run("--config", config, "--tenant", "guest", "--header", header, "--json", request_file)
    answer = json.loads(done.stdout)
    assert {"choice", "reason", "work", "backends", "margin_s", "policy"} <= answer.keys()
    assert all({"name", "dropped", "terms", "total_s"} <= row.keys() for row in answer["backends"])
    assert (answer["choice"], answer["work"]["tier"], answer["work"]["tier_source"]) == ("a", "secret", "header")
    assert TEXT_OF_REQUEST not in done.output


@pytest.mark.parametrize("token", [None, ADMIN_SECRET])
def test_a_running_balancer_is_asked(config: Path, request_file: Path, token: str | None) -> None:
    """Its fleet decides, not the policy alone; table and JSON look as they do offline."""
    with admin(Running(load(config, {})), token) as url:
        given = ["--admin", url, *(["--token-env", "ADMIN"] if token else []), "--tenant", "acme", request_file]
        answer = json.loads(run("--json", *given).stdout)
        text = run(*given).stdout
    assert [row["dropped"] for row in answer["backends"]] == ["down", None, "api"]
    assert (answer["choice"], "notes" in answer) == ("b", False)
    assert "b: the only one that may serve this and is fit to." in text
    assert TEXT_OF_REQUEST not in text


def test_requests_that_would_be_refused(config: Path, request_file: Path) -> None:
    """Offline and at the admin port the sentence is the same."""
    request_file.write_text('{"model": "none", "messages": []}')
    offline = run("--config", config, request_file)
    assert_sentence(offline, "The model 'none' does not exist (404 model_not_found).")
    with admin(Running(load(config, {}))) as url:
        assert run("--admin", url, request_file).stderr == offline.stderr
        twice = request_file.with_name("twice.json")
        twice.write_text('{"model": "llama", "model": "phi", "messages": []}')
        for source in (("--config", config), ("--admin", url)):
            unknown = run(*source, "--tenant", "x", request_file)
            assert_sentence(unknown, "There is no tenant 'x'; there are acme, guest.")
            assert_sentence(run(*source, twice), "given twice (400 invalid_json)")


def test_files_that_are_no_request(config: Path, request_file: Path) -> None:
    """A file that is not there, or not JSON."""
    assert_sentence(run("--config", config, request_file.with_name("none.json")), "none.json", "No such file")
    assert_sentence(run("--config", config, config), "policy.yaml is not JSON")
    assert_sentence(run("--config", config, config.parent), "directory")


def test_options_that_make_no_sense(config: Path, request_file: Path) -> None:
    """A header without a colon, a path without a slash; and one of `--config` and `--admin` is needed, not both."""
    assert_sentence(run("--config", config, "--header", "tier", request_file), "--header 'tier'")
    assert_sentence(run("--config", config, "--path", "v1", request_file), "--path 'v1'")
    assert run(request_file).exit_code == 2
    assert run("--config", config, "--admin", "http://127.0.0.1:1", request_file).exit_code == 2


def test_a_tokenizer_that_is_none(config: Path, request_file: Path) -> None:
    """A tokenizer's file that can't be loaded is the machine's trouble."""
    broken = config.with_name("tokenizer.json")
    broken.write_text("{}")
    config.write_text(TEXT.replace("llama: {", f"llama: {{tokenizer: '{broken}', ", 1))
    assert_sentence(run("--config", config, request_file), "A tokenizer can't be loaded")


def test_an_admin_port_that_is_not_there(request_file: Path) -> None:
    """The sentence names the address and what the system says; what is no URL is not tried."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert_sentence(run("--admin", f"http://127.0.0.1:{port}", request_file), f":{port}", "Connection refused")
    for wrong in ("127.0.0.1:8081", "ftp://127.0.0.1", "http://", "http://[x", "http://127.0.0.1:99999"):
        assert_sentence(run("--admin", wrong, request_file), "is no URL")


def test_a_token_that_is_missing_or_wrong(config: Path, request_file: Path) -> None:
    """401 in a sentence that says what to do; a variable that is not set is said before anything is sent."""
    with admin(Running(load(config, {})), ADMIN_SECRET + "!") as url:
        assert_sentence(run("--admin", url, request_file), "(401 missing_token)", "--token-env")
        done = run("--admin", url, "--token-env", "ADMIN", request_file)
        assert_sentence(done, "(401 invalid_token)")
        assert ADMIN_SECRET not in done.output
        assert_sentence(run("--admin", url, "--token-env", "EMPTY", request_file), "EMPTY is not set")


def test_a_server_that_is_something_else(request_file: Path) -> None:
    """What answers without the admin API's shape is not taken for a balancer; neither is what speaks no HTTP."""
    for answer, part in (
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "answered 200"),
        (b"SSH-2.0\r\n", "speaks no HTTP"),
    ):
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=_answer_once, args=(server, answer))
            thread.start()
            assert_sentence(run("--admin", f"http://127.0.0.1:{server.getsockname()[1]}", request_file), part)
            thread.join()


def _answer_once(server: socket.socket, answer: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.settimeout(10)
        received = b""
        while b"nobody should read this" not in received:
            received += connection.recv(65536)
        connection.sendall(answer)
