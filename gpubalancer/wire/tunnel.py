"""Two connections joined after a backend agreed to another protocol (WebSocket for realtime APIs).

Bytes pass both ways unread, each side holding the other back when it is slow; when one side goes, so does the other.
"""

import asyncio

from gpubalancer.wire.exchange import ClientConnection
from gpubalancer.wire.upstream import Upstream


class Tunnel:
    """A client and a backend that speak to one another through us."""

    def __init__(self, downstream: ClientConnection, upstream: Upstream) -> None:
        self.sent_bytes = 0
        self.received_bytes = 0
        self._downstream = downstream
        self._upstream = upstream
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Pass bytes until one side goes; cancelled when the client does."""
        early = self._downstream.become_tunnel(self._from_client)
        self._upstream.tunnel, self._upstream.tunnel_lost = self._from_backend, self._lost
        self._upstream.throttle(self._set_client_flow)
        if self._upstream.leftover:
            self._from_backend(self._upstream.leftover)
        if early:
            self._from_client(early)
        try:
            await self._over
        finally:
            self._upstream.abort()
            self._downstream.close()

    def pause_reading(self) -> None:
        """The client is slower than the backend."""
        self._upstream.pause_reading()

    def resume_reading(self) -> None:
        """The client has caught up."""
        self._upstream.resume_reading()

    def _set_client_flow(self, writable: bool) -> None:
        if writable:
            self._downstream.resume_reading()
        else:
            self._downstream.pause_reading()

    def _from_client(self, data: bytes) -> None:
        self.received_bytes += len(data)
        self._upstream.send_raw(data)

    def _from_backend(self, data: bytes) -> None:
        self.sent_bytes += len(data)
        self._downstream.write(data)

    def _lost(self) -> None:
        if not self._over.done():
            self._over.set_result(None)
