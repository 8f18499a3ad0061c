"""Bodies: large uploads that pass through, invitations to send, answers without a body, failed connects."""

import hashlib
import json
import os
import signal
import threading
import time
from pathlib import Path

from tests.e2e.backends import Call, answer_ok, backend, whole
from tests.e2e.clients import Answer, ask, chat, connect, read_to_end, read_until
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


def test_a_large_chat_crosses_unchanged_but_for_its_model(tmp_path: Path) -> None:
    """3 MB that are read in another process reach the backend byte by byte, with its own name for the model."""
    text = "\u00e9" * 1_500_000
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}, ensure_ascii=False).encode()
    bodies: list[bytes] = []

    async def handle(call: Call) -> None:
        bodies.append(await call.body())
        await call.send(whole(b'{"choices": []}'))

    with (
        backend(handle) as server,
        serving(tmp_path, [server.settings(models={"m": "vendor/m"})]) as balancer,
    ):
        assert ask(balancer.port, "/v1/chat/completions", body).status == 200
        assert balancer.logged()["request_bytes"] == len(body)
    assert bodies == [body.replace(b'"model": "m"', b'"model": "vendor/m"')]


def test_a_slow_body_holds_up_nobody(front: Front) -> None:
    """While 6 MB of numbers are read, 20 other requests are answered, and the worker computes for less than 0.2 s."""
    front.server.handler = answer_ok
    heavy = b'{"model":"m","messages":[],"x":[' + b"1," * 3_000_000 + b"1]}"
    assert ask(front.balancer.port, "/v1/chat/completions", b"{" + b" " * 300_000).status == 400  # starts the process
    (worker,) = front.balancer.workers()
    before_s, answered = _cpu_s(worker), threading.Event()

    def send_heavy() -> None:
        assert ask(front.balancer.port, "/v1/chat/completions", heavy).status == 200
        answered.set()

    thread = threading.Thread(target=send_heavy)
    thread.start()
    served = 0
    while not answered.is_set() and served < 20:
        assert ask(front.balancer.port, "/v1/chat/completions", chat()).status == 200
        served += 1
    assert not answered.is_set()
    thread.join(30)
    assert answered.is_set()
    assert _cpu_s(worker) - before_s < 0.2


def _cpu_s(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def test_a_body_that_kills_its_reader_is_the_only_one_that_fails(front: Front) -> None:
    """Its client gets 413; the next heavy body is read by a new process."""
    front.server.handler = answer_ok
    heavy = b'{"model":"m","messages":[],"x":[' + b"1," * 3_000_000 + b"1]}"
    assert ask(front.balancer.port, "/v1/chat/completions", heavy).status == 200
    (worker,) = front.balancer.workers()
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(ask(front.balancer.port, "/v1/chat/completions", heavy)))
    (reader,) = map(int, Path(f"/proc/{worker}/task/{worker}/children").read_text().split())
    used_s = _cpu_s(reader)
    thread.start()
    eventually(lambda: _cpu_s(reader) > used_s + 0.05, "the reader to read")
    os.kill(reader, signal.SIGKILL)
    thread.join(30)
    assert (answers[0].status, answers[0].json()["error"]["code"]) == (413, "body_too_costly")
    assert ask(front.balancer.port, "/v1/chat/completions", heavy).status == 200
