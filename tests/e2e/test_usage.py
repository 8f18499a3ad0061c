"""Usage, asked for and hidden; and streams whose end is none: over real sockets, up to log and metrics."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.backends import STREAM_HEAD, Call, Handler, answer_ok, backend, chunk, whole
from tests.e2e.clients import Answer, ask, chat, connect, read_to_end, request_bytes
from tests.e2e.conftest import Front
from tests.e2e.processes import eventually, serving

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}\n\n'
DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"
PROMPT = b'{"input_tokens":5,"cache_read_input_tokens":20,"cache_creation_input_tokens":3,"output_tokens":1}'
MESSAGE_EVENTS = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":%b}}\n\n' % PROMPT,
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"x"}}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":15}}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
)


@pytest.fixture(scope="module")
def shared_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """One scripted server that stands for several backends, each of its own model, and a short patience."""
    timeouts = {"timeouts": {"first_byte": "800ms", "between_bytes": "800ms"}}
    with backend(answer_ok) as server:
        named: list[dict[str, Any]] = [
            server.settings(),
            server.settings("strict", models=["strict"]),
            server.settings("cloud", models=["cloud"], kind="cloud"),
        ]
        with serving(tmp_path_factory.mktemp("usage"), named, routing=timeouts) as balancer:
            yield Front(server, balancer)


def streams(*pieces: bytes, end: bytes = END) -> Handler:
    """Answer with a stream, each piece a chunk of its own."""

    async def handle(call: Call) -> None:
        await call.body()
        await call.send(STREAM_HEAD + b"".join(map(chunk, pieces)) + end)

    return handle


def asked_stream(front: Front, request_id: str, path: str = "/v1/chat/completions", **more: Any) -> Answer:
    """A whole stream."""
    return ask(front.balancer.port, path, chat(stream=True, **more), {"X-Request-Id": request_id})


def usage_by(front: Front, source: str) -> float:
    """The metric of answers by source, once every request that was logged is in it."""
    balancer = front.balancer
    eventually(lambda: balancer.metric("gpubalancer_requests_total") == len(balancer.lines()), "all to be counted")
    return balancer.metric("gpubalancer_usage_source_total", f'source="{source}"')


@pytest.mark.parametrize("model", ["m", "cloud"])
def test_usage_is_asked_for_and_hidden(front: Front, model: str) -> None:
    """The client sees no byte of it; log and metric have the engine's own numbers."""
    front.server.handler = streams(EVENT, EVENT, EVENT, STOP, USAGE, DONE)
    before = usage_by(front, "reported")
    answer = asked_stream(front, f"hidden-{model}", model=model)
    assert answer.body == EVENT * 3 + STOP + DONE
    assert json.loads(front.server.calls[0].content)["stream_options"] == {"include_usage": True}
    line = front.balancer.logged(request_id=f"hidden-{model}")
    assert (line["prompt_tokens"], line["completion_tokens"], line["code"]) == (9, 3, 200)
    assert usage_by(front, "reported") == before + 1


def test_a_client_that_asks_itself_sees_it(front: Front) -> None:
    """Request and answer cross unchanged."""
    front.server.handler = streams(EVENT, STOP, USAGE, DONE)
    body = chat(stream=True, stream_options={"include_usage": True})
    assert ask(front.balancer.port, body=body).body == EVENT + STOP + USAGE + DONE
    assert json.loads(front.server.calls[0].content) == body


def test_usage_is_hidden_from_a_stream_of_single_bytes(front: Front) -> None:
    """Chunks of one byte, however the network joins them, make no difference."""
    data = EVENT * 3 + STOP + USAGE + DONE
    front.server.handler = streams(*(data[at : at + 1] for at in range(len(data))))
    assert asked_stream(front, "bytes").body == EVENT * 3 + STOP + DONE
    assert front.balancer.logged(request_id="bytes")["completion_tokens"] == 3


def test_a_strict_engine_is_asked_once(front: Front) -> None:
    """Its 400 is not the client's; the request goes again as it was, and later ones go so at once."""

    async def handle(call: Call) -> None:
        if b"stream_options" in await call.body():
            refusal = b'{"error":{"message":"Extra inputs are not permitted: stream_options"}}'
            await call.send(whole(refusal, "400 Bad Request"))
        else:
            await call.send(STREAM_HEAD + b"".join(map(chunk, (EVENT, STOP, DONE))) + END)

    front.server.handler = handle
    for attempts in ("2", "1"):
        answer = asked_stream(front, f"strict-{attempts}", model="strict")
        assert (answer.status, answer.body) == (200, EVENT + STOP + DONE)
        assert answer.fields["x-gpubalancer-attempts"] == attempts
    assert len(front.server.calls) == 3


def test_anthropics_usage_is_put_together(front: Front) -> None:
    """Prompt, cache and output come in two events; the client sees every byte."""
    front.server.handler = streams(*MESSAGE_EVENTS)
    assert asked_stream(front, "message", "/v1/messages").body == b"".join(MESSAGE_EVENTS)
    line = front.balancer.logged(request_id="message")
    assert (line["prompt_tokens"], line["completion_tokens"], line["code"]) == (28, 15, 200)


def test_a_stream_without_usage_is_not_free(front: Front) -> None:
    """Its events are counted, and the metric says so."""
    front.server.handler = streams(EVENT, EVENT, EVENT, EVENT, STOP)
    before = usage_by(front, "counted")
    assert asked_stream(front, "counted").body == EVENT * 4 + STOP
    line = front.balancer.logged(request_id="counted")
    assert line["completion_tokens"] == 4
    assert line["prompt_tokens"] == line["expected_prompt_tokens"] > 0
    assert usage_by(front, "counted") == before + 1


def test_a_client_gone_at_token_10_is_settled(front: Front) -> None:
    """To its prompt and ten tokens."""

    async def handle(call: Call) -> None:
        await call.body()
        await call.send(STREAM_HEAD + b"".join([chunk(EVENT)] * 10))
        await call.reader.read(1)

    front.server.handler = handle
    with connect(front.balancer.port) as client:
        client.sendall(request_bytes(body=chat(stream=True), fields="X-Request-Id: gone\r\n"))
        data = b""
        while data.count(EVENT) < 10:
            data += client.recv(65536)
    line = front.balancer.logged(request_id="gone")
    assert (line["code"], line["completion_tokens"]) == (499, 10)
    assert line["prompt_tokens"] == line["expected_prompt_tokens"]


def raw_stream(front: Front, request_id: str) -> bytes:
    """All bytes of an answer that ends with its connection."""
    with connect(front.balancer.port) as client:
        client.sendall(request_bytes(body=chat(stream=True), fields=f"X-Request-Id: {request_id}\r\n"))
        return read_to_end(client)


@pytest.mark.parametrize(
    ("name", "pieces"), [("unfinished", (EVENT, EVENT)), ("aborted", (EVENT, STOP.replace(b"stop", b"abort"), DONE))]
)
def test_an_end_that_is_none(front: Front, name: str, pieces: tuple[bytes, ...]) -> None:
    """A framing that ends neatly around half an answer becomes an error event and an abnormal close, counted as 502."""
    front.server.handler = streams(*pieces)
    answer = raw_stream(front, name)
    assert all(piece in answer for piece in pieces)
    event = answer[answer.rindex(b"data: ") :].split(b"\n")[0]
    assert json.loads(event.removeprefix(b"data: "))["error"]["code"] == "backend_failed"
    assert b"\r\n0\r\n" not in answer
    line = front.balancer.logged(request_id=name)
    assert (line["code"], line["status"], line["reason"]) == (502, 200, "backend_failed")


def test_a_stall_in_a_stream(front: Front) -> None:
    """It is timed out, and counted as a broken stream."""
    front.server.handler = streams(EVENT, end=b"")
    answer = raw_stream(front, "stalled")
    assert b'"code":"timed_out"' in answer
    assert b"\r\n0\r\n" not in answer
    line = front.balancer.logged(request_id="stalled")
    assert (line["code"], line["status"], line["reason"]) == (502, 200, "timed_out")


def test_a_stall_before_an_answer(front: Front) -> None:
    """It is a whole 504."""

    async def handle(call: Call) -> None:
        await call.body()
        await call.reader.read(1)

    front.server.handler = handle
    answer = asked_stream(front, "silent")
    assert (answer.status, answer.json()["error"]["code"]) == (504, "timed_out")
    line = front.balancer.logged(request_id="silent")
    assert (line["code"], line["reason"]) == (504, "timed_out")


def test_what_anthropics_sdk_reads(front: Front) -> None:
    """Errors name their request in `request-id`, and models come in Anthropic's shape."""
    refused = asked_stream(front, "anthropic", "/v1/messages", model="nothing")
    assert (refused.status, refused.fields["request-id"]) == (404, "anthropic")
    models = ask(front.balancer.port, "/v1/models", fields={"anthropic-version": "2023-06-01"}).json()
    assert {"type", "id", "display_name", "created_at"} == set(models["data"][0])
    assert models["last_id"] == models["data"][-1]["id"]
