"""A client that hardly reads must not make the balancer's memory grow."""

import socket
import time

import pytest

from tests.e2e.backends import STREAM_HEAD, Call, chunk
from tests.e2e.clients import chat, request_bytes
from tests.e2e.conftest import Front
from tests.e2e.processes import eventually, resident_bytes

PIECE = b"data: " + b"x" * (64 * 1024) + b"\n\n"
PIECES = 3200
"""200 MB in all."""
GROWTH_BYTES = 20_000_000
WATCH_S = 2.0
READ_BYTES_PER_S = 1024


@pytest.mark.parametrize(("reads", "chunked"), [(True, True), (False, False)], ids=["1 KB/s", "nothing"])
def test_an_answer_of_200_mb_is_held_back(front: Front, reads: bool, chunked: bool) -> None:
    """While a client reads 1 KB/s, or nothing, the backend is held back and the worker grows by less than 20 MB."""
    sent_bytes = 0

    async def handle(call: Call) -> None:
        nonlocal sent_bytes
        await call.body()
        size = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (PIECES * len(PIECE))
        await call.send(STREAM_HEAD if chunked else size)
        for _ in range(PIECES):
            await call.send(chunk(PIECE) if chunked else PIECE)
            sent_bytes += len(PIECE)

    balancer, front.server.handler = front.balancer, handle
    (worker,) = balancer.workers()
    before_bytes = resident_bytes(worker)
    request_id = f"slow-{reads}"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(10)
        client.connect(("127.0.0.1", balancer.port))
        client.sendall(request_bytes(body=chat(stream=chunked), fields=f"X-Request-Id: {request_id}\r\n"))
        eventually(lambda: sent_bytes > 0, "the answer to begin")
        most_bytes = _watch(client, worker, reads)
    assert most_bytes - before_bytes < GROWTH_BYTES
    assert sent_bytes < PIECES * len(PIECE) / 2
    assert balancer.logged(request_id=request_id)["response_bytes"] < GROWTH_BYTES


def _watch(client: socket.socket, worker: int, reads: bool) -> int:
    """The most memory that the worker has while the client takes its time."""
    began_s, read_bytes, most_bytes = time.monotonic(), 0, 0
    while (now_s := time.monotonic()) < began_s + WATCH_S:
        most_bytes = max(most_bytes, resident_bytes(worker))
        due_bytes = int((now_s - began_s) * READ_BYTES_PER_S) - read_bytes
        if reads and due_bytes > 0:
            read_bytes += len(client.recv(due_bytes))
        time.sleep(0.01)
    return most_bytes
