"""Settlements on their way."""

import asyncio
from typing import Any

from gpubalancer.valkey.connection import GoneError
from gpubalancer.valkey.outbox import WINDOW, Outbox, Parcel
from tests.valkey.fake_server import play


class Server:
    """Keeps what was sent until the test answers."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.futures: list[asyncio.Future[bytes]] = []
        self.is_there = True

    def send(self, *parts: Any) -> asyncio.Future[bytes]:
        """Take a step; where there is no server it fails at once."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self.is_there:
            self.sent.append(parts)
            self.futures.append(future)
        else:
            future.set_exception(GoneError("away"))
        return future


def parcel(number: int, done: list[int], *, unsure: bool = False) -> Parcel:
    """One settlement."""
    return Parcel("s", number, b"[1]", b"claims", unsure, lambda: done.append(number))


def test_each_is_sent_until_it_is_done() -> None:
    """What broke on the way is sent again, and what waits for a server as soon as there is one."""

    async def scene() -> None:
        server, done = Server(), list[int]()
        outbox = Outbox(server.send)
        outbox.put(parcel(1, done))
        assert server.sent == [("settle", "s", 1, b"[1]", b"")]
        server.is_there = False
        outbox.put(parcel(2, done))
        server.futures[0].set_exception(GoneError("cut"))
        await asyncio.sleep(0)
        assert (len(outbox), done) == (2, [])
        server.is_there = True
        outbox.pump()
        assert [parts[2] for parts in server.sent] == [1, 2, 1]
        for future in server.futures[1:]:
            future.set_result(b"1 5 0")
        await asyncio.sleep(0)
        assert (len(outbox), sorted(done)) == (0, [1, 2])

    play(scene)


def test_what_the_server_may_not_know_goes_with_its_claims() -> None:
    """And what it should know and does not, when it was sent for the first time: the server has lost it."""

    async def scene() -> None:
        server, done = Server(), list[int]()
        outbox = Outbox(server.send)
        outbox.put(parcel(1, done, unsure=True))
        outbox.put(parcel(2, done))
        assert [parts[4] for parts in server.sent] == [b"claims", b""]
        for future in list(server.futures):
            future.set_result(b"0 5 0")
        await asyncio.sleep(0)
        assert (done, server.sent[2:]) == ([1], [("settle", "s", 2, b"[1]", b"claims")])
        server.futures[2].set_result(b"1 5 0")
        await asyncio.sleep(0)
        assert done == [1, 2]

    play(scene)


def test_a_second_try_that_finds_nothing_was_done_before() -> None:
    """The first one had arrived, and only its reply was lost."""

    async def scene() -> None:
        server, done = Server(), list[int]()
        outbox = Outbox(server.send)
        outbox.put(parcel(1, done))
        server.futures[0].set_exception(GoneError("cut"))
        await asyncio.sleep(0)
        outbox.pump()
        server.futures[1].set_result(b"0 5 0")
        await asyncio.sleep(0)
        assert (done, len(server.sent)) == ([1], 2)

    play(scene)


def test_only_so_many_are_on_their_way() -> None:
    """The others follow as room is made, in their order."""

    async def scene() -> None:
        server, done = Server(), list[int]()
        outbox = Outbox(server.send)
        for number in range(WINDOW + 5):
            outbox.put(parcel(number, done))
        assert (len(server.sent), len(outbox)) == (WINDOW, WINDOW + 5)
        server.futures[0].set_result(b"1 5 0")
        await asyncio.sleep(0)
        assert (server.sent[-1][2], len(outbox)) == (WINDOW, WINDOW + 4)

    play(scene)
