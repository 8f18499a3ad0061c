"""Bodies: large uploads that pass through, invitations to send, answers without a body, failed connects."""

import hashlib
import threading
import time
from pathlib import Path

from tests.e2e.backends import Call, answer_ok, backend, whole
from tests.e2e.clients import ask, chat, connect, read_to_end, read_until
from tests.e2e.conftest import Front
from tests.e2e.processes import eventually, free_port, resident_bytes, serving

UPLOAD_BYTES = 30 * 1024 * 1024
FORM_HEAD = (
    b'--edge\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
    b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
)
FORM_END = b"\r\n--edge--\r\n"


def test_an_upload_of_30_mb_is_streamed_through(front: Front) -> None:
    """The backend has the first bytes before the client has sent the last; all arrive; the worker grows by < 10 MB."""
    digest, first_seen = hashlib.sha256(), threading.Event()

    async def handle(call: Call) -> None:
        left_bytes = int(call.fields["content-length"])
        while left_bytes:
            piece = await call.reader.read(min(left_bytes, 65536))
            digest.update(piece)
            left_bytes -= len(piece)
            first_seen.set()
        await call.send(whole(b'{"text": "heard"}'))

    front.server.handler = handle
    body = FORM_HEAD + b"\x00\xff" * (UPLOAD_BYTES // 2) + FORM_END
    head = (
        "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=edge\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    (worker,) = front.balancer.workers()
    before_bytes, most_bytes = resident_bytes(worker), 0

    with connect(front.balancer.port) as client:
        client.sendall(head.encode() + body[: 1 << 20])
        assert first_seen.wait(10)
        for start in range(1 << 20, len(body), 1 << 20):
            client.sendall(body[start : start + (1 << 20)])
            most_bytes = max(most_bytes, resident_bytes(worker))
        assert read_until(client, b'"heard"}').startswith(b"HTTP/1.1 200 ")
    assert digest.digest() == hashlib.sha256(body).digest()
    assert most_bytes - before_bytes < 10_000_000


def test_an_invited_body_is_served(front: Front) -> None:
    """A client that expects 100-continue gets it, sends its body, and gets the answer."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 13\r\n\r\n"
    with connect(front.balancer.port) as client:
        client.sendall(head)
        assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        client.sendall(b'{"model":"m"}')
        assert read_until(client, b'{"ok": true}').startswith(b"HTTP/1.1 200 ")


def test_a_refused_body_is_not_read(front: Front) -> None:
    """A refusal comes instead of the invitation, at once, and the connection ends without the body."""
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Basic x\r\nExpect: 100-continue\r\n"
        b"Content-Length: 1000000\r\n\r\n"
    )
    began_s = time.monotonic()
    with connect(front.balancer.port) as client:
        client.sendall(head)
        answer = read_to_end(client)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"invalid_api_key" in answer
    assert b" 100 " not in answer
    assert time.monotonic() - began_s < 5
    assert front.server.calls == []


def test_head_has_no_body(front: Front) -> None:
    """HEAD is answered with the length that GET has and without a body, and the connection serves on."""
    with connect(front.balancer.port) as client:
        client.sendall(b"HEAD /v1/models HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        data = read_until(client, b'"id":"m"')
    head, _, rest = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert rest.startswith(b"HTTP/1.1 200 ")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    assert int(length.split(b":")[1]) > 0


def test_unknown_fields_arrive_unchanged(front: Front) -> None:
    """A body crosses byte for byte, with fields that the balancer does not know."""
    content = b'{ "model" : "m", "messages": [], "vendor": {"x": [1.50, null]},\n "caf\xc3\xa9": true }'
    assert ask(front.balancer.port, body=content).status == 200
    assert front.server.calls[0].content == content


def test_a_failed_connect_moves_on(tmp_path: Path) -> None:
    """With two of three backends refusing connections every request is served and logged."""
    with backend(answer_ok) as server:
        dead = [{**server.settings(f"dead-{n}"), "url": f"http://127.0.0.1:{free_port()}"} for n in range(2)]
        probing = {"probe_interval": "1h"}
        with serving(tmp_path, [server.settings("alive"), *dead], telemetry=probing) as balancer:
            answers = [ask(balancer.port, body=chat()) for _ in range(30)]
            assert {(each.status, each.fields["x-gpubalancer-backend"]) for each in answers} == {(200, "alive")}
            assert len(server.calls) == len(answers)
            eventually(lambda: len(balancer.lines(code=200)) == 30, "all lines")
