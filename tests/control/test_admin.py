"""The admin port over real sockets."""

import asyncio
import io
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson
import pytest

from gpubalancer.control.admin import BODY_BYTES, METRICS_TYPE, ROUTES, Readiness, Route, build_app, start
from gpubalancer.control.reload import Reload
from gpubalancer.domain.errors import RequestError
from gpubalancer.ledger.report import QueryError
from gpubalancer.ledger.store import StoreError
from gpubalancer.telemetry.metrics import CONTENT_TYPE

TOKEN = "open sesame"
REFUSED = Reload("failed", "abc", faults=("policy.yaml:3: listen.port: found 0.5, expected a port", "another"))


class Balancer:
    """An operator with one backend, `a:1`, that remembers what it was asked."""

    def __init__(self) -> None:
        self.now = Readiness("serving", workers=2, policy_hash="abc", reload=None)
        self.done = Reload("applied", "def", changes=("backends[1]: added",))
        self.drained: list[tuple[str, bool]] = []
        self.reloads = 0

    def readiness(self) -> Readiness:
        return self.now

    def metrics(self) -> bytes:
        return b"gpubalancer_workers 2.0\n"

    def fleet(self) -> list[dict[str, Any]]:
        return [{"name": "a:1", "up": True}]

    def decisions(self, most: int) -> list[dict[str, Any]]:
        return [{"request_id": f"r{number}"} for number in range(5)][:most]

    async def explain(self, body: bytes) -> dict[str, Any]:
        if body == b"{}":
            raise RequestError("malformed_request", "A body is missing.", param="body")
        return {"choice": "a:1", "asked": body.decode()}

    async def usage(self, by: str, tenant: str | None, since: str | None) -> dict[str, Any]:
        if by == "wine":
            raise QueryError("wine: expected some of day")
        if by == "nothing":
            raise StoreError("the ledger's server: OSError")
        return {"rows": [], "total": {"asked": [by, tenant, since]}}

    async def reload(self) -> Reload:
        self.reloads += 1
        return self.done

    def drain(self, name: str, draining: bool) -> bool:
        self.drained.append((name, draining))
        return name == "a:1"


class Caller:
    """A client of one admin port."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def __call__(self, method: str, path: str, **more: Any) -> tuple[int, Any, aiohttp.ClientResponse]:
        """Status, JSON content (or text) and the response."""
        async with self.session.request(method, self.url + path, **more) as response:
            body = await response.read()
            content = orjson.loads(body) if response.content_type == "application/json" and body else body.decode()
            return response.status, content, response


def with_admin(
    act: Callable[[Caller], Awaitable[None]], balancer: Balancer | None = None, token: str | None = None
) -> None:
    """Run a coroutine against a listening admin port."""

    async def main() -> None:
        runner = await start(build_app(balancer or Balancer(), lambda: token), "127.0.0.1", 0)
        host, port = runner.addresses[0][:2]
        try:
            async with aiohttp.ClientSession() as session, asyncio.timeout(20):
                await act(Caller(session, f"http://{host}:{port}"))
        finally:
            await runner.cleanup()

    asyncio.run(main())


SITUATIONS: dict[str, tuple[str | None, dict[str, str], dict[str, int]]] = {
    # name: (token that the port has, headers of the request, refusal by access; 0 is none)
    "local without a token": (None, {}, {"open": 0, "read": 0, "write": 0}),
    "a name rebound to loopback": (None, {"Host": "evil.example"}, {"open": 0, "read": 403, "write": 403}),
    "no token where one is wanted": (TOKEN, {}, {"open": 0, "read": 401, "write": 401}),
    "a wrong token": (TOKEN, {"Authorization": "Bearer x"}, {"open": 0, "read": 401, "write": 401}),
    "the right token": (TOKEN, {"Authorization": f"Bearer {TOKEN}"}, {"open": 0, "read": 0, "write": 0}),
    "the right token under any name": (
        TOKEN,
        {"Authorization": f"Bearer {TOKEN}", "Host": "admin.example"},
        {"open": 0, "read": 0, "write": 0},
    ),
    "a form of another page": (
        None,
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"open": 0, "read": 0, "write": 415},
    ),
    "an empty request of another page": (
        None,
        {"Origin": "https://evil.example"},
        {"open": 0, "read": 0, "write": 403},
    ),
}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_route_keeps_its_access(route: Route, situation: str) -> None:
    """Each row of the table, in each situation, is answered or refused as its access says; refused means not done."""
    token, headers, refusals = SITUATIONS[situation]
    balancer = Balancer()

    async def act(call: Caller) -> None:
        status, content, response = await call(route.method, route.path.replace("{name}", "a:1"), headers=headers)
        refused = refusals[route.access]
        assert status == (refused or 200)
        assert response.headers.get("WWW-Authenticate") == ("Bearer" if refused == 401 else None)
        if refused:
            assert set(content["error"]) == {"message", "type", "code", "param"}
            assert (balancer.reloads, balancer.drained) == (0, [])

    with_admin(act, balancer, token)


@pytest.mark.parametrize(
    ("state", "workers", "status"),
    [("serving", 1, 200), ("serving", 0, 503), ("starting", 2, 503), ("draining", 2, 503)],
)
def test_readiness_is_serving_with_a_worker(state: Any, workers: int, status: int) -> None:
    """Only a serving balancer with a living worker is ready; liveness does not care."""
    balancer = Balancer()
    balancer.now = Readiness(state, workers, "abc", None)

    async def act(call: Caller) -> None:
        got, content, _ = await call("GET", "/readyz")
        assert got == status
        expected = {"ready": status == 200, "state": state, "workers": workers, "policy": "abc", "reload": "ok"}
        assert content == expected
        assert (await call("GET", "/livez"))[:2] == (200, {"live": True})

    with_admin(act, balancer)


def test_a_bad_file_is_told_and_changes_no_readiness() -> None:
    """After a failed reload `/readyz` is 200 and says what failed first."""
    balancer = Balancer()
    balancer.now = Readiness("serving", 2, "abc", REFUSED)

    async def act(call: Caller) -> None:
        status, content, _ = await call("GET", "/readyz")
        assert status == 200
        assert content["reload"] == "failed: policy.yaml:3: listen.port: found 0.5, expected a port"

    with_admin(act, balancer)


def test_metrics_have_prometheus_type() -> None:
    """The page is the operator's, with the type that the renderer names."""

    async def act(call: Caller) -> None:
        status, content, response = await call("GET", "/metrics")
        assert (status, content) == (200, "gpubalancer_workers 2.0\n")
        assert response.headers["Content-Type"] == METRICS_TYPE == CONTENT_TYPE

    with_admin(act)


def test_the_fleet_is_listed() -> None:
    """`/admin/v1/fleet` gives the operator's list, never cached."""

    async def act(call: Caller) -> None:
        status, content, response = await call("GET", "/admin/v1/fleet")
        assert (status, content) == (200, {"backends": [{"name": "a:1", "up": True}]})
        assert response.headers["Cache-Control"] == "no-store"

    with_admin(act)


def test_a_reload_tells_its_changes_or_its_faults() -> None:
    """200 with what changed, or 422 with every fault, once in the error's message and once as a list."""
    balancer = Balancer()

    async def act(call: Caller) -> None:
        status, content, _ = await call("POST", "/admin/v1/reload")
        assert status == 200
        assert content == {"result": "applied", "policy": "def", "changes": ["backends[1]: added"], "faults": []}
        balancer.done = REFUSED
        status, content, _ = await call("POST", "/admin/v1/reload", json={})
        assert status == 422
        assert content["faults"] == list(REFUSED.faults)
        assert content["error"]["code"] == "policy_refused"
        assert content["error"]["message"] == "\n".join(REFUSED.faults)

    with_admin(act, balancer)


def test_drain_and_undrain_name_a_backend() -> None:
    """A backend is drained and taken back by its name, escaped or not; an unknown one is 404."""
    balancer = Balancer()

    async def act(call: Caller) -> None:
        status, content, _ = await call("POST", "/admin/v1/backends/a%3A1/drain")
        assert (status, content) == (200, {"name": "a:1", "draining": True})
        status, content, _ = await call("POST", "/admin/v1/backends/a:1/undrain")
        assert (status, content) == (200, {"name": "a:1", "draining": False})
        status, content, _ = await call("POST", "/admin/v1/backends/none/drain")
        assert (status, content["error"]["code"]) == (404, "backend_not_found")
        assert balancer.drained == [("a:1", True), ("a:1", False), ("none", True)]

    with_admin(act, balancer)


def test_unknown_paths_and_methods_have_the_errors_shape() -> None:
    """404 and 405 are JSON, and 405 says what is allowed."""

    async def act(call: Caller) -> None:
        status, content, _ = await call("GET", "/nothing")
        assert (status, content["error"]["code"]) == (404, "unknown_path")
        status, content, response = await call("GET", "/admin/v1/reload")
        assert (status, content["error"]["code"]) == (405, "method_not_allowed")
        assert response.headers["Allow"] == "POST"
        assert (await call("HEAD", "/livez"))[0] == 200

    with_admin(act)


def test_the_description_is_served() -> None:
    """`/admin/v1/openapi.json` is the document of the table."""

    async def act(call: Caller) -> None:
        status, content, _ = await call("GET", "/admin/v1/openapi.json")
        assert status == 200
        assert set(content["paths"]) == {route.path for route in ROUTES}

    with_admin(act)


def test_a_token_that_a_reload_changed_is_wanted_at_once() -> None:
    """The token is asked for at each request."""
    tokens = ["old"]

    async def main() -> None:
        runner = await start(build_app(Balancer(), lambda: tokens[0]), "127.0.0.1", 0)
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer old"}) as session:
            call = Caller(session, f"http://{host}:{port}")
            assert (await call("GET", "/metrics"))[0] == 200
            tokens[0] = "new"
            assert (await call("GET", "/metrics"))[0] == 401
        await runner.cleanup()

    asyncio.run(main())


def test_a_port_in_use_is_the_systems_error() -> None:
    """`start` lets the caller say it in a sentence of its own, and leaves nothing open."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="address already in use"):
            await start(build_app(Balancer(), lambda: None), "127.0.0.1", taken.getsockname()[1])

    asyncio.run(main())


@pytest.mark.parametrize(("query", "count"), [("", 5), ("?limit=2", 2), ("?limit=1000", 5)])
def test_the_last_decisions_are_told(query: str, count: int) -> None:
    """As many as asked for, if there are as many."""

    async def act(call: Caller) -> None:
        status, content, _ = await call("GET", f"/admin/v1/decisions{query}")
        assert status == 200
        assert [row["request_id"] for row in content["decisions"]] == [f"r{number}" for number in range(count)]

    with_admin(act)


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "1e2", "99999999999", ""])
def test_a_limit_that_makes_no_sense_is_refused(limit: str) -> None:
    """With what was expected."""

    async def act(call: Caller) -> None:
        status, content, _ = await call("GET", f"/admin/v1/decisions?limit={limit}")
        assert (status, content["error"]["code"]) == (400, "invalid_limit")

    with_admin(act)


def test_a_request_is_explained() -> None:
    """The body goes to the operator whole, and its answer comes back as JSON."""
    body = '{"body": {"messages": "%s"}}' % ("x" * 200_000)

    async def act(call: Caller) -> None:
        status, content, _ = await call("POST", "/admin/v1/explain", data=body.encode())
        assert (status, content) == (200, {"choice": "a:1", "asked": body})

    with_admin(act)


def test_a_question_that_makes_no_sense_is_refused_in_the_errors_shape() -> None:
    """With the status and the field of the error; a body that is too long is refused without the operator."""

    async def act(call: Caller) -> None:
        status, content, _ = await call("POST", "/admin/v1/explain", json={})
        assert (status, content["error"]) == (
            400,
            {
                "message": "A body is missing.",
                "type": "invalid_request_error",
                "code": "malformed_request",
                "param": "body",
            },
        )
        status, content, _ = await call("POST", "/admin/v1/explain", data=io.BytesIO(b" " * (BODY_BYTES + 1)))
        assert (status, content["error"]["code"]) == (413, "body_too_large")

    with_admin(act)


@pytest.mark.parametrize(
    ("query", "asked"),
    [("", ["tenant", None, None]), ("?by=model,day&tenant=acme&since=7d", ["model,day", "acme", "7d"])],
)
def test_usage_is_asked_as_on_the_command_line(query: str, asked: list[str | None]) -> None:
    """By tenant where nothing is said."""

    async def act(call: Caller) -> None:
        status, content, _ = await call("GET", f"/admin/v1/usage{query}")
        assert (status, content["total"]["asked"]) == (200, asked)

    with_admin(act)


@pytest.mark.parametrize(
    ("by", "status", "code"), [("wine", 400, "invalid_query"), ("nothing", 503, "usage_unavailable")]
)
def test_usage_that_can_not_be_told_is_refused(by: str, status: int, code: str) -> None:
    """For a question that makes no sense, and while the database can't be used."""

    async def act(call: Caller) -> None:
        found, content, _ = await call("GET", f"/admin/v1/usage?by={by}")
        assert (found, content["error"]["code"]) == (status, code)

    with_admin(act)
