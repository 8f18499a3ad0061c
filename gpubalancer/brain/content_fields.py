"""Values of a body that are checked by every reader: whole numbers, JSON as text, and strings wherever they stand."""

from collections.abc import Mapping
from typing import Any

import orjson

from gpubalancer.domain.errors import RequestError

Fields = Mapping[str, Any]
"""A parsed JSON object."""

DEPTH_LIMIT = 100
"""Deepest nesting inside one field. Tool schemas go to about 20; vLLM's own parser gives up at 200."""

_EFFORT_CHARS = 32


def refuse(param: str, expected: str) -> RequestError:
    """The error for a field that is not what every engine expects."""
    return RequestError("invalid_json", f"{param} must be {expected}.", param=param)


def whole(fields: Fields, name: str, least: int, most: int) -> int | None:
    """A whole number, None if it is not given.

    Raises:
        RequestError: `invalid_json` for anything else, `true` and numbers in quotes included, and outside the bounds.
    """
    value = fields.get(name)
    if value is None:
        return None
    if value.__class__ is float and value.is_integer():
        value = int(value)
    if value.__class__ is not int or not least <= value <= most:
        raise refuse(name, f"a whole number from {least} to {most}")
    number: int = value
    return number


def effort(fields: Fields) -> str | None:
    """The reasoning effort that is asked for: chat's field, or that of Responses' `reasoning`."""
    value = fields.get("reasoning_effort")
    if value is None and (reasoning := fields.get("reasoning")) is not None:
        value = reasoning.get("effort") if isinstance(reasoning, dict) else None
    if value is not None and (not isinstance(value, str) or len(value) > _EFFORT_CHARS):
        raise refuse("reasoning_effort", "a short text")
    return value


def serialised(value: object, where: str) -> str:
    """A value as compact JSON text, keys in the order given."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # Nesting beyond orjson's own limit of 254, or numbers that are not JSON's.
        raise refuse(where, "plain JSON with less nesting") from None


def walk(value: object, where: str, found: list[str]) -> None:
    """Append every string below `value`, keys left out, in order.

    Raises:
        RequestError: `invalid_json` below `DEPTH_LIMIT` levels.
    """
    if isinstance(value, str):
        found.append(value)
        return
    levels = [iter((value,))]
    while levels:
        for inner in levels[-1]:
            if isinstance(inner, str):
                found.append(inner)
            elif isinstance(inner, list | dict) and inner:
                if len(levels) > DEPTH_LIMIT:
                    raise refuse(where, f"nested at most {DEPTH_LIMIT} levels deep")
                levels.append(iter(inner.values() if isinstance(inner, dict) else inner))
                break
        else:
            levels.pop()
