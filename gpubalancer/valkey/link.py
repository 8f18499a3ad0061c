"""Keeps a connection to the server that holds the budgets: finds it, opens it, shows signs of life, and asks.

Whoever asks waits for `DEADLINE_S` at most. Beside all requests a task beats once a second, which keeps this session's
reservations from expiring; while the breaker is open it alone knocks.
"""

import asyncio
import hashlib
import ssl
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from gpubalancer.policy.valkey_url import Address
from gpubalancer.valkey.breaker import Breaker
from gpubalancer.valkey.connection import Connection, GoneError, RefusedError

DEADLINE_S = 0.05
"""A request waits no longer for the server."""
BEAT_S = 1.0
OPEN_S = 1.0
"""How long opening a connection, or a beat, may take."""
RETRY_FIRST_S, RETRY_LONGEST_S = 0.05, 1.0
LEASE_MS = 15_000
"""A session that was not heard of for so long has died: what it holds is given back."""
TAG = "{gpubalancer}"
SCRIPT = files("gpubalancer.valkey").joinpath("budget.lua").read_bytes()
SHA = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest()


class Link:
    """One process's way to the server.

    Arguments:
        address: of it.
        session: names this process there; no two share one.
        on_up: called when the server is there again.

    Attributes:
        breaker: open while nobody should ask.
        peers: sessions alive, ours included, as the server last said.
    """

    def __init__(self, address: Address, session: str, on_up: Callable[[], None] = lambda: None) -> None:
        self.session = session
        self.breaker = Breaker()
        self.peers = 1
        self._address = address
        self._on_up = on_up
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._moved: tuple[str, int] | None = None
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def __repr__(self) -> str:
        return f"<Link to {self._address}, {self.breaker}, {self.peers} peers>"

    def now_ns(self) -> int:
        """The server's time, as far as it has told."""
        return time.monotonic_ns() + self._offset_ns

    def heard(self, server_ns: int) -> None:
        """The server has told its time."""
        self._offset_ns = server_ns - time.monotonic_ns()

    async def run(self) -> None:
        """Keep the connection, for ever."""
        pause_s = RETRY_FIRST_S
        while True:
            try:
                await self._open()
                pause_s = RETRY_FIRST_S
                while True:
                    await asyncio.sleep(BEAT_S)
                    await self._beat()
            except (OSError, TimeoutError, GoneError, RefusedError):
                self.close()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_LONGEST_S)

    def close(self) -> None:
        """Let the connection go."""
        self.breaker.open()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def ask(self, *parts: bytes | str | int) -> bytes:
        """One step of the script.

        Raises:
            GoneError: there is no reply in time; whether the step was made is not known.
        """
        future = self.send(*parts)
        timer = self._loop.call_later(DEADLINE_S, self._expire, future)
        try:
            reply: bytes = await future
        except TimeoutError:
            self.breaker.failed()
            raise GoneError("no reply in time") from None
        finally:
            timer.cancel()
        self.breaker.answered()
        return reply

    def send(self, *parts: bytes | str | int) -> asyncio.Future[Any]:
        """The same without a deadline, and without waiting; fails with `GoneError` only."""
        future: asyncio.Future[Any] = self._loop.create_future()
        connection = self._connection
        if connection is None or self.breaker.is_open:
            future.set_exception(GoneError("the server is not there"))
            return future
        asked = connection.send("EVALSHA", SHA, 1, f"{TAG}:s", parts[0], TAG, *parts[1:])
        asked.add_done_callback(lambda done: self._pass_on(done, future, connection, parts))
        return future

    def _pass_on(
        self,
        done: asyncio.Future[Any],
        future: asyncio.Future[Any],
        connection: Connection,
        parts: tuple[bytes | str | int, ...],
    ) -> None:
        error = done.exception()
        if error is None:
            if not future.done():
                future.set_result(done.result())
            return
        if isinstance(error, RefusedError) and str(error).startswith("NOSCRIPT"):
            # Nothing was done: the server was restarted or flushed. It learns the script with this step.
            again = connection.send("EVAL", SCRIPT, 1, f"{TAG}:s", parts[0], TAG, *parts[1:])
            again.add_done_callback(lambda done: self._pass_on(done, future, connection, parts))
            return
        if isinstance(error, RefusedError):
            # Moved, read only, loading, out of memory: another server, or the same one later.
            self._moved = _moved_to(str(error))
            self.close()
        if not future.done():
            future.set_exception(GoneError(str(error)))
            future.exception()

    def _expire(self, future: asyncio.Future[Any]) -> None:
        """The deadline has passed. The reply may have come while this process was held up: uvloop runs timers first."""
        self._loop.call_later(0, _fail, future)

    async def _open(self) -> None:
        async with asyncio.timeout(OPEN_S):
            host, port = self._moved or await self._find()
            self._moved = None
            connection = await self._connect(host, port)
        self._connection = connection
        async with asyncio.timeout(OPEN_S):
            await self._greet(connection)
        await self._beat()

    async def _find(self) -> tuple[str, int]:
        """The server's address: the one we were given, or what the first Sentinel that answers says."""
        address = self._address
        if not address.sentinel:
            return address.hosts[0]
        for host, port in address.hosts:
            try:
                sentinel = await self._connect(host, port, tls=False)
            except OSError:
                continue
            try:
                found = _master_of(await sentinel.send("SENTINEL", "get-master-addr-by-name", address.sentinel))
            finally:
                sentinel.close()
            if found is not None:
                return found
        raise OSError("no Sentinel knows the server")

    async def _connect(self, host: str, port: int, *, tls: bool = True) -> Connection:
        context = ssl.create_default_context() if self._address.tls and tls else None
        _, made = await self._loop.create_connection(lambda: Connection(self._lost), host, port, ssl=context)
        return made

    async def _greet(self, connection: Connection) -> None:
        address = self._address
        if address.password:
            await connection.send("AUTH", *([address.user] if address.user else []), address.password)
        if address.database:
            await connection.send("SELECT", address.database)
        await connection.send("SCRIPT", "LOAD", SCRIPT)

    async def _beat(self) -> None:
        connection = self._connection
        if connection is None:
            raise GoneError("the connection is gone")
        async with asyncio.timeout(OPEN_S):
            reply = await connection.send("EVALSHA", SHA, 1, f"{TAG}:s", "beat", TAG, self.session, LEASE_MS)
        now_us, self.peers, _ = map(int, reply.split())
        self.heard(now_us * 1000)
        was_open = self.breaker.is_open
        self.breaker.close()
        if was_open:
            self._on_up()

    def _lost(self) -> None:
        if self._connection is not None and self._connection.lost:
            self._connection = None
            self.breaker.open()


def _fail(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


def _moved_to(reply: str) -> tuple[str, int] | None:
    """Where a Cluster's `MOVED 1234 host:port` points; None for any other reply."""
    words = reply.split()
    if len(words) != 3 or words[0] not in ("MOVED", "ASK"):
        return None
    host, _, port = words[2].rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdigit() else None


def _master_of(reply: Sequence[bytes] | None) -> tuple[str, int] | None:
    """What a Sentinel answers to `get-master-addr-by-name`."""
    return (reply[0].decode(), int(reply[1])) if reply else None
