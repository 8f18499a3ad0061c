"""The GPU agent's interface of a simulated server: `/v1/gpus` and `/v1/events` (docs/agent.md), over a `SimulatedGpu`.

A class without a GPU answers an empty list and why. Snapshots go out each `INTERVAL_S`, alarms the moment that a
throttle or an XID happens.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from gpubalancer.sim.calls import Settings
from gpubalancer.sim.engine import Engine
from gpubalancer.sim.gpus import CARDS, THROTTLED, SimulatedGpu

INTERVAL_S = 1.0
DRIVER = "580.65.06"
"""The driver whose answers these are like."""
PATHS = frozenset(("/v1/gpus", "/v1/events"))


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens to the card, in wall-clock seconds after the start.

    Attributes:
        throttles: when, and at which fraction of its speed the server then really runs; 1 ends a throttle.
        xids: when, and which.
    """

    throttles: tuple[tuple[float, float], ...] = ()
    xids: tuple[tuple[float, int], ...] = ()


class SimulatedAgent:
    """What the card says, and to whom.

    Arguments:
        settings: the server's.
        engine: its engine.
        steady: a steady clock in seconds.
        clock: wall-clock seconds since 1970.
    """

    def __init__(
        self, settings: Settings, engine: Engine, steady: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        card = CARDS.get(settings.hardware.name)
        identity = f"{settings.name} {settings.seed}"
        self.gpu = SimulatedGpu(card, engine, identity, settings.speedup, steady()) if card else None
        self._settings = settings
        self._engine = engine
        self._steady = steady
        self._clock = clock
        self._listeners: set[asyncio.Queue[bytes | None]] = set()

    def routes(self) -> list[web.RouteDef]:
        """Its paths."""
        return [web.get("/v1/gpus", self._gpus), web.get("/v1/events", self._events)]

    def plan(self, trouble: Trouble, loop: asyncio.AbstractEventLoop) -> None:
        """Have all this happen in its time."""
        for after_s, fraction in trouble.throttles:
            loop.call_later(after_s, self.throttle, fraction)
        for after_s, xid in trouble.xids:
            loop.call_later(after_s, self.fail, xid)

    def throttle(self, fraction: float) -> None:
        """Slow the engine down, and say so; a class without a GPU only slows down."""
        self._engine.speed_fraction = fraction
        if self.gpu is None:
            return
        was_throttled = self.gpu.is_throttled
        self.gpu.throttle(fraction, self._steady())
        if was_throttled or self.gpu.is_throttled:
            self._alarm("throttle" if self.gpu.is_throttled else "released", THROTTLED)

    def fail(self, xid: int) -> None:
        """Tell an XID."""
        if self.gpu is None:
            return
        was_lost = self.gpu.lost
        self.gpu.fail(xid, self._clock())
        self._alarm("xid", str(xid))
        if self.gpu.lost and not was_lost:
            self._alarm("lost", self.gpu.name)

    async def hang_up(self, app: web.Application) -> None:
        """End every stream, so that the server can end."""
        for queue in self._listeners:
            queue.put_nowait(None)

    def snapshot(self) -> dict[str, Any]:
        """The state now, as the agent's JSON has it."""
        gpus = [self.gpu.record(self._steady())] if self.gpu else []
        return {
            "at_s": self._clock(),
            "host": self._settings.name,
            "driver": DRIVER if gpus else None,
            "age_s": 0.0,
            "problem": None if gpus else f"no NVIDIA driver: a simulated {self._settings.hardware.name} has no GPU",
            "gpus": gpus,
        }

    def _alarm(self, kind: str, detail: str) -> None:
        uuid = self.gpu.uuid if self.gpu else ""
        alarm = {"kind": kind, "uuid": uuid, "detail": detail, "at_s": self._clock()}
        event = _event("alarm", {"alarms": [alarm], "snapshot": self.snapshot()})
        for queue in self._listeners:
            queue.put_nowait(event)

    async def _gpus(self, request: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(self.snapshot()), content_type="application/json")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            await response.prepare(request)
            event: bytes | None = _event("gpus", self.snapshot())
            while event is not None:
                await response.write(event)
                try:
                    event = await asyncio.wait_for(queue.get(), INTERVAL_S)
                except TimeoutError:
                    event = _event("gpus", self.snapshot())
        except ConnectionResetError:
            pass  # the listener left
        finally:
            self._listeners.discard(queue)
        return response


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


@asynccontextmanager
async def serving(agent: SimulatedAgent, host: str, port: int) -> AsyncIterator[str]:
    """The agent on a port of its own while the context lasts; gives its address. Port 0 takes any free one."""
    app = web.Application()
    app.add_routes(agent.routes())
    app.on_shutdown.append(agent.hang_up)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=2.0)
    try:
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
