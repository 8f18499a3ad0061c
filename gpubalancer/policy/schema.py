"""The whole policy, frozen, and its way between our own processes.

A `Policy` that exists is valid: each value was read by its field, defaults were derived, and `checks` found that the
sections agree. It is never changed; a reload makes a new one.
"""

import hashlib
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from gpubalancer.policy.backends import Backend
from gpubalancer.policy.checks import findings
from gpubalancer.policy.fields import ModelName, Name, Part
from gpubalancer.policy.findings import DisagreementError
from gpubalancer.policy.listen import Admin, Listen, State
from gpubalancer.policy.models import Model
from gpubalancer.policy.routing import Routing, Telemetry
from gpubalancer.policy.tenants import ANONYMOUS, Tenant
from gpubalancer.policy.tiers import DEFAULT_TIERS, Sensitivity, Tier


def _empty_if_null(value: Any) -> Any:
    return {} if value is None else value


class Policy(Part):
    """Everything that the file says. Sections are read in this order: later ones take defaults from earlier ones."""

    version: Literal[1] = Field(default=1, description="Version of the file's format.")
    listen: Listen = Field(default=Listen(), description="The data port: where clients send their requests.")
    admin: Admin = Field(default=Admin(), description="The admin port: metrics, health, admin API.")
    state: State = Field(default=State(), description="What outlives the processes.")
    tiers: tuple[Tier, ...] = Field(
        default=DEFAULT_TIERS,
        description="Levels of sensitivity, low to high. By default `public`, `internal`, `confidential` and "
        "`restricted`, all but the first in private or loopback networks only.",
    )
    models: dict[ModelName, Annotated[Model, BeforeValidator(_empty_if_null)]] = Field(
        default={}, description="What is known of models, by their public name."
    )
    backends: tuple[Backend, ...] = Field(description="The inference servers.")
    tenants: tuple[Tenant, ...] = Field(
        default=(),
        validate_default=True,
        description="Who pays. If none is declared, everybody on loopback is `anonymous`.",
    )
    anonymous: Name | None = Field(
        default=None,
        validate_default=True,
        description="Tenant that pays for requests without a key; if none, they are refused.",
    )
    sensitivity: Sensitivity = Field(default=Sensitivity(), description="What raises a request's tier.")
    routing: Routing = Field(default=Routing(), description="How a backend is chosen and what happens when it fails.")
    telemetry: Telemetry = Field(default=Telemetry(), description="How the state of the backends is read.")

    @field_validator("backends", mode="after")
    @classmethod
    def _clear(cls, backends: tuple[Backend, ...], info: ValidationInfo) -> tuple[Backend, ...]:
        tiers = info.data.get("tiers")
        return tuple(backend.cleared(tiers) for backend in backends) if tiers else backends

    @field_validator("tenants", mode="after")
    @classmethod
    def _tier(cls, tenants: tuple[Tenant, ...], info: ValidationInfo) -> tuple[Tenant, ...]:
        tiers = info.data.get("tiers")
        return tuple(tenant.tiered(tiers) for tenant in tenants or (ANONYMOUS,)) if tiers else tenants

    @field_validator("anonymous", mode="after")
    @classmethod
    def _everybody(cls, name: str | None, info: ValidationInfo) -> str | None:
        """Without tenants everybody is `anonymous`, but on loopback only: elsewhere the file must say so."""
        tenants, listen = info.data.get("tenants", ()), info.data.get("listen")
        if name is None and listen and listen.is_loopback and is_implicit(tenants):
            return ANONYMOUS.name
        return name

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if found := findings(self):
            raise DisagreementError(found)
        return self

    @cached_property
    def hash(self) -> str:
        """12 hexadecimal characters that are equal for equal content, secrets included."""
        return hashlib.sha256(dump(self)).hexdigest()[:12]

    @cached_property
    def tier_ranks(self) -> dict[str, int]:
        """Each tier's name and its rank, 0 for the lowest."""
        return {tier.name: rank for rank, tier in enumerate(self.tiers)}

    @cached_property
    def model_names(self) -> dict[str, str]:
        """Each model's own name and aliases, to its own name; without those that only a server knows of."""
        declared = {name: name for backend in self.backends for name in backend.models or {}}
        aliases = {alias: name for name, model in self.models.items() for alias in model.aliases}
        return declared | {name: name for name in self.models} | aliases


def is_implicit(tenants: tuple[Tenant, ...]) -> bool:
    """True if nobody declared tenants: the only one has our name and no keys."""
    return len(tenants) == 1 and tenants[0].name == ANONYMOUS.name and not tenants[0].keys


def dump(policy: Policy) -> bytes:
    """The policy as canonical JSON, SECRETS INCLUDED: for our own processes and the hash, never for people or logs."""
    content = policy.model_dump(mode="json", by_alias=True, context={"reveal": True})
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


def restore(data: bytes) -> Policy:
    """The policy that `dump` wrote: `restore(dump(policy)) == policy`."""
    return Policy.model_validate(orjson.loads(data))
