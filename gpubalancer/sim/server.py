"""The HTTP side of one simulated engine: vLLM's paths, statuses and streams, on aiohttp.

Every generating call goes the same way: check the key, check the body, plan the answers, queue them in the engine, and
wrap what comes out in the API's shape, as a stream or whole. A client that leaves cancels its handler (aiohttp's
`handler_cancellation`), and the handler cancels its requests in the engine.
"""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from gpubalancer.sim.agent import PATHS as AGENT_PATHS
from gpubalancer.sim.agent import SimulatedAgent, Trouble
from gpubalancer.sim.answering import stream_answer, whole_answer
from gpubalancer.sim.anthropic_shapes import MessagesShape
from gpubalancer.sim.bodies import (
    Ask,
    Asking,
    ChatBody,
    CompletionBody,
    EmbeddingsBody,
    MessagesBody,
    RerankBody,
    ResponsesBody,
    TokenizeBody,
)
from gpubalancer.sim.calls import Call, Settings, plan_call
from gpubalancer.sim.driver import Driver, Inbox, Pace
from gpubalancer.sim.errors import ApiError, unknown_model
from gpubalancer.sim.metrics import CONTENT_TYPE, EngineMetrics
from gpubalancer.sim.openai_shapes import ChatShape, CompletionShape
from gpubalancer.sim.responses_shapes import ResponsesShape
from gpubalancer.sim.shapes import Envelope, Json, Shape
from gpubalancer.sim.vectors import embeddings, ranking

VERSION = "0.32.0"
"""The vLLM release whose shapes and metrics these are."""

BODY_BYTES = 64 * 1024 * 1024
"""Longest body read; aiohttp answers 413 beyond it."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Body = TypeVar("Body", bound=BaseModel)
ShapeMaker = Callable[[Envelope], Shape]


class EngineServer:
    """One simulated server: engine, driver, metrics and handlers. Made inside a running loop, it drives at once.

    Arguments:
        settings: what it simulates.
        pace: how engine time passes.
        clock: wall-clock seconds since 1970, for `created`.
    """

    def __init__(self, settings: Settings, pace: Pace, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.engine = settings.engine()
        self.metrics = EngineMetrics(self.engine, settings.models[0], settings.longest_tokens, 1 / settings.speedup)
        self.driver = Driver(self.engine, self.metrics, pace)
        self.agent = SimulatedAgent(settings, self.engine, asyncio.get_running_loop().time, clock)
        self.url = ""
        self.driving = asyncio.create_task(self.driver.run())
        self._clock = clock
        self._dice = random.Random(settings.seed)  # noqa: S311 - faults to order, not secrets
        self._numbers = itertools.count(1)

    def app(self) -> web.Application:
        """The paths of this server."""
        app = web.Application(middlewares=[self._guard], client_max_size=BODY_BYTES)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._generating(ChatBody, ChatShape)),
                web.post("/v1/completions", self._generating(CompletionBody, CompletionShape)),
                web.post("/v1/messages", self._generating(MessagesBody, MessagesShape)),
                web.post("/v1/messages/count_tokens", self._count_tokens),
                web.post("/v1/responses", self._generating(ResponsesBody, ResponsesShape)),
                web.post("/v1/embeddings", self._embeddings),
                web.post("/v1/rerank", self._rerank),
                web.post("/rerank", self._rerank),
                web.get("/v1/models", self._models),
                web.post("/tokenize", self._tokenize),
                web.get("/health", self._alive),
                web.get("/ping", self._alive),
            ]
        )
        visible = self.settings.hardware.visible if self.settings.visible is None else self.settings.visible
        if visible:
            app.add_routes([web.get("/metrics", self._metrics_page), web.get("/version", self._version)])
        if self.settings.hardware.visible:
            app.add_routes(self.agent.routes())
        app.on_shutdown.append(self._abort_all)
        app.on_shutdown.append(self.agent.hang_up)
        return app

    async def _abort_all(self, app: web.Application) -> None:
        self.driver.abort_all()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Check the key and write errors in the API's shape."""
        if not self._may_enter(request):
            return _json({"error": "Unauthorized"}, 401)
        try:
            return await handler(request)
        except ApiError as error:
            anthropic = request.path.startswith("/v1/messages")
            return _json(error.anthropic() if anthropic else error.openai(), error.status)
        except web.HTTPException as error:
            return _json({"detail": error.reason}, error.status)

    def _may_enter(self, request: web.Request) -> bool:
        key = self.settings.api_key
        if key is None or not request.path.startswith("/v1") or request.path in AGENT_PATHS:
            return True
        given = {request.headers.get("authorization")}
        if request.path.startswith("/v1/messages"):
            given.add(f"Bearer {request.headers.get('x-api-key')}")
        return f"Bearer {key}" in given

    def _generating(self, body_type: type[Asking], shape: ShapeMaker) -> Handler:
        """A handler that generates text from `body_type` and answers in `shape`."""

        async def generate(request: web.Request) -> web.StreamResponse:
            ask = (await _read(request, body_type)).ask()
            call = plan_call(ask, self.settings)
            envelope = Envelope(self._number(request), self._now(), ask.model, len(call.requests), ask.include_usage)
            answer = shape(envelope)
            await self._travel()
            with self._queued(call) as inbox:
                if ask.stream:
                    return await stream_answer(request, call, answer, inbox, self.settings.fail_after_tokens)
                return _json(await whole_answer(call, answer, inbox))

        return generate

    def _number(self, request: web.Request) -> str:
        """What makes an answer's id unique: the caller's `x-request-id`, else our name and a count."""
        return request.headers.get("x-request-id") or f"{self.settings.name}-{next(self._numbers):x}"

    def _now(self) -> int:
        return int(self._clock())

    async def _travel(self) -> None:
        """The network in front of the machine, and the failures to order."""
        if self.settings.hardware.network_s:
            await asyncio.sleep(self.settings.hardware.network_s / self.settings.speedup)
        if self.settings.error_fraction and self._dice.random() < self.settings.error_fraction:
            raise ApiError(500, "Internal server error")

    @contextmanager
    def _queued(self, call: Call) -> Iterator[Inbox]:
        """The call's requests in the engine; whatever of them is left at the end is cancelled."""
        limit = self.settings.queue_limit
        self.metrics.asked(call.ask.n, call.ask.limit_tokens)
        if limit is not None and self.engine.load + len(call.requests) > self.engine.slots + limit:
            self.metrics.rejected()
            raise ApiError(503, f"The server is overloaded: {limit} requests are waiting already.")
        inbox = Inbox(self.settings.stream_interval)
        self.driver.submit(call.requests, inbox)
        try:
            yield inbox
        finally:
            self.driver.cancel(call.requests)

    async def _embeddings(self, request: web.Request) -> web.Response:
        body = await _read(request, EmbeddingsBody)
        call = await self._compute(body.ask())
        return _json(embeddings(body, self._number(request), self._now(), call.usage()))

    async def _rerank(self, request: web.Request) -> web.Response:
        body = await _read(request, RerankBody)
        call = await self._compute(body.ask())
        return _json(ranking(body, self._number(request), call.usage()))

    async def _compute(self, ask: Ask) -> Call:
        """Let the engine read prompts that get no output."""
        call = plan_call(ask, self.settings)
        await self._travel()
        with self._queued(call) as inbox:
            unread = len(call.requests)
            while unread:
                unread -= len(await inbox.take())
        return call

    async def _count_tokens(self, request: web.Request) -> web.Response:
        body = await _read(request, MessagesBody)
        if body.model not in self.settings.models:
            raise unknown_model(body.model)
        return _json({"input_tokens": len(body.tokens)})

    async def _tokenize(self, request: web.Request) -> web.Response:
        tokens = (await _read(request, TokenizeBody)).tokens
        return _json({"count": len(tokens), "max_model_len": self.settings.longest_tokens, "tokens": tokens})

    async def _models(self, request: web.Request) -> web.Response:
        card = {"object": "model", "created": self._now(), "owned_by": "vllm", "parent": None}
        length = {"max_model_len": self.settings.longest_tokens}
        cards = [card | length | {"id": name, "root": self.settings.models[0]} for name in self.settings.models]
        return _json({"object": "list", "data": cards})

    async def _alive(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, request: web.Request) -> web.Response:
        return _json({"version": VERSION})

    async def _metrics_page(self, request: web.Request) -> web.Response:
        return web.Response(body=self.metrics.page(), headers={"content-type": CONTENT_TYPE})


async def _read(request: web.Request, body_type: type[Body]) -> Body:
    """The checked body. Raises: ApiError 400 with pydantic's findings."""
    try:
        return body_type.model_validate_json(await request.read())
    except ValidationError as error:
        findings = error.errors(include_url=False, include_context=False, include_input=False)
        raise ApiError(400, str(findings)) from error


def _json(body: Json, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


@asynccontextmanager
async def running(
    settings: Settings, host: str = "127.0.0.1", port: int = 0, trouble: Trouble | None = None
) -> AsyncIterator[EngineServer]:
    """A server that listens while the context lasts; port 0 takes any free one, told by `url`.

    At the end every request is aborted and answered as vLLM does it: `finish_reason: "abort"`, then the end mark.
    """
    server = EngineServer(settings, Pace(asyncio.get_running_loop(), settings.speedup))
    runner = web.AppRunner(server.app(), handler_cancellation=True, access_log=None, shutdown_timeout=2.0)
    try:
        await runner.setup()
        await web.TCPSite(runner, host, port, backlog=1024).start()
        server.url = f"http://{host}:{runner.addresses[0][1]}"
        server.agent.plan(trouble or Trouble(), asyncio.get_running_loop())
        yield server
    finally:
        await runner.cleanup()
        server.driving.cancel()
        with suppress(asyncio.CancelledError):
            await server.driving
