"""The JSON Schema and the page of settings."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpubalancer.policy.document import json_schema, settings_page
from gpubalancer.policy.settings import settings
from tests.policy.reading import BACKEND, EXAMPLE

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def conforms(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """True if `value` conforms to as much of JSON Schema as the policy's uses."""
    if "$ref" in schema:
        return conforms(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema and not any(conforms(value, option, root) for option in schema["anyOf"]):
        return False
    if "type" in schema and not any(_is(value, name) for name in _listed(schema["type"])):
        return False
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        return False
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return False
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return False
    if isinstance(value, list) and "items" in schema:
        return all(conforms(item, schema["items"], root) for item in value)
    return not isinstance(value, dict) or _mapping_conforms(value, schema, root)


def _mapping_conforms(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if not set(schema.get("required", ())) <= set(value):
        return False
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for key, inner in value.items():
        if key not in known and others is False:
            return False
        expected = known.get(key, others)
        if isinstance(expected, dict) and not conforms(inner, expected, root):
            return False
    return all(conforms(key, schema.get("propertyNames", {}), root) for key in value)


def _is(value: Any, name: str) -> bool:
    if name in ("integer", "number"):
        return isinstance(value, int if name == "integer" else int | float) and not isinstance(value, bool)
    return isinstance(value, _TYPES[name])


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_the_page_is_up_to_date() -> None:
    """`python -m gpubalancer.policy.document > docs/settings.md` writes it."""
    assert PAGE.read_text() == settings_page()


def test_the_page_has_every_setting() -> None:
    """And each of them once."""
    page = settings_page()
    assert all(page.count(f"\n| `{pattern}` |") == 1 for pattern in settings())


def test_the_example_conforms_to_the_schema() -> None:
    """Editors accept what the balancer accepts, durations and references included."""
    example = yaml.safe_load(EXAMPLE.read_text())
    schema = json_schema()
    assert conforms(example, schema, schema)
    assert schema["title"] == "gpubalancer policy"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (BACKEND, True),
        (BACKEND + 'listen: {port: "${PORT:-8080}", workers: auto, limits: {body_bytes: 17, head_timeout: 1s}}', True),
        ("backends: [{url: '${URL}', models: {a: b}, slots: '5'}]", True),
        (BACKEND + "routing: {rules: [{name: r, when: {api: [chat]}, require: {kind: gpu}}]}", True),
        (BACKEND + "tenants: [{name: a, budgets: [{unit: usd, limit: 0.5, per: month}]}]", True),
        ("{}", False),
        (BACKEND + "unknown: 5", False),
        ("backends: [{url: 'http://a', slots: many}]", False),
        ("backends: [{url: 'ftp://a'}]", False),
        ("backends: [{url: 'http://a', kind: tpu}]", False),
        (BACKEND + "listen: {port: 70000}", False),
        (BACKEND + "listen: {limits: {head_timeout: 5}}", False),
        (BACKEND + "tenants: [{name: a, keys: [abc]}]", False),
        (BACKEND + "sensitivity: {detectors: {mail: public}}", False),
    ],
)
def test_what_editors_accept(text: str, answer: bool) -> None:
    """The schema refuses what the balancer would refuse for its form."""
    schema = json_schema()
    assert conforms(yaml.safe_load(text), schema, schema) is answer
