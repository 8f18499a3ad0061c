"""One connection: commands out, replies in."""

import asyncio
import importlib

import pytest

from gpubalancer.valkey.connection import Connection, GoneError, MissingDriverError, RefusedError, driver
from tests.valkey.fake_server import Handler, bulk, play, serving, until


async def connected(port: int, lost: list[str]) -> Connection:
    """A connection to a fake server."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(lambda: lost.append("lost")), "127.0.0.1", port)
    return connection


def answering(replies: dict[bytes, bytes]) -> Handler:
    """By the step's first argument."""
    return lambda step: replies.get(step[2])


def test_replies_come_in_the_order_of_commands() -> None:
    """Strings, and errors as exceptions."""

    async def scene() -> None:
        async with serving(answering({b"a": bulk(b"first"), b"b": b"-OOM full\r\n", b"c": bulk(b"third")})) as fake:
            connection = await connected(fake.port, [])
            asked = [connection.send("EVALSHA", "x", 1, "k", "step", "tag", name) for name in "abc"]
            assert await asked[0] == b"first"
            with pytest.raises(RefusedError, match="OOM"):
                await asked[1]
            assert await asked[2] == b"third"
            assert repr(connection) == "<Connection open, 0 replies to come>"

    play(scene)


def test_who_waits_is_told_when_it_breaks() -> None:
    """And whoever asks after it, at once; a reply that nobody waits for any more is dropped."""

    async def scene() -> None:
        lost: list[str] = []
        async with serving(answering({b"b": bulk(b"late")})) as fake:
            connection = await connected(fake.port, lost)
            waiting = connection.send("EVALSHA", "x", 1, "k", "step", "tag", "a")
            given_up = connection.send("EVALSHA", "x", 1, "k", "step", "tag", "a")
            given_up.cancel()
            await asyncio.sleep(0.02)
            fake.cut()
            with pytest.raises(GoneError):
                await waiting
            assert (lost, connection.lost) == (["lost"], True)
            with pytest.raises(GoneError):
                await connection.send("PING")

    play(scene)


def test_a_server_that_speaks_unasked_is_left() -> None:
    """Its replies could not be told apart any more; the same for what is no reply at all."""

    async def scene() -> None:
        for words in (b"+OK\r\n+OK\r\n", b"nonsense\r\n"):
            lost: list[str] = []
            async with serving(answering({b"a": words})) as fake:
                connection = await connected(fake.port, lost)
                asked = connection.send("EVALSHA", "x", 1, "k", "step", "tag", "a")
                await asyncio.wait((asked,))
                await until(lambda: lost)  # noqa: B023
                asked.exception()

    play(scene)


def test_a_missing_driver_is_told_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra's name stands in the message."""

    def missing(name: str) -> None:
        raise ImportError(name)

    assert driver().__name__ == "hiredis"
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingDriverError, match=r"gpubalancer\[redis\]"):
        driver()
