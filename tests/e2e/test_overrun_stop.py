"""Streams that end when their budget does, on real sockets, by each API whose streams are known."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.backends import STREAM_HEAD, Backend, Call, backend, chunk, whole
from tests.e2e.clients import CHAT, Answer, ask, chat
from tests.e2e.processes import Balancer, eventually, serving

BUDGET = 3_000
HELLO = [{"role": "user", "content": "hello"}]
NDJSON_HEAD = STREAM_HEAD.replace(b"text/event-stream", b"application/x-ndjson")


def sse(fields: dict[str, Any]) -> bytes:
    """One event."""
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def chunk_of(**choice: Any) -> bytes:
    """A chunk of OpenAI's."""
    return sse({"id": "c-1", "created": 5, "model": "m", "choices": [{"index": 0, "finish_reason": None, **choice}]})


MESSAGE_DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}}
MESSAGE_BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
RESPONSE_ITEM = {"type": "response.output_item.added", "item": {"id": "i", "type": "message"}}
RESPONSE_PART = {"type": "response.content_part.added", "part": {"type": "output_text", "text": ""}}
STREAMS: dict[str, tuple[bytes, bytes, bytes]] = {
    "/v1/chat/completions": (
        chunk_of(delta={"role": "assistant", "content": ""}),
        chunk_of(delta={"content": "x"}),
        b"data: [DONE]\n\n",
    ),
    "/v1/completions": (b"", chunk_of(text="x"), b"data: [DONE]\n\n"),
    "/v1/messages": (
        sse({"type": "message_start", "message": {}}) + sse(MESSAGE_BLOCK),
        sse(MESSAGE_DELTA),
        b'data: {"type":"message_stop"}\n\n',
    ),
    "/v1/responses": (
        sse({"type": "response.created", "response": {"id": "r"}}) + sse(RESPONSE_ITEM) + sse(RESPONSE_PART),
        sse({"type": "response.output_text.delta", "delta": "x"}),
        b"}\n\n",
    ),
    "/api/chat": (
        b"",
        b'{"model":"m","message":{"role":"assistant","content":"x"},"done":false}\n',
        b"}\n",
    ),
}
"""By path: how a stream begins, the event of one token, and the end of the last event."""


def body(path: str, **more: Any) -> dict[str, Any]:
    """A request for a stream without a limit."""
    asked: dict[str, Any] = {"model": "m", "stream": True}
    key = {"/v1/completions": "prompt", "/v1/responses": "input"}.get(path, "messages")
    return asked | {key: HELLO if key == "messages" else "hello"} | more


def tenant(name: str, **budget: Any) -> dict[str, Any]:
    """A tenant whose key is its name, with a budget of completion tokens."""
    budgets = [{"unit": "completion_tokens", "limit": BUDGET, "per": "month", "overrun": "stop", **budget}]
    digest = hashlib.sha256(name.encode()).hexdigest()
    return {"name": name.strip("/").replace("/", "-"), "keys": [f"sha256:{digest}"], "budgets": budgets}


@dataclass
class Stage:
    """One balancer before one scripted backend, and which streams have been left."""

    server: Backend
    balancer: Balancer
    left: list[str]

    def ask(self, payer: str, path: str, content: Any) -> Answer:
        """Ask with a tenant's key."""
        return ask(self.balancer.port, path, content, {"Authorization": f"Bearer {payer}"})

    def remaining(self, payer: str) -> float:
        """What is left of a tenant's budget."""
        name = payer.strip("/").replace("/", "-")
        return self.balancer.metric("gpubalancer_budget_remaining", f'tenant="{name}"')


@pytest.fixture(scope="module", name="stage")
def made_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A tenant for each API, and two more."""
    left: list[str] = []

    async def endless(call: Call) -> None:
        path = call.line.split()[1]
        first, token, _ = STREAMS[path]
        await call.body()
        await call.send((NDJSON_HEAD if path.startswith("/api") else STREAM_HEAD) + (chunk(first) if first else b""))
        with suppress(OSError):
            for _ in range(BUDGET):
                await call.send(chunk(token * 3))
            await call.reader.read()
        left.append(path)

    apis = ["chat", "completions", "messages", "responses", "ollama"]
    tenants = [*map(tenant, STREAMS), tenant("unary"), tenant("debtor", overrun="debt")]
    with (
        backend(endless) as server,
        serving(tmp_path_factory.mktemp("stop"), [server.settings(apis=apis)], tenants=tenants) as balancer,
    ):
        yield Stage(server, balancer, left)


@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_ends_with_its_budget(stage: Stage, path: str) -> None:
    """To the token, in its API's own way and with a whole framing; the backend sees its client go."""
    _, token, end = STREAMS[path]
    answer = stage.ask(path, path, body(path))
    assert answer.status == 200
    assert answer.body.count(token) == BUDGET
    assert answer.body.endswith(end)
    assert b"length" in answer.body or b"max_tokens" in answer.body or b"max_output_tokens" in answer.body
    line = stage.balancer.logged(stopped=True, path=path)
    assert (line["completion_tokens"], line["code"], line["reason"]) == (BUDGET, 200, "")
    eventually(lambda: stage.remaining(path) == 0, "all to be spent and nothing owed")
    eventually(lambda: stage.balancer.metric("gpubalancer_reservations_outstanding") == 0, "nothing to be reserved")
    eventually(lambda: path in stage.left, "the backend to be left")
    name = path.strip("/").replace("/", "-")
    stopped = f'tenant="{name}"', 'action="stopped"'
    eventually(lambda: stage.balancer.metric("gpubalancer_budget_actions_total", *stopped) == 1, "the metric")
    assert stage.ask(path, path, body(path)).status == 429


def test_a_whole_answer_can_not_be_stopped(stage: Stage) -> None:
    """It is debited in full, and the next one is refused."""

    async def long_answer(call: Call) -> None:
        await call.body()
        usage = {"prompt_tokens": 5, "completion_tokens": 4000, "total_tokens": 4005}
        await call.send(whole(json.dumps({"choices": [], "usage": usage}).encode()))

    stage.server.handler = long_answer
    assert stage.ask("unary", CHAT, chat()).status == 200
    eventually(lambda: stage.remaining("unary") == BUDGET - 4000, "the debt")
    assert stage.ask("unary", CHAT, chat()).status == 429


def test_a_stream_with_a_debt_budget_is_not_stopped(stage: Stage) -> None:
    """It goes on to its own end, and what it took beyond the limit is owed."""
    first, token, done = STREAMS[CHAT]

    async def long_stream(call: Call) -> None:
        await call.body()
        stop = chunk_of(delta={}, finish_reason="stop")
        await call.send(STREAM_HEAD + chunk(first) + chunk(token * 4000) + chunk(stop + done) + b"0\r\n\r\n")

    stage.server.handler = long_stream
    answer = stage.ask("debtor", CHAT, chat(stream=True))
    assert answer.body.count(token) == 4000
    eventually(lambda: stage.remaining("debtor") == BUDGET - 4000, "the debt")
