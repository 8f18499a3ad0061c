"""A Prometheus series mapped by hand: what selects it, and which field of a backend's state it is.

    telemetry:
      map:
        my_engine_active: running
        my_engine_kv_percent{pool="gpu"}: kv_used_fraction * 0.01

A selector is a name and, in braces, labels that the series must have. The number is multiplied by the factor. Several
series for one field are tried in their order; what several models or ranks repeat is added up.
"""

import re
from dataclasses import dataclass
from typing import Annotated

from gpubalancer.policy.fields import Reading

FIELDS = (
    "running",
    "waiting",
    "kv_used_fraction",
    "kv_capacity_tokens",
    "cached_tokens",
    "looked_up_tokens",
    "speed_fraction",
    "power_watts",
)
"""What a series can be: numbers of `telemetry.engines.EngineReading`."""

_SELECTOR = 'a series such as my_requests_running or my_requests{state="running"}'
_MAPPED = f"one of {', '.join(FIELDS)}, with a factor if it needs one, such as kv_used_fraction * 0.01"
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="[^"\\{}]*"'
_SERIES = re.compile(rf"({_NAME})(?:\{{({_LABEL}(?:, ?{_LABEL})*),?\}})?")
_PAIR = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="([^"]*)"')
_FIELD = re.compile(r"([a-z_]+)(?: ?\* ?([0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,2})?))?")


@dataclass(frozen=True, slots=True)
class Mapped:
    """A field, and what the series' number is multiplied with to be in its unit."""

    field: str
    scale: float = 1.0


def parse_selector(value: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Name and labels of a selector. Raises ValueError with what was expected."""
    match = _SERIES.fullmatch(value)
    if match is None or len(value) > 512:
        raise ValueError(_SELECTOR)
    return match[1], tuple(_PAIR.findall(match[2] or ""))


def _read_selector(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(_SELECTOR)  # noqa: TRY004 (pydantic collects ValueError only)
    parse_selector(value)
    return value


def _read_mapped(value: object) -> Mapped:
    if isinstance(value, Mapped):
        return value
    match = _FIELD.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[1] not in FIELDS or (match[2] is not None and not 0 < float(match[2]) < 1e30):
        raise ValueError(_MAPPED)
    return Mapped(match[1], float(match[2] or 1.0))


def _write_mapped(value: Mapped) -> str:
    return value.field if value.scale == 1.0 else f"{value.field} * {value.scale!r}"


Selector = Annotated[str, Reading(_SELECTOR, _read_selector, {"type": "string"})]
MappedField = Annotated[
    Mapped, Reading(_MAPPED, _read_mapped, {"type": "string"}, _write_mapped, short="field of a backend's state")
]
