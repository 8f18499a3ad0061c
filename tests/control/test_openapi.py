"""The API's description."""

from gpubalancer.control.admin import ROUTES
from gpubalancer.control.openapi import openapi


def test_every_route_is_described_with_its_access_and_answers() -> None:
    """Each row of the table has an operation, refusals of its access included; open routes want no token."""
    document = openapi(ROUTES)
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        statuses = {int(status) for status in operation["responses"]}
        refusals = {"open": set(), "read": {401, 403}, "write": {401, 403, 415}}[route.access]
        assert statuses == {200, *route.statuses} | refusals
        assert operation["summary"] == route.summary
        assert (operation["security"] == []) == (route.access == "open")
        assert ("parameters" in operation) == ("{name}" in route.path or route.path.endswith(("decisions", "usage")))


def test_references_lead_somewhere() -> None:
    """The error's shape is declared under the name that operations refer to."""
    document = openapi(ROUTES)
    refused = document["paths"]["/metrics"]["get"]["responses"]["401"]
    assert refused["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}
    assert "error" in document["components"]["schemas"]["Error"]["properties"]
    assert "token" in document["components"]["securitySchemes"]
