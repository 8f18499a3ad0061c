"""How a backend is chosen and what happens when it fails: `routing`; how its state is read: `telemetry`."""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from gpubalancer.domain.backend import Kind
from gpubalancer.policy import units
from gpubalancer.policy.backends import Api
from gpubalancer.policy.fields import (
    Labels,
    ModelName,
    Name,
    Number,
    OneOrMany,
    Part,
    Reading,
    Timeout,
    Title,
    count,
    duration,
    later,
    whole,
)
from gpubalancer.policy.tenants import Priority

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_COMPARISON = re.compile(r"(<=|>=|<|>|=) ?([0-9].*)")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A bound on a number, such as `< 2000`."""

    operator: str
    bound: int

    def holds(self, number: float) -> bool:
        """True if `number` is within the bound."""
        return _OPERATORS[self.operator](number, self.bound)

    def __str__(self) -> str:
        return f"{self.operator} {self.bound}"


def _read_comparison(value: object) -> Comparison:
    expected = 'a comparison in quotes such as "< 2000" or ">= 8k"'
    found = _COMPARISON.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(expected)
    try:
        return Comparison(found[1], units.count(found[2]))
    except ValueError:
        raise ValueError(expected) from None


Bound = Annotated[Comparison, Reading('a comparison such as "< 2000"', _read_comparison, {"type": "string"}, str)]


class Slo(Part):
    """Latency that requests shall have. Without one, nothing is held back or refused for being late."""

    ttft_s: Timeout | None = Field(default=None, alias="ttft", description="Longest time to the first token.")
    ttft_per_1k_prompt_tokens_s: Annotated[float, duration(above_zero=False)] = Field(
        default=0.0,
        alias="ttft_per_1k_prompt_tokens",
        description="What a long prompt is given more, for each 1000 tokens.",
    )
    tpot_s: Timeout | None = Field(
        default=None, alias="tpot", description="Longest time for each further output token."
    )


class Weights(Part):
    """What counts in the one cost in seconds (docs/architecture.md has the formula)."""

    output: Number = Field(default=1.0, description="Weight of the time for the whole answer against the first token.")
    harm: Number = Field(default=1.0, description="Weight of what a request slows down in others on the same backend.")
    seconds_per_usd: Number = Field(default=20.0, description="Seconds that one USD is worth.")
    seconds_per_joule: Number = Field(default=0.0, description="Seconds that one joule is worth.")


class Retries(Part):
    """When another backend is tried. Never after the first byte of an answer went to the client."""

    attempts: Annotated[int, whole(1, 100)] = Field(
        default=3, description="Most backends tried for one request, the first included."
    )
    backoff_s: Annotated[float, duration(above_zero=False)] = Field(
        default=0.05,
        alias="backoff",
        description="Wait before the second try; doubled, with jitter, before each further one.",
    )
    after_send: Literal["never", "reused-connection", "always"] = Field(
        default="reused-connection",
        description="Whether a request that was sent may be tried again when no byte of an answer came: `never`, "
        "`reused-connection` (only if it went over a kept-alive connection that the backend had closed), or `always` "
        "(work may be done twice).",
    )


class Queue(Part):
    """Requests that wait for a slot."""

    limit: Annotated[int, count(0)] = Field(
        default=1000, description="Most requests that wait in one worker; 0 for no queue."
    )
    timeout_s: Timeout = Field(default=30.0, alias="timeout", description="Longest wait before a request is refused.")


class Timeouts(Part):
    """How long a backend may be silent."""

    connect_s: Timeout = Field(default=5.0, alias="connect", description="Longest wait for a connection, TLS included.")
    first_byte_s: Timeout = Field(
        default=600.0, alias="first_byte", description="Longest wait for the first byte of an answer."
    )
    between_bytes_s: Timeout = Field(
        default=300.0, alias="between_bytes", description="Longest silence inside an answer."
    )


class When(Part):
    """Which requests a rule is for: all that is given must hold, and of a list one."""

    api: Annotated[tuple[Api, ...], OneOrMany()] | None = Field(default=None, description="API that is called.")
    model: Annotated[tuple[ModelName, ...], OneOrMany()] | None = Field(
        default=None, description="Model, by its own name."
    )
    tenant: Annotated[tuple[Name, ...], OneOrMany()] | None = Field(default=None, description="Tenant that pays.")
    tier: Annotated[tuple[Name, ...], OneOrMany()] | None = Field(
        default=None, description="Tier that the request has."
    )
    priority: Annotated[tuple[Priority, ...], OneOrMany()] | None = Field(
        default=None, description="Class in the queue."
    )
    risk: Annotated[tuple[Literal["injection"], ...], OneOrMany()] | None = Field(
        default=None, description="Risk that was found."
    )
    prompt_tokens: Bound | None = Field(default=None, description='Bound on the prompt\'s tokens, such as `"< 2000"`.')
    output_tokens: Bound | None = Field(
        default=None, description='Bound on the expected output tokens, such as `">= 500"`.'
    )


class Selector(Part):
    """Which backends: all that is given must hold, and of a list one."""

    name: Annotated[tuple[Name, ...], OneOrMany()] | None = Field(default=None, description="Backend, by its name.")
    kind: Annotated[tuple[Kind, ...], OneOrMany()] | None = Field(default=None, description="Kind of hardware.")
    engine: Annotated[tuple[Name, ...], OneOrMany()] | None = Field(default=None, description="Engine.")
    hardware: Annotated[tuple[Name, ...], OneOrMany()] | None = Field(default=None, description="Class of hardware.")
    labels: Labels = Field(default={}, description="Labels that the backend carries.")


class Rule(Part):
    """What shall be different for some requests."""

    name: Title = Field(description="Name of the rule, shown in explanations.")
    when: When = Field(default=When(), description="Which requests it is for; all, if nothing is given.")
    tier: Name | None = Field(default=None, description="Tier that the requests are raised to.")
    require: Selector | None = Field(default=None, description="Only such backends may serve them.")
    prefer: Selector | None = Field(default=None, description="Such backends are taken where they cost little more.")
    deny_kinds: tuple[Kind, ...] = Field(default=(), description="Kinds of backend that may not serve them.")


class Routing(Part):
    """How a backend is chosen and what happens when it fails."""

    mode: Literal["fast", "frugal"] = Field(
        default="fast",
        description=later("`fast` takes the least cost in seconds, `frugal` the cheapest backend that keeps the SLO."),
    )
    slo: Slo = Field(default=Slo(), description=later("Latency that requests shall have."))
    weights: Weights = Field(default=Weights(), description=later("What counts in the cost of a backend."))
    retries: Retries = Field(default=Retries(), description="When another backend is tried.")
    queue: Queue = Field(default=Queue(), description="Requests that wait for a slot.")
    timeouts: Timeouts = Field(default=Timeouts(), description="How long a backend may be silent.")
    rules: tuple[Rule, ...] = Field(
        default=(), description=later("What shall be different for some requests; all that match apply.")
    )


class Telemetry(Part):
    """How the state of the backends is read."""

    interval_s: Timeout = Field(
        default=1.0, alias="interval", description=later("Time between two readings of a backend's metrics.")
    )
    stale_after_s: Timeout = Field(
        default=5.0, alias="stale_after", description=later("Age from which a reading counts for less.")
    )
    probe_interval_s: Timeout = Field(
        default=2.0, alias="probe_interval", description="Time between two health probes."
    )
    carbon_grams_per_kwh: Number = Field(default=380.0, description=later("CO2 of the electricity, for reports."))
