"""A request is on record before its client has the end of its answer, so that no kill can come in between."""

import asyncio
import socket
from pathlib import Path

import pytest

from gpubalancer.domain.budget import Spending
from gpubalancer.domain.outcome import Outcome
from tests.e2e.backends import STREAM_HEAD, chunk
from tests.e2e.clients import chat, request_bytes
from tests.proxy.notebook import Notebook
from tests.proxy.office import Office, play
from tests.proxy.script import DONE, END, EVENT, STOP, Answering, ended, plain, scripted, streaming

LARGE = b'{"x": "' + b"x" * 100_000 + b'"}'


def whole(content: bytes) -> Answering:
    """Answer with a length, all at once."""

    async def answer(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(plain("200 OK", content))

    return answer


def late(piece: bytes) -> Answering:
    """Answer with a stream of one large piece, after its head."""

    async def answer(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD.replace(b"text/event-stream", b"application/json"))
        await asyncio.sleep(0)
        writer.write(chunk(piece) + END)

    return answer


class Watching(Notebook):
    """Looks, at each record, what its client has got so far."""

    def __init__(self) -> None:
        super().__init__()
        self.client: socket.socket | None = None
        self.seen: list[bytes] = []

    def write(self, outcome: Outcome, spending: Spending, at_ns: int) -> bool:
        """Look, and keep the record."""
        assert self.client is not None
        try:
            self.seen.append(self.client.recv(1 << 20, socket.MSG_PEEK))
        except BlockingIOError:
            self.seen.append(b"")
        return super().write(outcome, spending, at_ns)


@pytest.mark.parametrize(
    ("answering", "end"),
    [
        (whole(b'{"ok": true}'), b"true}"),
        (whole(LARGE), LARGE[-100:]),
        (streaming(EVENT, STOP, DONE), END),
        (late(b"x" * 100), END),
        (late(LARGE), END),
    ],
    ids=["small", "large", "stream", "chunked", "large chunk"],
)
def test_the_end_leaves_after_the_record(tmp_path: Path, answering: Answering, end: bytes) -> None:
    """Whatever the answer's size and framing; and the whole of it arrives."""

    async def scene(office: Office) -> None:
        watching = office.notebook
        assert isinstance(watching, Watching)
        async with scripted(office, answering):
            await office.hand(office.policy("a"))
            loop = asyncio.get_running_loop()
            with socket.create_connection(("127.0.0.1", office.port)) as one:
                one.setblocking(False)
                watching.client = one
                await loop.sock_sendall(one, request_bytes(body={**chat(), "model": "a"}))
                await ended(office)
                got = b""
                while not got.endswith(end):
                    got += await loop.sock_recv(one, 1 << 20)
        (seen,) = watching.seen
        assert not seen.endswith(end)
        assert got.startswith(seen)

    play(tmp_path, scene, notebook=Watching())
