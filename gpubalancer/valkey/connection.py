"""One connection to a Valkey or Redis server: commands out, replies in, in their order.

Nothing here waits: `send` writes and gives a future. A connection that is lost fails all of them with `GoneError`, and
whether the server did what they asked is not known.
"""

import asyncio
import importlib
from collections import deque
from collections.abc import Callable
from typing import Any, cast


class MissingDriverError(Exception):
    """The `redis` extra is not installed; the message says how to get it."""


class GoneError(Exception):
    """No reply will come; whether the server has done what was asked is not known."""


class RefusedError(Exception):
    """The server's reply is an error; the text begins with its kind."""


def driver() -> Any:
    """The module that speaks the server's protocol, of the `redis` extra.

    Errors:
        MissingDriverError: it is not installed.
    """
    try:
        return importlib.import_module("hiredis")
    except ImportError:
        message = "`state.budgets` on a server needs hiredis: pip install 'gpubalancer[redis]'"
        raise MissingDriverError(message) from None


class Connection(asyncio.Protocol):
    """A connection whose replies are futures.

    Attributes:
        lost: it is gone.
    """

    def __init__(self, on_lost: Callable[[], None] = lambda: None) -> None:
        self.lost = False
        self._on_lost = on_lost
        self._driver = driver()
        self._reader = self._driver.Reader()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[asyncio.Future[Any]] = deque()

    def __repr__(self) -> str:
        return f"<Connection {'lost' if self.lost else 'open'}, {len(self._waiting)} replies to come>"

    def send(self, *parts: bytes | str | int) -> asyncio.Future[Any]:
        """Send a command; the future gets its reply, `RefusedError`, or `GoneError`."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._transport is None or self.lost:
            future.set_exception(GoneError("the connection is gone"))
            return future
        self._waiting.append(future)
        self._transport.write(self._driver.pack_command(parts))
        return future

    def close(self) -> None:
        """Let it go at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand replies to those who wait for them."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._answer(reply)
        except self._driver.ProtocolError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those who wait."""
        self.lost = True
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_exception(GoneError(str(exc or "the server closed the connection")))
                # Who asked may have given up by now.
                future.exception()
        self._on_lost()

    def _answer(self, reply: Any) -> None:
        if not self._waiting:
            # A server that speaks unasked is not one that we know.
            self.close()
            return
        future = self._waiting.popleft()
        if future.done():
            return
        if isinstance(reply, self._driver.ReplyError):
            future.set_exception(RefusedError(str(reply)))
        else:
            future.set_result(reply)
