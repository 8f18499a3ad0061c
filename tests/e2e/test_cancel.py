"""Someone leaves in the middle: a client, or a backend."""

import json
import socket
import struct
import time
from collections.abc import Callable

import pytest

from tests.e2e.backends import STREAM_HEAD, Call, chunk
from tests.e2e.clients import chat, connect, read_to_end, read_until, request_bytes
from tests.e2e.conftest import Front
from tests.e2e.processes import eventually

CANCEL_S = 0.1


def _close(client: socket.socket) -> None:
    client.close()


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("leave", [_close, _reset])
@pytest.mark.parametrize("streams", [False, True], ids=["unanswered", "streaming"])
def test_a_client_that_leaves_frees_its_backend(front: Front, leave: Callable[..., None], streams: bool) -> None:
    """The backend's connection closes within 100 ms after the client left, and log and metric say 499."""
    closed_s: list[float] = []

    async def handle(call: Call) -> None:
        await call.body()
        if streams:
            await call.send(STREAM_HEAD + chunk(b"data: first\n\n"))
        await _until_closed(call)
        closed_s.append(time.monotonic())

    balancer, front.server.handler = front.balancer, handle
    counted = balancer.metric("gpubalancer_requests_total", 'code="499"')
    cancelled = balancer.metric("gpubalancer_upstream_cancelled_total")
    request_id = f"{leave.__name__}-{streams}"
    client = connect(balancer.port)
    client.sendall(request_bytes(body=chat(stream=streams), fields=f"X-Request-Id: {request_id}\r\n"))
    eventually(lambda: front.server.calls and front.server.calls[0].content, "the request to arrive")
    if streams:
        read_until(client, b"first\n\n")
    left_s = time.monotonic()
    leave(client)
    eventually(lambda: closed_s, "the backend's connection to close")
    assert closed_s[0] - left_s < CANCEL_S
    line = balancer.logged(request_id=request_id)
    assert (line["code"], line["reason"], line["status"]) == (499, "client_left", 200 if streams else 0)
    eventually(lambda: balancer.metric("gpubalancer_requests_total", 'code="499"') == counted + 1, "the metric")
    assert balancer.metric("gpubalancer_upstream_cancelled_total") == cancelled + 1
    eventually(lambda: balancer.metric("gpubalancer_in_flight") == 0, "the slot to be free")


async def _until_closed(call: Call) -> None:
    try:
        while await call.reader.read(1024):
            pass
    except ConnectionResetError:
        return


@pytest.mark.parametrize("how", ["close", "abort", "bad-chunk"])
def test_a_backend_that_breaks_off_a_stream(front: Front, how: str) -> None:
    """The client gets what came, an error event and no terminal chunk; the log's code is 502, and there is no retry."""

    async def handle(call: Call) -> None:
        await call.body()
        await call.send(STREAM_HEAD + chunk(b"data: first\n\n") + chunk(b"data: cut in tw"))
        if how == "abort":
            call.writer.transport.abort()
        elif how == "bad-chunk":
            await call.send(b"zz\r\nnonsense\r\n")
        call.writer.close()

    balancer, front.server.handler = front.balancer, handle
    broken = balancer.metric("gpubalancer_streams_broken_total")
    with connect(balancer.port) as client:
        client.sendall(request_bytes(body=chat(stream=True), fields=f"X-Request-Id: {how}\r\n"))
        answer = read_to_end(client)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"data: first\n\n" in answer
    event = answer[answer.rindex(b"data: ") :].split(b"\n")[0]
    assert json.loads(event.removeprefix(b"data: "))["error"]["code"] == "backend_failed"
    assert b"\r\n0\r\n" not in answer
    line = balancer.logged(request_id=how)
    assert (line["code"], line["status"], line["reason"], line["attempts"]) == (502, 200, "backend_failed", 1)
    assert len(front.server.calls) == 1
    eventually(lambda: balancer.metric("gpubalancer_streams_broken_total") == broken + 1, "the metric")


def test_a_backend_that_closes_before_its_answer(front: Front) -> None:
    """The client gets a whole 502 in OpenAI's shape, since nothing of an answer had gone out."""

    async def handle(call: Call) -> None:
        await call.body()
        call.writer.close()

    front.server.handler = handle
    with connect(front.balancer.port) as client:
        client.sendall(request_bytes(fields="Connection: close\r\nX-Request-Id: unanswered\r\n"))
        head, _, body = read_to_end(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 502 ")
    assert json.loads(body)["error"]["code"] == "backend_failed"
    assert front.balancer.logged(request_id="unanswered")["detail"].startswith("backend: ")
    assert len(front.server.calls) == 1
