"""Connections to one backend, kept for the next request.

A connection is taken, used for one exchange and given back. The one used last is taken first, so that those not needed
grow old and close. A lease on the backend is held by whoever takes one, so there are never more than the backend has
slots.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from gpubalancer.wire.forward import Origin
from gpubalancer.wire.sweep import Sweeper
from gpubalancer.wire.upstream import Upstream
from gpubalancer.wire.upstream_error import UpstreamError

IDLE_S = 60.0
"""How long an unused connection is kept. Engines close theirs sooner (uvicorn after 5 s); that is seen and handled."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a backend is and how it is spoken to."""

    host: str
    port: int
    origin: Origin
    tls: ssl.SSLContext | None
    server_name: str | None
    connect_s: float
    admits: Callable[[str], bool]
    """Whether an address may stand behind this backend's name: its clearance is checked where it really is."""


class Pool:
    """All connections of one worker to one backend."""

    def __init__(self, endpoint: Endpoint, clock: Callable[[], float], sweeper: Sweeper) -> None:
        self.endpoint = endpoint
        self._clock = clock
        self._sweeper = sweeper
        self._idle: list[Upstream] = []
        self._open: set[Upstream] = set()
        self._closing = False

    def __repr__(self) -> str:
        return f"<Pool {self.endpoint.origin.authority.decode()}: {len(self._open)} open, {len(self._idle)} idle>"

    def take_nowait(self) -> Upstream | None:
        """An idle connection, if there is one."""
        while self._idle:
            upstream = self._idle.pop()
            if upstream.reusable:
                return upstream
        return None

    async def connect(self) -> Upstream:
        """A new connection.

        Raises:
            UpstreamError: phase `connect`; nothing was sent, so another backend may be tried.
        """
        # A task of its own, because a time-out needs one.
        connecting = asyncio.ensure_future(self._connect())
        try:
            return await connecting
        except asyncio.CancelledError:
            connecting.add_done_callback(_abandon)
            connecting.cancel()
            raise

    async def _connect(self) -> Upstream:
        endpoint, loop = self.endpoint, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(endpoint.connect_s):
                transport, upstream = await loop.create_connection(
                    lambda: Upstream(self._clock, self._sweeper, self._forget),
                    endpoint.host,
                    endpoint.port,
                    ssl=endpoint.tls,
                    server_hostname=endpoint.server_name if endpoint.tls else None,
                )
        except TimeoutError:
            raise UpstreamError("connecting took too long", "connect", timed_out=True) from None
        except (OSError, ssl.SSLError) as error:
            raise UpstreamError(f"connecting failed: {error}", "connect") from error
        self._open.add(upstream)
        address = transport.get_extra_info("peername")[0]
        if not endpoint.admits(address):
            upstream.abort()
            raise UpstreamError(f"{address} is outside the networks of the backend's clearance", "connect")
        return upstream

    def give_back(self, upstream: Upstream) -> None:
        """Keep a connection for the next request if it can serve one, else close it."""
        if upstream.reusable and not self._closing:
            upstream.rest(self._clock() + IDLE_S)
            self._idle.append(upstream)
        else:
            upstream.abort()

    def close(self) -> None:
        """Close what is idle now, and the rest when it is given back."""
        self._closing = True
        for upstream in self._idle:
            upstream.abort()
        self._idle.clear()

    def _forget(self, upstream: Upstream) -> None:
        self._open.discard(upstream)
        if upstream in self._idle:
            self._idle.remove(upstream)


def _abandon(connecting: asyncio.Task[Upstream]) -> None:
    """Close a connection that nobody waits for any more."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().abort()
