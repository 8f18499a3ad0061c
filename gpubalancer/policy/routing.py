"""How a backend is chosen and what happens when it fails: `routing`; how its state is read: `telemetry`."""

from typing import Annotated, Literal

from pydantic import Field

from gpubalancer.policy.fields import Number, Part, Timeout, count, duration, size, whole
from gpubalancer.policy.rules import Rule


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


class Prefixes(Part):
    """What is remembered of who has read which beginnings of prompts, so that they are not read twice."""

    table_bytes: Annotated[int, size(0)] = Field(
        default=16 << 20,
        description="Memory that all workers share for it, in powers of two; below 64KiB nothing is remembered.",
    )
    scope: Literal["tenant", "all"] = Field(
        default="tenant",
        description="Whose beginnings count: the tenant's own, or those of `all`, where the time that an answer takes "
        "can tell one tenant that another has sent the same.",
    )
    forget_after_s: Annotated[float, duration()] = Field(
        default=3600.0,
        alias="forget_after",
        description="Age at which it is forgotten, 12h at most; sooner where an engine tells how much it holds.",
    )


class Timeouts(Part):
    """How long a backend may be silent."""

    connect_s: Timeout = Field(default=5.0, alias="connect", description="Longest wait for a connection, TLS included.")
    first_byte_s: Timeout = Field(
        default=600.0, alias="first_byte", description="Longest wait for the first byte of an answer."
    )
    between_bytes_s: Timeout = Field(
        default=300.0, alias="between_bytes", description="Longest silence inside an answer."
    )


class Routing(Part):
    """How a backend is chosen and what happens when it fails."""

    mode: Literal["fast", "frugal"] = Field(
        default="fast",
        description="`fast` takes the least cost in seconds, `frugal` the cheapest backend that keeps the SLO.",
    )
    slo: Slo = Field(default=Slo(), description="Latency that requests shall have.")
    weights: Weights = Field(default=Weights(), description="What counts in the cost of a backend.")
    retries: Retries = Field(default=Retries(), description="When another backend is tried.")
    queue: Queue = Field(default=Queue(), description="Requests that wait for a slot.")
    prefixes: Prefixes = Field(
        default=Prefixes(), description="What is remembered of the beginnings of prompts and of who has read them."
    )
    timeouts: Timeouts = Field(default=Timeouts(), description="How long a backend may be silent.")
    rules: tuple[Rule, ...] = Field(
        default=(), description="What shall be different for some requests; all that match apply, in their order."
    )


class Telemetry(Part):
    """How the state of the backends is read."""

    interval_s: Timeout = Field(
        default=1.0, alias="interval", description="Time between two readings of a backend's metrics."
    )
    stale_after_s: Timeout = Field(
        default=5.0, alias="stale_after", description="Age at which a reading counts for 37 % of a fresh one."
    )
    probe_interval_s: Timeout = Field(
        default=2.0, alias="probe_interval", description="Time between two health probes."
    )
    carbon_grams_per_kwh: Number = Field(
        default=380.0, description="CO2 of the electricity, for `gpubalancer_carbon_grams_total`."
    )
