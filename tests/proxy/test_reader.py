"""A worker's reader: heavy bodies in, documents out, whatever becomes of the process in between."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import pytest

from gpubalancer.brain.document import Document
from gpubalancer.brain.routes import Route, find_route
from gpubalancer.domain.errors import RequestError
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy import reader as reader_module
from gpubalancer.proxy.reader import Reader
from tests.proxy.test_reading import POLICY, SLOW, cpu_s

LONG = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "word " * 60_000}]})
PIECES = [LONG[:100_000], LONG[100_000:]]
OTHER = Policy.model_validate({"backends": [{"url": "http://127.0.0.1:9", "models": ["m"]}]})


def route() -> Route:
    """The route of chat."""
    found = find_route("/v1/chat/completions")
    assert found is not None
    return found


def tokens(document: Document) -> int:
    """What its prompt was counted as."""
    assert document.understood is not None
    assert document.understood.extent is None
    return document.understood.known_tokens


async def refused(reading: Coroutine[Any, Any, Document]) -> str:
    """The code with which a body is refused."""
    with pytest.raises(RequestError) as caught:
        await reading
    return caught.value.code


def play(scene: Callable[[Reader], Coroutine[Any, Any, None]]) -> None:
    """Run a scene with a reader, and end its process."""

    async def run() -> None:
        reader = Reader()
        try:
            await scene(reader)
        finally:
            await reader.close()
        assert reader.pid is None

    asyncio.run(run())


async def beginning(reader: Reader) -> int:
    """The process id, as soon as there is a process."""
    async with asyncio.timeout(10):
        while reader.pid is None:  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.005)
    return reader.pid


async def busy(pid: int) -> None:
    """Wait until the process has begun to read: it has used 20 ms of a processor since."""
    used_s = cpu_s(pid)
    async with asyncio.timeout(30):
        while cpu_s(pid) < used_s + 0.02:  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.001)


def test_bodies_are_read_one_by_one_by_one_process() -> None:
    """All get their own answers; the process is started once, and not before it is needed."""

    async def scene(reader: Reader) -> None:
        assert reader.pid is None
        small = b'{"model":"m","messages":[{"role":"user","content":"hello world"}]}'
        bad = b"{" * 300_000
        long, short, wrong = await asyncio.gather(
            reader.read(PIECES, route(), POLICY),
            reader.read([small], route(), POLICY),
            refused(reader.read([bad], route(), POLICY)),
        )
        assert (tokens(long), tokens(short), wrong) == (60_008, 9, "invalid_json")
        assert long.pieces == tuple(PIECES)
        pid = reader.pid
        assert tokens(await reader.read([small], route(), POLICY)) == 9
        assert reader.pid == pid
        other = await reader.read([small], route(), OTHER)
        assert other.understood is not None
        assert other.understood.extent is not None, "by the other policy, the model has no tokenizer"
        assert reader.pid == pid

    play(scene)


def test_a_client_that_leaves_stops_the_reading() -> None:
    """The one behind it is read at once, by the same process; what left while it waited is never read."""

    async def scene(reader: Reader) -> None:
        await reader.read(PIECES, route(), POLICY)
        pid = reader.pid
        leaving = asyncio.ensure_future(reader.read([SLOW] * 1, route(), POLICY))
        waiting = asyncio.ensure_future(reader.read([SLOW + b" "], route(), POLICY))
        staying = asyncio.ensure_future(reader.read([SLOW + b"  "], route(), POLICY))
        assert pid is not None
        await busy(pid)
        leaving.cancel()
        waiting.cancel()
        document = await staying
        assert tokens(document) == 400_000 + 4 + 1 + 3
        assert reader.pid == pid
        assert (leaving.cancelled(), waiting.cancelled()) == (True, True)

    play(scene)


def test_a_body_that_kills_the_process_is_refused() -> None:
    """Its sender gets a clear answer, and all others are read by a new process."""

    async def scene(reader: Reader) -> None:
        await reader.read(PIECES, route(), POLICY)
        pid = await beginning(reader)
        deadly = asyncio.ensure_future(refused(reader.read([SLOW], route(), POLICY)))
        behind = asyncio.ensure_future(reader.read([SLOW + b" "], route(), POLICY))
        await busy(pid)
        os.kill(pid, signal.SIGKILL)
        assert await deadly == "body_too_costly"
        assert tokens(await behind) == 400_000 + 4 + 1 + 3
        assert reader.pid != pid

    play(scene)


def test_a_process_that_does_not_answer_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time, the body is refused and the next one is read."""

    async def scene(reader: Reader) -> None:
        await reader.read(PIECES, route(), POLICY)
        pid = await beginning(reader)
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(reader_module, "ANSWER_S", 0.1)
        assert await refused(reader.read(PIECES, route(), POLICY)) == "body_too_costly"
        monkeypatch.undo()
        assert tokens(await reader.read(PIECES, route(), POLICY)) == 60_008

    play(scene)


def test_without_a_process_it_is_our_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none can be started, the request fails with 500, and a later one may succeed."""

    async def scene(reader: Reader) -> None:
        monkeypatch.setattr("sys.executable", "/nowhere/python")
        assert await refused(reader.read(PIECES, route(), POLICY)) == "internal_error"
        monkeypatch.undo()
        assert tokens(await reader.read(PIECES, route(), POLICY)) == 60_008

    play(scene)


def test_closing_ends_it_in_the_middle() -> None:
    """A worker that ends does not wait for what is being read."""

    async def run() -> None:
        reader = Reader()
        reading = asyncio.ensure_future(reader.read([SLOW], route(), POLICY))
        pid = await beginning(reader)
        await reader.close()
        reading.cancel()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    asyncio.run(run())
