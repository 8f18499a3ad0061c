"""Messages between processes, wherever the stream is cut."""

import asyncio
import socket
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.proxy.channel import Channel, Decoder, Message, encode

DEADLINE_S = 10.0
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10)
MESSAGES = st.lists(
    st.dictionaries(st.text(max_size=6), SCALARS | st.lists(SCALARS, max_size=3), max_size=4), max_size=5
)


@given(MESSAGES, st.data())
def test_any_split_gives_the_same_messages(messages: list[dict[str, Any]], data: st.DataObject) -> None:
    """However the bytes are cut, every message comes out once, whole and in order."""
    stream = b"".join(map(encode, messages))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    decoder = Decoder()
    found: list[Message] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += decoder.feed(stream[start:end])
    assert found == messages


def test_bytes_one_by_one() -> None:
    """A message comes out with its last byte, not before."""
    decoder, stream = Decoder(), encode({"a": 1})
    found = [decoder.feed(stream[at : at + 1]) for at in range(len(stream))]
    assert found == [[]] * (len(stream) - 1) + [[{"a": 1}]]


def test_two_ends_talk() -> None:
    """What one end sends the other gets, of any size; a closed end is told, and sending to it is harmless."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        got: list[Message] = []
        enough, closed = loop.create_future(), loop.create_future()

        def on_message(message: Message) -> None:
            got.append(message)
            if len(got) == 3:
                enough.set_result(None)

        left = await Channel.open(ours, got.append, lambda: None)
        right = await Channel.open(theirs, on_message, lambda: closed.set_result(None))
        sent: list[Message] = [{"n": 1}, {"text": "x" * 300_000}, {"n": 3}]
        for message in sent:
            left.send(message)
        async with asyncio.timeout(DEADLINE_S):
            await enough
            assert got == sent
            left.close()
            await closed
        left.send({"n": 4})
        right.send({"n": 5})
        right.close()

    asyncio.run(scene())
