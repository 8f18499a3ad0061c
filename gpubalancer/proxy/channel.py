"""What supervisor and workers tell one another: JSON messages over a socket pair, each after its length in four bytes.

The pair is private to the two processes, so a policy may cross it with its secrets.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, cast

import orjson

Message = dict[str, Any]
LENGTH = struct.Struct(">I")
"""Of a message, in front of it."""


def encode(message: Message) -> bytes:
    """A message as bytes."""
    content = orjson.dumps(message)
    return LENGTH.pack(len(content)) + content


class Decoder:
    """Messages out of a stream of bytes, wherever it was cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete now."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                break
            messages.append(orjson.loads(self._buffer[LENGTH.size : end]))
            del self._buffer[:end]
        return messages


class Channel(asyncio.Protocol):
    """One end of the pair."""

    def __init__(self, on_message: Callable[[Message], None], on_closed: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_closed = on_closed
        self._decoder = Decoder()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)

    @classmethod
    async def open(
        cls, end: socket.socket, on_message: Callable[[Message], None], on_closed: Callable[[], None]
    ) -> "Channel":
        """Speak over this end of a socket pair; both callables are called from the event loop."""
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_unix_connection(lambda: cls(on_message, on_closed), sock=end)
        return channel

    def send(self, message: Message) -> None:
        """Queue a message; nothing happens if the other side is gone."""
        if not self._transport.is_closing():
            self._transport.write(encode(message))

    def close(self) -> None:
        """Close after what is queued has been sent."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand over what is complete."""
        for message in self._decoder.feed(data):
            self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """The other process has ended or closed its end."""
        self._on_closed()
