"""One inference server and what may be sent to it: `backends`.

Only `url` is required. What is not said is either derived here (name, slots, clearance) or asked of the server later
(kind, engine, models), which is what None means.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field

from gpubalancer.domain.backend import Kind
from gpubalancer.policy.fields import (
    MODEL,
    FilePath,
    Labels,
    Name,
    Number,
    Part,
    Positive,
    Reading,
    Secret,
    UnexpectedError,
    whole,
)
from gpubalancer.policy.listen import Host, is_host
from gpubalancer.policy.series import MappedField, Selector
from gpubalancer.policy.tiers import PRIVATE_NETWORKS, Tier

Api = Literal[
    "chat",
    "completions",
    "responses",
    "embeddings",
    "rerank",
    "messages",
    "audio",
    "images",
    "kserve",
    "ollama",
    "models",
]

DEFAULT_SLOTS = {Kind.GPU: 64, Kind.CPU: 4, Kind.CLOUD: 256, None: 64}
"""Requests at once by kind: a GPU engine's usual batch, a CPU's few, a cloud's many; an unknown kind as a GPU."""

_MODEL_NAMES = "a list of model names, or a mapping of public names to the server's own"
_URL = "a URL such as http://10.0.0.11:8000 or https://api.example.com/v1"


@dataclass(frozen=True, slots=True)
class Address:
    """A backend's URL, taken apart.

    Attributes:
        host: name or IP address, IPv6 without brackets, in lower case.
        port: given, or the scheme's.
        is_tls: the scheme is https.
        path_prefix: the path without a slash at its end; empty for the root.
    """

    host: str
    port: int
    is_tls: bool
    path_prefix: str


def parse_url(value: object) -> Address:
    """Take a server's URL apart. Raises `ValueError` with what was expected."""
    if isinstance(value, str) and "@" in value:
        raise UnexpectedError("a URL without a user or password; a secret goes into `credential`", "a URL with an @")
    if not isinstance(value, str) or not value.isprintable() or not value.isascii() or set(value) & set(' \\"<>'):
        raise ValueError(_URL)
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(_URL) from None
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{_URL}, with http:// or https:// before the host")
    if "?" in value or "#" in value:
        raise ValueError("a URL without ? and #")
    if not is_host(host) or port == 0:
        raise ValueError(_URL)
    is_tls = parts.scheme == "https"
    return Address(host, port or (443 if is_tls else 80), is_tls, parts.path.rstrip("/"))


def _read_url(value: object) -> str:
    parse_url(value)
    return str(value)


def _read_metrics(value: object) -> str:
    if isinstance(value, str) and value.startswith("/"):
        return _read_path(value)
    try:
        return _read_url(value)
    except ValueError:
        raise ValueError("a path such as /metrics, or a whole URL") from None


def _read_path(value: object) -> str:
    text_is_path = isinstance(value, str) and value.startswith("/") and value.isprintable() and value.isascii()
    if not text_is_path or set(str(value)) & set(" ?#"):
        raise ValueError("a path such as /v1/realtime")
    return str(value)


def _read_claim(value: object) -> str:
    path = _read_path(value)
    if "*" in path.removesuffix("*"):
        raise ValueError("a path such as /custom/run, or with * at its end only, such as /custom/*")
    return path


def _as_list(value: object) -> list[object]:
    if not isinstance(value, list | tuple):
        raise ValueError(_MODEL_NAMES)  # noqa: TRY004 (pydantic collects ValueError only)
    return list(value)


def _read_models(value: object) -> dict[str, str]:
    pairs = list(value.items()) if isinstance(value, dict) else [(item, item) for item in _as_list(value)]
    if not pairs:
        raise ValueError("at least one model, or no `models` at all, so that the server is asked")
    for name, upstream in pairs:
        _read_model(name, "the name")
        _read_model(upstream, "the server's name")
    if len({name for name, _ in pairs}) < len(pairs):
        raise UnexpectedError("each model once", "a model twice")
    return dict(pairs)


def _read_model(value: object, what: str) -> None:
    try:
        MODEL.read(value)
    except ValueError as error:
        raise UnexpectedError(str(error), f"{what} {str(value)[:60]!r}") from None


_MODELS = Reading(
    _MODEL_NAMES,
    _read_models,
    {
        "anyOf": [
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
            {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
        ]
    },
)
Url = Annotated[str, Reading(_URL, _read_url, {"type": "string", "pattern": r"^(https?://|.*\$\{)"})]
MetricsUrl = Annotated[str, Reading("a path such as /metrics, or a whole URL", _read_metrics, {"type": "string"})]
PlainPath = Annotated[str, Reading("a path such as /v1/realtime", _read_path, {"type": "string"})]
ClaimedPath = Annotated[str, Reading("a path, or a prefix that ends in *", _read_claim, {"type": "string"})]


class BackendTls(Part):
    """How an https backend is trusted and how we show who we are."""

    ca: FilePath | None = Field(
        default=None, description="PEM file with the authorities trusted for it, instead of the system's."
    )
    certificate: FilePath | None = Field(default=None, description="PEM file with the certificate that we show.")
    key: FilePath | None = Field(default=None, description="PEM file with that certificate's private key.")
    server_name: Host | None = Field(
        default=None, description="Name that its certificate must be for, when not the URL's host."
    )


class BackendTelemetry(Part):
    """Where a backend's state is read."""

    metrics: MetricsUrl | None = Field(
        default=None,
        description="The engine's Prometheus page: a path on the backend, or a whole URL. By engine if not given.",
    )
    map: dict[Selector, MappedField] = Field(
        default={},
        description="Series of that page that are read as a field, before the engine's own: `my_requests: running`, "
        '`my_kv_percent{pool="gpu"}: kv_used_fraction * 0.01`.',
    )
    agent: Url | None = Field(default=None, description="URL of `gpubalancer agent` on the backend's machine.")
    credential: Secret = Field(default=None, description="Bearer token that the agent wants.")
    exporter: Url | None = Field(
        default=None,
        description="URL of the page of a GPU exporter on the backend's machine (DCGM, AMD, Intel), where no agent is.",
    )
    gpus: tuple[Annotated[int, whole(0, 1023)], ...] = Field(
        default=(), description="Which of the machine's GPUs serve this backend; none given means all."
    )


class TokenPrice(Part):
    """Prices by token."""

    prompt: Number = Field(default=0.0, description="USD for a million prompt tokens.")
    completion: Number = Field(default=0.0, description="USD for a million tokens of answer.")
    cached: Number | None = Field(
        default=None, description="USD for a million cached prompt tokens; as `prompt` if not given."
    )


class Price(Part):
    """What a backend costs. The two ways add up."""

    usd_per_hour: Number = Field(default=0.0, description="USD for an hour of the machine, busy or not.")
    usd_per_million_tokens: TokenPrice = Field(default=TokenPrice(), description="USD for a million tokens.")


def _name_by_address(given: dict[str, Any]) -> str:
    if "url" not in given:
        return ""
    address = parse_url(given["url"])
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


def _slots_by_kind(given: dict[str, Any]) -> int:
    return DEFAULT_SLOTS[given.get("kind")]


class Backend(Part):
    """One inference server."""

    url: Url = Field(
        description="The server's root. A path at its end (`/v1`) is kept, and a client's equal prefix is not doubled."
    )
    name: Name = Field(
        default_factory=_name_by_address,
        description="Name in answers, logs and metrics; if not given, the URL's `host:port`.",
    )
    kind: Kind | None = Field(
        default=None, description="Hardware: `gpu`, `cpu` or `cloud`. Asked of the server if not given."
    )
    engine: Name | None = Field(
        default=None,
        description="Program: `vllm`, `sglang`, `llamacpp`, `ollama`, `tgi`, `triton`, `openai`, `anthropic`. "
        "Asked of the server if not given.",
    )
    hardware: Name | None = Field(
        default=None,
        description="Class such as `h100`, `a100`, `l40s`, `cpu`: what speed to expect until it is measured.",
    )
    models: Annotated[dict[str, str], _MODELS] | None = Field(
        default=None,
        description="What it serves: a list, or public names to the server's own. Asked of the server if not given.",
    )
    clearance: Name = Field(
        default="",
        description="Highest tier that it may see. If not given: for `localhost` and private IP addresses the highest "
        "tier whose networks hold the address, for names, public addresses and `cloud` the lowest tier.",
    )
    slots: Positive = Field(
        default_factory=_slots_by_kind,
        description="Most requests at once; if not given 64 for `gpu` and unknown, 4 for `cpu`, 256 for `cloud`.",
    )
    apis: tuple[Api, ...] | None = Field(default=None, description="APIs that it speaks; by engine if not given.")
    paths: tuple[ClaimedPath, ...] = Field(
        default=(), description="Further paths that it claims; `*` at the end makes a prefix."
    )
    upgrades: tuple[PlainPath, ...] = Field(
        default=(), description="Paths on which a protocol upgrade (WebSocket) may be asked."
    )
    credential: Secret = Field(
        default=None,
        description="Sent to it in place of the client's key, as `Authorization: Bearer` (`x-api-key` if the engine is "
        "`anthropic`).",
    )
    tls: BackendTls | None = Field(default=None, description="Trust and identity for an `https` URL.")
    telemetry: BackendTelemetry = Field(default=BackendTelemetry(), description="Where its state is read.")
    price: Price = Field(default=Price(), description="What it costs: counts in the choice.")
    labels: Labels = Field(default={}, description="Your own words for rules and tenants to choose by.")

    @property
    def address(self) -> Address:
        """The URL, taken apart."""
        return parse_url(self.url)

    @property
    def host(self) -> str:
        """Name or IP address, IPv6 without brackets."""
        return self.address.host

    @property
    def port(self) -> int:
        """TCP port, the scheme's if the URL names none."""
        return self.address.port

    @property
    def is_tls(self) -> bool:
        """True for https."""
        return self.address.is_tls

    @property
    def path_prefix(self) -> str:
        """The URL's path without a slash at its end; empty for the root."""
        return self.address.path_prefix

    def cleared(self, tiers: Sequence[Tier]) -> Self:
        """Return the backend with its clearance filled in, if the file gave none."""
        return self if self.clearance else self.model_copy(update={"clearance": default_clearance(self, tiers)})


def default_clearance(backend: Backend, tiers: Sequence[Tier]) -> str:
    """The highest tier that the address alone vouches for: only a private or loopback address vouches for any.

    A name proves nothing before it is resolved, and a cloud sees everything it is sent, whatever its address.
    """
    host = "127.0.0.1" if backend.host == "localhost" else backend.host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return tiers[0].name
    if backend.kind is Kind.CLOUD or not any(address in network for network in PRIVATE_NETWORKS):
        return tiers[0].name
    return [tiers[0].name, *(tier.name for tier in tiers if tier.admits(address))][-1]
