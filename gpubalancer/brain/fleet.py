"""All backends as columns.

Index i is the i-th backend of the policy. What the policy fixes is a column here; what changes (up, draining, in
flight) is a column on the board, and `rows` says which of its rows is whose. A constraint is a boolean vector over the
fleet, a cost a vector of numbers, so that the choice is an `argmin`.

Few kinds of work repeat, so the vectors are kept by what they follow from (`signature`). The length of a prompt is not
among it: it hardly ever decides, and it would make every request its own kind.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gpubalancer.brain.routes import apis_of
from gpubalancer.domain.decision import Reason
from gpubalancer.domain.work import Preference, Selection, Work
from gpubalancer.policy.backends import Backend
from gpubalancer.policy.schema import Policy
from gpubalancer.policy.tenants import allows as allows

Flags = NDArray[np.bool_]
Seconds = NDArray[np.float64]
_CACHE_LIMIT = 4096
_Key = TypeVar("_Key", bound=Hashable)
_Column = TypeVar("_Column", Flags, Seconds)


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was learned from a backend that the policy leaves open."""

    models: tuple[str, ...] = ()
    engine: str | None = None
    kind: str | None = None
    adapters: tuple[str, ...] = ()
    """Models that change another one (LoRA), which an engine loads when they are first asked for."""


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
    engines: tuple[str | None, ...]
    hardware: tuple[str | None, ...]
    labels: tuple[frozenset[tuple[str, str]], ...]
    claims: tuple[tuple[str, ...], ...]
    upgrades: tuple[tuple[str, ...], ...]
    aliases: Mapping[str, str]
    contexts: Mapping[str, int]
    """Public model name -> tokens of prompt and answer together, for the models whose limit is known."""
    adapters: frozenset[str] = frozenset()
    """Public names of models that are adapters of another."""
    _eligible: dict[Hashable, Flags] = field(default_factory=dict)
    _preferences: dict[tuple[Preference, ...], Seconds] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def index_of_row(self) -> Mapping[int, int]:
        """The inverse of `rows`."""
        return {row: index for index, row in enumerate(self.rows.tolist())}

    @cached_property
    def pools(self) -> NDArray[np.intp]:
        """For each backend the number of its pool: those that serve the same models are one."""
        numbers: dict[frozenset[str], int] = {}
        return np.array([numbers.setdefault(frozenset(each), len(numbers)) for each in self.served], dtype=np.intp)

    def resolve(self, asked: str) -> str | None:
        """The public name of a model that a client asked for; None if nobody serves it."""
        name = self.aliases.get(asked, asked)
        return name if name in self._names else None

    def models(self) -> list[str]:
        """All public names, sorted."""
        return sorted(self._names)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(name for served in self.served for name in served)

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Row on the board and slots of each backend, as plain numbers."""
        return tuple(zip(self.rows.tolist(), self.slots.tolist(), strict=True))

    def claimed(self, path: str) -> bool:
        """True if some backend claims this path."""
        return any(_claims(claims, path) for claims in self.claims)

    def upgradable(self, path: str) -> bool:
        """True if some backend may be asked for another protocol on this path."""
        return any(path in upgrades for upgrades in self.upgrades)

    def eligible(self, work: Work) -> Flags:
        """Backends that could ever serve this work. The answer is kept, shared and read-only."""
        key = signature(work)
        flags = self._eligible.get(key)
        if flags is None:
            flags = np.array([self._objection(index, work) is None for index in range(len(self))], dtype=np.bool_)
            _keep(self._eligible, key, flags)
        return flags if not self.exceeds_context(work) else np.zeros(len(self), dtype=np.bool_)

    def ineligible(self, work: Work) -> list[Reason | None]:
        """For each backend, the first constraint by which it could never serve this work."""
        context: Reason | None = "context" if self.exceeds_context(work) else None
        return [self._objection(index, work) or context for index in range(len(self))]

    def exceeds_context(self, work: Work) -> bool:
        """True if the prompt, counted and not estimated, leaves no token of the model's context for an answer.

        Expected output is no reason: engines end an answer where the context ends. Of a batch only the sum is known, so
        it is the average prompt that has to fit.
        """
        limit = self.contexts.get(work.model) if self.contexts and work.model is not None else None
        return limit is not None and work.counted and work.prompt_tokens >= limit * work.batch

    def preference_s(self, work: Work) -> Seconds:
        """What rules and a loaded adapter take off each backend's cost; shape (backends,), seconds, 0 or less.

        Several preferences for one backend add up. The answer is kept, shared and read-only.
        """
        wanted = work.preferred + work.loaded
        seconds = self._preferences.get(wanted)
        if seconds is None:
            seconds = np.zeros(len(self))
            for preference in wanted:
                fits = [self._fits(index, preference.selection) for index in range(len(self))]
                seconds -= preference.worth_s * np.array(fits, dtype=np.float64)
            _keep(self._preferences, wanted, seconds)
        return seconds

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
        kind = self.kinds[index]
        if not (work.kinds is None or kind in work.kinds) or not work.labels <= self.labels[index]:
            return "tenant"
        is_denied = bool(work.denied_kinds) and (kind is None or kind in work.denied_kinds)
        is_fit = not is_denied and all(self._fits(index, selection) for selection in work.required)
        return None if is_fit else "rule"

    def _fits(self, index: int, selection: Selection) -> bool:
        """True if a backend is what a rule asks for. What is not known of it does not fit."""
        asked = (
            (selection.names, self.names[index]),
            (selection.kinds, self.kinds[index]),
            (selection.engines, self.engines[index]),
            (selection.hardware, self.hardware[index]),
        )
        return all(not wanted or has in wanted for wanted, has in asked) and selection.labels <= self.labels[index]


def signature(work: Work) -> Hashable:
    """What `eligible` follows from, prompt's length apart: work of one signature may be served by the same backends."""
    return (
        work.api,
        work.model,
        work.sent_name,
        work.tier,
        work.kinds,
        work.labels,
        work.claim,
        work.upgrade,
        work.required,
        work.denied_kinds,
    )


def _keep(kept: dict[_Key, _Column], key: _Key, column: _Column) -> None:
    column.setflags(write=False)
    if len(kept) >= _CACHE_LIMIT:
        kept.clear()
    kept[key] = column


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
        engines=tuple(backend.engine or known.engine for backend, known in zip(policy.backends, found, strict=True)),
        hardware=tuple(backend.hardware for backend in policy.backends),
        labels=tuple(frozenset(backend.labels.items()) for backend in policy.backends),
        claims=tuple(backend.paths for backend in policy.backends),
        upgrades=tuple(backend.upgrades for backend in policy.backends),
        aliases={alias: name for name, model in policy.models.items() for alias in model.aliases},
        adapters=frozenset(name for known in found for name in known.adapters),
        contexts={name: model.context_tokens for name, model in policy.models.items() if model.context_tokens},
    )


def _served(backend: Backend, known: Discovery) -> Mapping[str, str]:
    return backend.models if backend.models is not None else {name: name for name in known.models}


def _claims(paths: Sequence[str], path: str) -> bool:
    return any(path.startswith(claim[:-1]) if claim.endswith("*") else path == claim for claim in paths)
