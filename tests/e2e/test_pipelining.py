"""Several requests at once on one connection: their order, and how many may wait."""

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gpubalancer.wire.limits import Limits
from tests.attack.answers import Answer, read_answers
from tests.e2e.backends import Call, whole
from tests.e2e.clients import ask, chat, connect, read_to_end, read_until, request_bytes
from tests.e2e.conftest import Front

ACCEPTED = 1 + Limits().pipelined
"""The one that is served, and as many behind it."""
FIRST = "number 0"


class Numbered:
    """A handler that answers each request with its own text; the first waits until it is let go."""

    def __init__(self) -> None:
        self.first_came, self.let_go = threading.Event(), threading.Event()
        self.texts: list[str] = []

    async def __call__(self, call: Call) -> None:
        """Answer with the text."""
        text = json.loads(await call.body())["messages"][0]["content"]
        self.texts.append(text)
        if text == FIRST:
            self.first_came.set()
            assert await asyncio.to_thread(self.let_go.wait, 10)
        await call.send(whole(json.dumps({"text": text}).encode()))


def _request(text: str) -> bytes:
    return request_bytes(body=chat(messages=[{"role": "user", "content": text}]))


@contextmanager
def _holding(front: Front) -> Iterator[Numbered]:
    """A backend that holds the first request for the time of a block."""
    numbered = Numbered()
    front.server.handler = numbered
    try:
        yield numbered
    finally:
        numbered.let_go.set()


def _read_by_the_worker(front: Front, numbered: Numbered) -> None:
    """Return when the only worker has read what was sent before: it has served another connection since."""
    assert numbered.first_came.wait(10)
    assert ask(front.balancer.port, "/v1/models").status == 200


def _texts(answers: Sequence[Answer]) -> list[str]:
    return [json.loads(answer.body)["text"] for answer in answers if answer.status == 200 and answer.complete]


def test_too_many_at_once_are_not_read(front: Front) -> None:
    """Of more requests than may wait, the accepted are answered in order, the last says so, and the connection ends."""
    sent = [f"number {number}" for number in range(2 * ACCEPTED)]
    with _holding(front) as numbered, connect(front.balancer.port) as client:
        client.sendall(b"".join(map(_request, sent)))
        _read_by_the_worker(front, numbered)
        assert numbered.texts == [FIRST]
        numbered.let_go.set()
        answers = read_answers(read_to_end(client), (), ended=True)
    assert _texts(answers) == sent[:ACCEPTED] == numbered.texts
    assert len(answers) == ACCEPTED
    assert ["close" in answer.values("connection") for answer in answers] == [False] * (ACCEPTED - 1) + [True]


def test_fewer_are_all_served(front: Front) -> None:
    """Below the bound every request is answered in order, and the connection serves on."""
    sent = [f"number {number}" for number in range(ACCEPTED - 1)]
    with _holding(front) as numbered, connect(front.balancer.port) as client:
        client.sendall(b"".join(map(_request, sent)))
        _read_by_the_worker(front, numbered)
        numbered.let_go.set()
        data = read_until(client, f'"{sent[-1]}"}}'.encode())
        client.sendall(_request("one more"))
        data += read_until(client, b'"one more"}')
    answers = read_answers(data, (), ended=False)
    assert _texts(answers) == [*sent, "one more"]
    assert not any("close" in answer.values("connection") for answer in answers)


def test_an_answer_of_our_own_does_not_overtake(front: Front) -> None:
    """What the balancer answers itself, a refusal too, waits for the backend's answer before it."""
    own = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
    with _holding(front) as numbered, connect(front.balancer.port) as client:
        client.sendall(_request(FIRST) + own + _request("last"))
        _read_by_the_worker(front, numbered)
        numbered.let_go.set()
        answers = read_answers(read_until(client, b'"last"}'), (), ended=False)
    assert [answer.status for answer in answers] == [200, 200, 404, 200]
    assert [FIRST in str(answers[0].body), b'"id":"m"' in answers[1].body] == [True, True]
