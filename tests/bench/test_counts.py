"""What was expected is laid beside what was reported, request by request."""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bench.conversations import Conversation
from bench.counts import Counted, copies, learned, served, through, until_answered, version_of
from tests.e2e.processes import Balancer


def said(text: str, *traits: str) -> Conversation:
    """A conversation of one message."""
    return Conversation({"messages": [{"role": "user", "content": text}]}, frozenset(traits))


class Stub(BaseHTTPRequestHandler):
    """Stands for the balancer: expects a token for each letter, reports one more for `y`, refuses `too long`."""

    lines: list[dict[str, Any]]

    def do_POST(self) -> None:
        """One request."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert (body["model"], body["max_tokens"]) == ("m", 1)
        text = body["messages"][0]["content"]
        refused = text == "too long"
        content = {"error": {"message": "Maximum context length exceeded."}} if refused else {}
        expected, reported = len(text), 0 if refused else len(text) + text.count("y")
        line = {"event": "request", "model": "m", "request_id": self.headers["x-request-id"]}
        self.lines.append({**line, "expected_prompt_tokens": expected, "prompt_tokens": reported})
        answer = json.dumps(content).encode()
        self.send_response(400 if refused else 200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


class Stubbed(Balancer):
    """A balancer that is the stub."""

    def lines(self, event: str = "request", **fields: Any) -> list[dict[str, Any]]:
        """The stub's lines, the last first."""
        return [line for line in reversed(Stub.lines) if fields.items() <= line.items()]


@pytest.fixture
def balancer(tmp_path: Path) -> Iterator[Balancer]:
    """The stub, which serves."""
    Stub.lines = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Stub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        ended = subprocess.Popen(["true"])
        ended.wait()
        yield Stubbed(ended, {"listen": {"port": server.server_address[1]}}, tmp_path, tmp_path)
        server.shutdown()
        thread.join()


def test_requests_and_lines_of_the_log_belong_together(balancer: Balancer) -> None:
    """Whatever the order in which the log has them."""
    texts = ["a", "bcy", "too long", "yy", "efgh"]
    found = through(balancer, "m", [said(text) for text in texts], at_once=3)
    assert [(one.expected, one.reported, one.refusal) for one in found] == [
        (1, 1, ""),
        (3, 4, ""),
        (8, 0, "longer than the context"),
        (2, 4, ""),
        (4, 4, ""),
    ]


FOUND = [
    Counted(said("a", "x"), 5, 5),
    Counted(said("b", "x", "y"), 7, 9),
    Counted(said("c", "y"), 7, 0, "longer than the context"),
    Counted(said("d"), 100, 80),
]


def test_as_many_answers_as_wanted() -> None:
    """Refused conversations do not count; what comes after the last answer is left out."""
    assert until_answered(FOUND, 2) == FOUND[:2]
    assert until_answered(FOUND, 3) == FOUND
    assert until_answered(FOUND, 9) == FOUND


def test_what_is_told_of_exact_counts() -> None:
    """Wrong ones by their traits and by how much, refused ones by the reason."""
    told = served("engine", FOUND)
    assert (told.answered, told.exact, told.tokens, told.longest_tokens) == (3, 1, 94, 80)
    assert (dict(told.traits), dict(told.wrong_traits)) == ({"x": 2, "y": 1}, {"x": 1, "y": 1})
    assert (dict(told.differences), dict(told.refusals)) == ({-2: 1, 20: 1}, {"longer than the context": 1})


def test_what_is_told_of_learned_counts() -> None:
    """Errors in order; by trait only those after the first 200 answers."""
    told = learned([*[Counted(said("a", "early"), 20, 10)] * 200, *FOUND])
    assert told.errors == [1.0] * 200 + [0.0, 7 / 9 - 1, 0.25]
    assert told.tokens == 2000 + 94
    assert {name: count for name, (count, _) in told.by_trait.items()} == {"x": 2, "y": 1}


def test_copies_of_a_model(tmp_path: Path) -> None:
    """The model itself, and one copy for each template in bench/templates."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "tokenizer.json").write_text("{}")
    own, calls, parts = copies(model, tmp_path / "copies").values()
    assert own == model
    assert "tool_calls" in (calls / "chat_template.jinja").read_text()
    assert (parts / "tokenizer.json").exists()


def test_versions() -> None:
    """Of a package that another interpreter has, or has not."""
    assert version_of("python3", "no-such-package") == "unknown"
