"""All backends as columns.

Index i is the i-th backend of the policy. What the policy fixes is a column here; what changes (up, draining, in
flight) is a column on the board, and `rows` says which of its rows is whose. A constraint is a boolean vector over the
fleet, a cost a vector of numbers, so that the choice is an `argmin`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from gpubalancer.brain.routes import apis_of
from gpubalancer.domain.decision import Reason
from gpubalancer.domain.work import Work
from gpubalancer.policy.backends import Backend
from gpubalancer.policy.schema import Policy

Flags = NDArray[np.bool_]
_CACHE_LIMIT = 4096
_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was learned from a backend that the policy leaves open."""

    models: tuple[str, ...] = ()
    engine: str | None = None
    kind: str | None = None


@dataclass(frozen=True)
class Fleet:
    """The columns that a policy fixes; shape (backends,) each."""

    names: tuple[str, ...]
    rows: NDArray[np.intp]
    slots: NDArray[np.int32]
    clearance: NDArray[np.int32]
    served: tuple[Mapping[str, str], ...]
    """Per backend: public model name -> the backend's own name."""
    apis: tuple[frozenset[str], ...]
    kinds: tuple[str | None, ...]
    labels: tuple[frozenset[tuple[str, str]], ...]
    claims: tuple[tuple[str, ...], ...]
    upgrades: tuple[tuple[str, ...], ...]
    aliases: Mapping[str, str]
    _cache: dict[_Key, Flags] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def resolve(self, asked: str) -> str | None:
        """The public name of a model that a client asked for; None if nobody serves it."""
        name = self.aliases.get(asked, asked)
        return name if any(name in served for served in self.served) else None

    def models(self) -> list[str]:
        """All public names, sorted."""
        return sorted({name for served in self.served for name in served})

    def claimed(self, path: str) -> bool:
        """True if some backend claims this path."""
        return any(_claims(claims, path) for claims in self.claims)

    def upgradable(self, path: str) -> bool:
        """True if some backend may be asked for another protocol on this path."""
        return any(path in upgrades for upgrades in self.upgrades)

    def eligible(self, work: Work) -> Flags:
        """Backends that could ever serve this work. Kept, because few kinds of work repeat."""
        key = (work.api, work.model, work.sent_name, work.tier, work.kinds, work.labels, work.claim, work.upgrade)
        flags = self._cache.get(key)
        if flags is None:
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            flags = np.array([reason is None for reason in self.ineligible(work)], dtype=np.bool_)
            self._cache[key] = flags
        return flags

    def ineligible(self, work: Work) -> list[Reason | None]:
        """For each backend, the first constraint by which it could never serve this work."""
        return [self._objection(index, work) for index in range(len(self))]

    def _objection(self, index: int, work: Work) -> Reason | None:
        if work.claim is not None:
            paths = self.upgrades[index] if work.upgrade else self.claims[index]
            if not _claims(paths, work.claim):
                return "claim"
        elif work.api not in self.apis[index]:
            return "api"
        if work.model is not None:
            known_as = self.served[index].get(work.model)
            if known_as is None or work.sent_name not in (None, known_as):
                return "model"
        if self.clearance[index] < work.tier:
            return "clearance"
        # A kind that is not known yet is not among those allowed.
        of_allowed_kind = work.kinds is None or self.kinds[index] in work.kinds
        return None if of_allowed_kind and work.labels <= self.labels[index] else "tenant"


def build_fleet(policy: Policy, rows: Mapping[str, int], discovered: Mapping[str, Discovery]) -> Fleet:
    """The columns of a policy.

    Arguments:
        policy: the settings.
        rows: each backend's row on the board.
        discovered: what the servers themselves said, by backend.
    """
    nothing = Discovery()
    found = [discovered.get(backend.name, nothing) for backend in policy.backends]
    return Fleet(
        names=tuple(backend.name for backend in policy.backends),
        rows=np.array([rows[backend.name] for backend in policy.backends], dtype=np.intp),
        slots=np.array([backend.slots for backend in policy.backends], dtype=np.int32),
        clearance=np.array([policy.tier_ranks[backend.clearance or ""] for backend in policy.backends], dtype=np.int32),
        served=tuple(_served(backend, known) for backend, known in zip(policy.backends, found, strict=True)),
        apis=tuple(
            frozenset(backend.apis) if backend.apis is not None else apis_of(backend.engine or known.engine)
            for backend, known in zip(policy.backends, found, strict=True)
        ),
        kinds=tuple(backend.kind or known.kind for backend, known in zip(policy.backends, found, strict=True)),
        labels=tuple(frozenset(backend.labels.items()) for backend in policy.backends),
        claims=tuple(backend.paths for backend in policy.backends),
        upgrades=tuple(backend.upgrades for backend in policy.backends),
        aliases={alias: name for name, model in policy.models.items() for alias in model.aliases},
    )


def _served(backend: Backend, known: Discovery) -> Mapping[str, str]:
    return backend.models if backend.models is not None else {name: name for name in known.models}


def _claims(paths: Sequence[str], path: str) -> bool:
    return any(path.startswith(claim[:-1]) if claim.endswith("*") else path == claim for claim in paths)


def allows(patterns: Sequence[str], model: str) -> bool:
    """True if a tenant whose `models` are these patterns may use a model; only `*` stands for something else."""
    return any(pattern == "*" or fnmatchcase(model, _only_stars(pattern)) for pattern in patterns)


def _only_stars(pattern: str) -> str:
    return pattern.replace("[", "[[]").replace("?", "[?]")
