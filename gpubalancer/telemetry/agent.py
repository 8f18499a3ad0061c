"""The agent's HTTP side: what `HostWatch` knows, as JSON, as an event stream and as Prometheus text.

    GET /v1/gpus      a snapshot
    GET /v1/events    server-sent events: `gpus` (a snapshot) now and each interval, `alarm` the moment it is known
    GET /metrics      Prometheus text
    GET /livez        200 while the process serves, whatever the driver does

A listener has a short queue. Who reads so slowly that it fills is disconnected and may come again: it then gets the
newest snapshot first, and has missed nothing that still matters.
"""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from gpubalancer.telemetry.gpu_page import CONTENT_TYPE, page
from gpubalancer.telemetry.gpus import Alarm, Snapshot, alarm_json
from gpubalancer.telemetry.host_watch import HostWatch

LISTENERS_LIMIT = 64
QUEUE_EVENTS = 256
SHUTDOWN_S = 2.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_END = b""


class Agent:
    """Handlers over one host's watch.

    Arguments:
        watch: entered already.
        interval_s: between two `gpus` events.
        token: bearer token that everything but `/livez` demands; None for none.
    """

    def __init__(self, watch: HostWatch, interval_s: float, token: str | None = None) -> None:
        self._watch = watch
        self._interval_s = interval_s
        self._token = token
        self._queues: set[asyncio.Queue[bytes]] = set()
        watch.listen(self._alarm)

    def app(self) -> web.Application:
        """The paths."""
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/v1/gpus", self._gpus),
                web.get("/v1/events", self._events),
                web.get("/metrics", self._metrics),
                web.get("/livez", self._livez),
            ]
        )
        app.cleanup_ctx.append(self._ticking)
        app.on_shutdown.append(self._hang_up)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode()
        if self._token is not None and request.path != "/livez":
            wanted = f"Bearer {self._token}".encode()
            if not hmac.compare_digest(given, wanted):
                return web.Response(status=401, text="a bearer token is needed\n")
        return await handler(request)

    async def _gpus(self, request: web.Request) -> web.Response:
        return web.Response(body=self._watch.snapshot().json(), content_type="application/json")

    async def _metrics(self, request: web.Request) -> web.Response:
        body = page(self._watch.snapshot(), self._watch.cost)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _livez(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if len(self._queues) >= LISTENERS_LIMIT:
            return web.Response(status=503, text="too many listeners\n")
        queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_EVENTS)
        queue.put_nowait(_event("gpus", self._watch.snapshot().json()))
        self._queues.add(queue)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        try:
            await response.prepare(request)
            while (event := await queue.get()) != _END:
                await response.write(event)
        except ConnectionResetError:
            pass  # the listener left
        finally:
            self._queues.discard(queue)
        return response

    def _alarm(self, alarms: Sequence[Alarm], snapshot: Snapshot) -> None:
        self._send(_event("alarm", alarm_json(alarms, snapshot)))

    def _send(self, event: bytes) -> None:
        """Queue an event for every listener; one whose queue is full is disconnected after what it has."""
        for queue in list(self._queues):
            if queue.full():
                self._queues.discard(queue)
                queue.get_nowait()
                queue.put_nowait(_END)
            else:
                queue.put_nowait(event)

    async def _ticking(self, app: web.Application) -> AsyncIterator[None]:
        """Send a snapshot each interval while the server runs."""

        async def tick() -> None:
            while True:
                await asyncio.sleep(self._interval_s)
                if self._queues:
                    self._send(_event("gpus", self._watch.snapshot().json()))

        task = asyncio.create_task(tick())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def _hang_up(self, app: web.Application) -> None:
        """End every stream, so that the server can end."""
        for queue in list(self._queues):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(_END)


def _event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


@asynccontextmanager
async def serving(agent: Agent, host: str, port: int) -> AsyncIterator[str]:
    """Serve until the end of the block; gives the address. Raises: OSError where that can't be listened on."""
    runner = web.AppRunner(agent.app(), handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_S)
    try:
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        bound = runner.addresses[0]
        name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        yield f"http://{name}:{bound[1]}"
    finally:
        await runner.cleanup()
