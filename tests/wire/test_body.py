"""The body of a request: collected or passed on, bounded, and held back when nobody takes it."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.domain.errors import RequestError
from gpubalancer.wire.body import HIGH_WATER_BYTES, InboundBody
from tests.wire.fakes import Flow

SLOW = RequestError("request_timeout", "too slow")


def body(limit_bytes: int = 10**6) -> tuple[InboundBody, Flow]:
    """A body and the connection that it comes from."""
    flow = Flow()
    return InboundBody(flow, limit_bytes), flow


async def turns() -> None:
    """Let whatever can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


PIECES = st.lists(st.binary(min_size=1, max_size=20), max_size=6)


@given(PIECES, st.data())
def test_read_gives_all_pieces(pieces: list[bytes], data: st.DataObject) -> None:
    """Whenever `read` begins, it gives the whole body."""
    begin = data.draw(st.integers(0, len(pieces)))

    async def scene() -> None:
        inbound, _ = body()
        for piece in pieces[:begin]:
            inbound.feed(piece)
        reading = asyncio.ensure_future(inbound.read())
        await turns()
        assert not reading.done()
        for piece in pieces[begin:]:
            inbound.feed(piece)
        inbound.finish()
        assert await reading == b"".join(pieces)
        assert inbound.size_bytes == sum(map(len, pieces))

    asyncio.run(scene())


@given(PIECES, st.data())
def test_pipe_passes_all_pieces_on(pieces: list[bytes], data: st.DataObject) -> None:
    """Whenever `pipe` begins, the sink gets every byte once and in order."""
    begin = data.draw(st.integers(0, len(pieces)))

    async def scene() -> None:
        inbound, _ = body()
        for piece in pieces[:begin]:
            inbound.feed(piece)
        got: list[bytes] = []
        inbound.pipe(got.append)
        for piece in pieces[begin:]:
            inbound.feed(piece)
        inbound.finish()
        await inbound.finished()
        assert b"".join(got) == b"".join(pieces)

    asyncio.run(scene())


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=20), st.just(b"x" * 5000), st.just(b"y" * 70_000))))
def test_collected_pieces_are_the_body(pieces: list[bytes]) -> None:
    """Large pieces come as they are, small ones together, all in order."""

    async def scene() -> None:
        inbound, _ = body(10**9)
        for piece in pieces:
            inbound.feed(piece)
        inbound.finish()
        assert b"".join(await inbound.collect()) == b"".join(pieces)

    asyncio.run(scene())


def test_a_million_small_pieces_take_little_memory() -> None:
    """Pieces of one byte are kept in blocks of 64 KiB, not one by one."""

    async def scene() -> None:
        inbound, _ = body(10**9)
        for _ in range(200_000):
            inbound.feed(b"ab")
        inbound.finish()
        assert len(await inbound.collect()) == 1 + -(-399_998 // 65_536)

    asyncio.run(scene())


def test_peek_leaves_the_bytes() -> None:
    """What was looked at is still there for who takes the body."""

    async def scene() -> None:
        inbound, _ = body()
        looking = asyncio.ensure_future(inbound.peek(lambda part: b"model" in part, 1000))
        for piece in (b"mo", b"de", b"l=x", b"&more"):
            await turns()
            assert not looking.done() or piece == b"&more"
            inbound.feed(piece)
        assert (await looking).startswith(b"model=x")
        inbound.finish()
        assert await inbound.read() == b"model=x&more"

    asyncio.run(scene())


def test_peek_ends_with_its_bound_or_the_body() -> None:
    """Looking ends when enough bytes or all bytes have come."""

    async def scene() -> None:
        inbound, _ = body()
        inbound.feed(b"a" * 10)
        assert await inbound.peek(lambda part: False, 10) == b"a" * 10
        inbound.finish()
        assert await inbound.peek(lambda part: False, 100) == b"a" * 10

    asyncio.run(scene())


def test_a_body_above_its_limit_fails_and_is_dropped() -> None:
    """The byte that is too much ends the body, and nothing of it is kept."""
    inbound, _ = body(10)
    inbound.feed(b"a" * 10)
    inbound.feed(b"b")
    inbound.feed(b"c" * 100)
    inbound.finish()
    with pytest.raises(RequestError) as caught:
        asyncio.run(inbound.read())
    assert caught.value.code == "body_too_large"
    assert (inbound.complete, inbound._pieces) == (False, [])


def test_allow_sets_the_limit() -> None:
    """A route's own limit counts from then on, and for what has come already."""
    inbound, _ = body(10)
    inbound.feed(b"a" * 8)
    inbound.allow(20)
    inbound.feed(b"a" * 8)
    with pytest.raises(RequestError, match="15 bytes"):
        inbound.allow(15)


def test_a_body_that_nobody_takes_holds_the_client_back() -> None:
    """Above the high water mark the client is paused until somebody takes the body."""
    inbound, flow = body()
    inbound.feed(b"a" * HIGH_WATER_BYTES)
    assert flow.calls == []
    inbound.feed(b"a")
    assert flow.calls == ["pause"]
    inbound.pipe(lambda piece: None)
    assert flow.calls == ["pause", "resume"]
    inbound.feed(b"a")
    assert flow.calls == ["pause", "resume"]


def test_a_body_that_is_collected_is_bounded_by_its_limit_alone() -> None:
    """While somebody reads, the client is not paused."""

    async def scene() -> None:
        inbound, flow = body()
        reading = asyncio.ensure_future(inbound.read())
        await turns()
        inbound.feed(b"a" * (HIGH_WATER_BYTES + 1))
        assert "pause" not in flow.calls
        inbound.finish()
        assert len(await reading) == HIGH_WATER_BYTES + 1

    asyncio.run(scene())


def test_a_failure_reaches_who_waits_and_who_comes_later() -> None:
    """The first failure counts, for everyone."""

    async def scene() -> None:
        inbound, _ = body()
        reading = asyncio.ensure_future(inbound.read())
        await turns()
        inbound.fail(SLOW)
        inbound.fail(RequestError("malformed_request", "later"))
        for wait in (reading, inbound.finished(), inbound.peek(lambda part: False, 10)):
            with pytest.raises(RequestError) as caught:
                await wait
            assert caught.value is SLOW

    asyncio.run(scene())


def test_a_whole_body_cannot_fail() -> None:
    """What is complete stays so."""
    inbound, _ = body()
    inbound.feed(b"a")
    inbound.finish()
    inbound.fail(SLOW)
    assert asyncio.run(inbound.read()) == b"a"


def test_a_cancelled_reader_leaves_the_body_usable() -> None:
    """Who waited and was cancelled is forgotten; pieces that come then raise nothing."""

    async def scene() -> None:
        inbound, _ = body()
        reading = asyncio.ensure_future(inbound.read())
        await turns()
        reading.cancel()
        await asyncio.wait((reading,))
        inbound.feed(b"a")
        inbound.finish()
        assert await inbound.read() == b"a"

    asyncio.run(scene())


def test_the_print_tells_the_state() -> None:
    """The repr counts bytes and pieces, and shows none of them."""
    inbound, _ = body()
    inbound.feed(b"secret")
    assert repr(inbound) == "<InboundBody open, 6 bytes, 1 pieces waiting>"
