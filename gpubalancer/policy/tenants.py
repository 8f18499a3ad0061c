"""Who pays, who they are, and what they may spend: `tenants`."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self, get_args

from pydantic import Field

from gpubalancer.domain.backend import Kind
from gpubalancer.policy import units
from gpubalancer.policy.fields import Labels, ModelPattern, Name, Part, Reading, later, number
from gpubalancer.policy.tiers import Tier

Unit = Literal["tokens", "usd", "joules", "requests"]
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


def _read_amount(value: object) -> float:
    amount = units.amount(value)
    if amount <= 0:
        raise ValueError(f"{units.AMOUNT}, above 0")
    return amount


_AMOUNT = Reading(
    f"{units.AMOUNT}, above 0",
    _read_amount,
    {"type": ["number", "string"]},
    units.write_count,
    short="number above 0",
)
Amount = Annotated[float, _AMOUNT]
_KEY_JSON = {"type": "string", "pattern": r"^(sha256:[0-9a-fA-F]{64}$|file:|.*\$\{)"}
Key = Annotated[str, Reading(_KEY, _read_key, _KEY_JSON, is_secret=True, short="`sha256:` and 64 digits")]
Per = Annotated[units.Period, Reading(units.PERIOD, units.period, {"type": "string"}, units.write_period)]


class Budget(Part):
    """One limit on what a tenant spends."""

    unit: Unit = Field(description="What is counted: `tokens`, `usd`, `joules` or `requests`.")
    limit: Amount = Field(description="How much may be spent in one period.")
    per: Per = Field(description="The period: a duration (refilled steadily), or `month` (a calendar month in UTC).")
    burst: Amount | None = Field(
        default=None,
        description="Most that may be saved up and spent at once; the limit if not given. Not with `month`.",
    )
    when_spent: Literal["refuse", "queue", "downgrade"] = Field(
        default="refuse", description="What a request gets that no longer fits: refused, held back, or a cheaper model."
    )
    overrun: Literal["debt", "stop"] = Field(
        default="debt",
        description="An answer beyond its reservation: `debt` is paid before the next request, `stop` ends the stream.",
    )


class Tenant(Part):
    """One payer."""

    name: Name = Field(description="The tenant's name in logs, metrics and the ledger.")
    keys: tuple[Key, ...] = Field(
        default=(), repr=False, description="SHA-256 of each bearer key, as `sha256:<64 hex digits>`."
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
    budgets: tuple[Budget, ...] = Field(
        default=(), description=later("Limits on what it spends; all of them hold at once.")
    )

    @property
    def key_digests(self) -> tuple[bytes, ...]:
        """The 32 bytes of each key's SHA-256."""
        return tuple(bytes.fromhex(key.removeprefix("sha256:")) for key in self.keys)

    def tiered(self, tiers: Sequence[Tier]) -> Self:
        """Return the tenant with its tiers filled in, if the file gave none."""
        return self.model_copy(update={"tier": self.tier or tiers[0].name, "max_tier": self.max_tier or tiers[-1].name})


ANONYMOUS = Tenant(name="anonymous")
"""Everybody, where no tenants are declared."""


def allows(patterns: Sequence[str], model: str) -> bool:
    """True if a tenant whose `models` are these patterns may use a model; only `*` stands for something else."""
    return any(pattern == "*" or fnmatchcase(model, _only_stars(pattern)) for pattern in patterns)


def _only_stars(pattern: str) -> str:
    return pattern.replace("[", "[[]").replace("?", "[?]")
