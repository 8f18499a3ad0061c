"""The admin port: health, metrics, the fleet, reload and drain, over HTTP for operators and their programs.

`ROUTES` is the whole API. A request passes `access.refuse` for its route and then reaches the route's handler, which
asks the `Operator`: what runs the balancer. Everything but the metrics is JSON, errors in OpenAI's shape.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import orjson
from aiohttp import web

from gpubalancer.control.access import Access, Refusal, refuse
from gpubalancer.control.openapi import openapi
from gpubalancer.control.reload import Reload
from gpubalancer.domain.errors import RequestError
from gpubalancer.ledger.report import QueryError
from gpubalancer.ledger.store import StoreError

JSON = "application/json"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BODY_BYTES = 8 * 1024 * 1024
"""Longest body that is read: a request to explain. Its sender has passed `access` before."""
DECISIONS_SHOWN, DECISIONS_LIMIT = 100, 1000
"""How many decisions are told, unless `limit` asks for another number, and how many are kept."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the balancer serves.

    Attributes:
        workers: how many are alive.
        policy_hash: of the policy in force.
        reload: the last reload if it failed, else None.
    """

    state: Literal["starting", "serving", "draining"]
    workers: int
    policy_hash: str
    reload: Reload | None

    @property
    def ready(self) -> bool:
        """True if new requests are welcome. A bad policy file on disk does not change that."""
        return self.state == "serving" and self.workers > 0


class Operator(Protocol):
    """What the admin port asks of the balancer."""

    def readiness(self) -> Readiness:
        """Whether it serves."""

    def metrics(self) -> bytes:
        """The page for Prometheus, of type `METRICS_TYPE`."""

    def fleet(self) -> list[dict[str, Any]]:
        """All backends, as `fleet.describe_fleet` makes them."""

    def decisions(self, most: int) -> list[dict[str, Any]]:
        """What was decided of the last requests, the latest first."""

    async def explain(self, body: bytes) -> dict[str, Any]:
        """What would be decided of a request now, as `Explanation.to_json` has it.

        Arguments:
            body: what `explain.read_question` reads.

        Raises:
            RequestError: the question makes no sense, or the request would be refused before a backend is chosen.
        """

    async def usage(self, by: str, tenant: str | None, since: str | None) -> dict[str, Any]:
        """What was spent, as `ledger.report` shows it.

        Raises:
            QueryError: the question makes no sense.
            StoreError: the database can't be used now.
        """

    async def reload(self) -> Reload:
        """Read the policy file again."""

    def drain(self, name: str, draining: bool) -> bool:
        """Send a backend no new requests, or again; False if there is no such backend."""


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the API; `statuses` are its answers besides 200, those of `access` left out."""

    method: Literal["GET", "POST"]
    path: str
    access: Access
    handler: Callable[[Operator, web.Request], Awaitable[web.Response]]
    summary: str
    statuses: tuple[int, ...] = ()
    content_type: str = JSON


async def _live(_: Operator, __: web.Request) -> web.Response:
    return _answer({"live": True})


async def _ready(operator: Operator, _: web.Request) -> web.Response:
    now = operator.readiness()
    failed = f"failed: {now.reload.faults[0]}" if now.reload and now.reload.faults else None
    content = {
        "ready": now.ready,
        "state": now.state,
        "workers": now.workers,
        "policy": now.policy_hash,
        "reload": failed or "ok",
    }
    return _answer(content, 200 if now.ready else 503)


async def _metrics(operator: Operator, _: web.Request) -> web.Response:
    return web.Response(body=operator.metrics(), headers={"Content-Type": METRICS_TYPE})


async def _fleet(operator: Operator, _: web.Request) -> web.Response:
    return _answer({"backends": operator.fleet()})


async def _decisions(operator: Operator, request: web.Request) -> web.Response:
    asked = request.query.get("limit", str(DECISIONS_SHOWN))
    if not asked.isascii() or not asked.isdigit() or not 0 < int(asked[:5]) <= DECISIONS_LIMIT:
        refusal = Refusal(400, "invalid_request_error", "invalid_limit", f"limit: expected 1 to {DECISIONS_LIMIT}.")
        return _answer(_shape(refusal), 400)
    return _answer({"decisions": operator.decisions(int(asked[:5]))})


async def _usage(operator: Operator, request: web.Request) -> web.Response:
    asked = request.query
    try:
        return _answer(await operator.usage(asked.get("by", "tenant"), asked.get("tenant"), asked.get("since")))
    except QueryError as error:
        return _answer(_shape(Refusal(400, "invalid_request_error", "invalid_query", str(error))), 400)
    except StoreError as error:
        return _answer(_shape(Refusal(503, "api_error", "usage_unavailable", str(error))), 503)


async def _explain(operator: Operator, request: web.Request) -> web.Response:
    try:
        return _answer(await operator.explain(await request.read()))
    except web.HTTPRequestEntityTooLarge:
        error = RequestError("body_too_large", f"The body is larger than the {BODY_BYTES} bytes allowed here.")
    except RequestError as refused:
        error = refused
    refusal = Refusal(error.status, error.failure.type, error.code, error.message)
    return _answer(_shape(refusal, error.param), error.status)


async def _reload(operator: Operator, _: web.Request) -> web.Response:
    done = await operator.reload()
    content = {"result": done.result, "policy": done.hash, "changes": done.changes, "faults": done.faults}
    if done.ok:
        return _answer(content)
    error = Refusal(422, "invalid_request_error", "policy_refused", "\n".join(done.faults))
    return _answer(_shape(error) | content, 422)


async def _drain(operator: Operator, request: web.Request) -> web.Response:
    return _set_draining(operator, request.match_info["name"], draining=True)


async def _undrain(operator: Operator, request: web.Request) -> web.Response:
    return _set_draining(operator, request.match_info["name"], draining=False)


def _set_draining(operator: Operator, name: str, draining: bool) -> web.Response:
    if not operator.drain(name, draining):
        missing = Refusal(404, "invalid_request_error", "backend_not_found", f"No backend has the name {name!r}.")
        return _answer(_shape(missing), 404)
    return _answer({"name": name, "draining": draining})


async def _openapi(_: Operator, __: web.Request) -> web.Response:
    return _answer(openapi(ROUTES))


ROUTES: tuple[Route, ...] = (
    Route("GET", "/livez", "open", _live, "The supervisor runs."),
    Route("GET", "/readyz", "open", _ready, "New requests are welcome.", (503,)),
    Route("GET", "/metrics", "read", _metrics, "Metrics for Prometheus.", content_type="text/plain"),
    Route("GET", "/admin/v1/fleet", "read", _fleet, "All backends and their state."),
    Route("GET", "/admin/v1/decisions", "read", _decisions, "What was decided of the last requests.", (400,)),
    Route("GET", "/admin/v1/usage", "read", _usage, "What was spent, from the ledger.", (400, 503)),
    Route(
        "POST",
        "/admin/v1/explain",
        "write",
        _explain,
        "Where a request would go now, and why; nothing is sent.",
        (400, 403, 404, 405, 413),
    ),
    Route("GET", "/admin/v1/openapi.json", "read", _openapi, "This description."),
    Route("POST", "/admin/v1/reload", "write", _reload, "Read the policy file again.", (422,)),
    Route("POST", "/admin/v1/backends/{name}/drain", "write", _drain, "Send it no new requests.", (404,)),
    Route("POST", "/admin/v1/backends/{name}/undrain", "write", _undrain, "Send it requests again.", (404,)),
)


def build_app(operator: Operator, token: Callable[[], str | None]) -> web.Application:
    """The admin API as an aiohttp application.

    Arguments:
        operator: what runs the balancer.
        token: the admin token by now, None or empty if there is none; asked at each request, as a reload may change it.
    """
    app = web.Application(middlewares=[_errors_in_shape], client_max_size=BODY_BYTES)
    for route in ROUTES:
        add = app.router.add_get if route.method == "GET" else app.router.add_post
        add(route.path, _guarded(route, operator, token))
    return app


async def start(app: web.Application, host: str, port: int) -> web.AppRunner:
    """Listen. The runner's `addresses` tell where, and its `cleanup` ends it.

    Errors:
        OSError: the address cannot be had.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner


def _guarded(
    route: Route, operator: Operator, token: Callable[[], str | None]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        refusal = refuse(route.access, request.headers, token())
        if refusal is None:
            return await route.handler(operator, request)
        headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
        return _answer(_shape(refusal), refusal.status, headers)

    return handle


@web.middleware
async def _errors_in_shape(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        refusal = Refusal(405, "invalid_request_error", "method_not_allowed", f"This path takes {allowed}.")
        return _answer(_shape(refusal), 405, {"Allow": allowed})
    except web.HTTPNotFound:
        refusal = Refusal(404, "invalid_request_error", "unknown_path", "The admin API has no such path.")
        return _answer(_shape(refusal), 404)


def _shape(refusal: Refusal, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": refusal.message, "type": refusal.type, "code": refusal.code, "param": param}}


def _answer(content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    base = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=orjson.dumps(content), status=status, content_type=JSON, headers=base | (headers or {}))
