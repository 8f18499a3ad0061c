"""Who pays, who they are, and what they may spend: `tenants`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from gpubalancer.domain.backend import Kind
from gpubalancer.policy.budgets import Budget, Zone
from gpubalancer.policy.fields import Json, Labels, ModelPattern, Name, Part, Reading, later, number
from gpubalancer.policy.tiers import Tier

Priority = Literal["interactive", "standard", "batch"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
"""The classes of the queue, the first served first."""

_HEX_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_KEY = '"sha256:" and the 64 hexadecimal digits of the key\'s SHA-256, as `gpubalancer keys new` prints it'


def _read_key(value: object) -> str:
    digest = value.removeprefix("sha256:") if isinstance(value, str) else ""
    if not _HEX_DIGEST.fullmatch(digest):
        raise ValueError(_KEY)
    if digest == value:
        raise ValueError('"sha256:" before the 64 hexadecimal digits')
    return f"sha256:{digest.lower()}"


_KEY_JSON = {"type": "string", "pattern": r"^(sha256:[0-9a-fA-F]{64}$|file:|.*\$\{)"}
Key = Annotated[str, Reading(_KEY, _read_key, _KEY_JSON, is_secret=True, short="`sha256:` and 64 digits")]


class TenantKey(Part):
    """One bearer key."""

    hash: Key = Field(repr=False, description="SHA-256 of the key, as `sha256:<64 hex digits>`.")
    name: Name | None = Field(default=None, description="The key's name in the ledger; its hash's start if not given.")
    budgets: tuple[Budget, ...] = Field(
        default=(), description="Limits on what this key spends, besides those of its tenant."
    )

    @property
    def digest(self) -> bytes:
        """The 32 bytes of the key's SHA-256."""
        return bytes.fromhex(self.hash.removeprefix("sha256:"))


@dataclass(frozen=True, slots=True, eq=False)
class _PlainKey(Reading):
    """Stands before a key's type: its hash alone may be written without a mapping."""

    part: type[Part] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return {"anyOf": [dict(self.json), handler(schema)]}


def _read_entry(value: object) -> object:
    return value if isinstance(value, dict | TenantKey) else {"hash": value}


_ENTRY = _PlainKey(
    _KEY, _read_entry, _KEY_JSON, is_secret=True, short="`sha256:` and 64 digits, or mapping", part=TenantKey
)


class Tenant(Part):
    """One payer."""

    name: Name = Field(description="The tenant's name in logs, metrics and the ledger.")
    parent: Name | None = Field(
        default=None, description="Tenant (team, organisation) in whose budgets its spending counts too."
    )
    keys: tuple[Annotated[TenantKey, _ENTRY], ...] = Field(
        default=(),
        repr=False,
        description="SHA-256 of each bearer key, as `sha256:<64 hex digits>`, or a mapping for one with budgets.",
    )
    tier: Name = Field(default="", description="Tier that its requests have at least; the lowest if not given.")
    max_tier: Name = Field(
        default="",
        description="Highest tier that it may send; the highest of all if not given. Requests above it are refused.",
    )
    priority: Priority = Field(
        default="standard", description="Class in the queue: `interactive`, `standard` or `batch`."
    )
    share: Annotated[float, number(above_zero=True)] = Field(
        default=1.0,
        description=later("Weight against other tenants of the same class when there is not enough for all."),
    )
    models: tuple[ModelPattern, ...] = Field(
        default=("*",), description="Models that it may use; `*` stands for any text."
    )
    kinds: tuple[Kind, ...] | None = Field(
        default=None, description="Kinds of backend that it may use; all if not given."
    )
    labels: Labels = Field(default={}, description="Labels that a backend must carry to serve it.")
    time_zone: Zone = Field(default="UTC", description="Whose days, weeks and months its calendar budgets count.")
    budgets: tuple[Budget, ...] = Field(default=(), description="Limits on what it spends; all of them hold at once.")

    @property
    def key_digests(self) -> tuple[bytes, ...]:
        """The 32 bytes of each key's SHA-256."""
        return tuple(key.digest for key in self.keys)

    def tiered(self, tiers: Sequence[Tier]) -> Self:
        """Return the tenant with its tiers filled in, if the file gave none."""
        return self.model_copy(update={"tier": self.tier or tiers[0].name, "max_tier": self.max_tier or tiers[-1].name})


ANONYMOUS = Tenant(name="anonymous")
"""Everybody, where no tenants are declared."""


def allows(patterns: Sequence[str], model: str) -> bool:
    """True if a tenant whose `models` are these patterns may use a model; only `*` stands for something else."""
    return "*" in patterns or any(fnmatchcase(model, _only_stars(pattern)) for pattern in patterns)


def _only_stars(pattern: str) -> str:
    return pattern.replace("[", "[[]").replace("?", "[?]")
