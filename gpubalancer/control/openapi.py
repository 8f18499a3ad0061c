"""The admin API's description for programs, written from the table of routes."""

from collections.abc import Iterable
from typing import Any, Protocol

from gpubalancer.control.access import Access

_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "A backend's name.",
}
_LIMIT = {
    "name": "limit",
    "in": "query",
    "required": False,
    "schema": {"type": "integer", "minimum": 1, "maximum": 1000},
    "description": "How many at most.",
}
_USAGE = [
    {"name": name, "in": "query", "required": False, "schema": {"type": "string"}, "description": meaning}
    for name, meaning in (
        ("by", "Some of day, tenant, key, model, backend, tier, with commas between; tenant if not given."),
        ("tenant", "This tenant's only."),
        ("since", "From this day on, in UTC: 2026-11-01, 7d, today or month."),
    )
]
_QUESTION = {
    "type": "object",
    "required": ["body"],
    "additionalProperties": False,
    "properties": {
        "tenant": {"type": ["string", "null"], "description": "By name; null for who pays without a key."},
        "path": {"type": "string", "default": "/v1/chat/completions"},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        "body": {"description": "The request's JSON."},
    },
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code", "param"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "code": {"type": "string"},
                "param": {"type": ["string", "null"]},
            },
        }
    },
}


class Described(Protocol):
    """What a route tells of itself."""

    @property
    def method(self) -> str:
        """GET or POST."""

    @property
    def path(self) -> str:
        """With `{name}` where a backend's name stands."""

    @property
    def access(self) -> Access:
        """Who may call it."""

    @property
    def summary(self) -> str:
        """One sentence."""

    @property
    def content_type(self) -> str:
        """Of the answer when all is well."""

    @property
    def statuses(self) -> tuple[int, ...]:
        """Answers besides 200 that the route itself gives."""


def openapi(routes: Iterable[Described]) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "gpubalancer admin API", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Described) -> dict[str, Any]:
    failures = sorted({*route.statuses, *({"open": (), "read": (401, 403), "write": (401, 403, 415)}[route.access])})
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    plain = {"application/json": {"schema": {"type": "object"}}}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "security": [] if route.access == "open" else [{"token": []}, {}],
        "responses": {
            "200": {"description": "As asked.", "content": {route.content_type: {}}},
            **{
                str(status): {"description": "Refused or failed.", "content": plain if status == 503 else error}
                for status in failures
            },
        },
    }
    if "{name}" in route.path:
        operation["parameters"] = [_NAME]
    if route.path.endswith("/decisions"):
        operation["parameters"] = [_LIMIT]
    if route.path.endswith("/usage"):
        operation["parameters"] = _USAGE
    if route.path.endswith("/explain"):
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _QUESTION}}}
    return operation
