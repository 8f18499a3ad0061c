"""What a reload changes, in the words of its log: which backends, and what only a restart brings into force."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel

from gpubalancer.policy.faults import dotted
from gpubalancer.policy.schema import Policy

RESTART = (("listen",), ("admin", "host"), ("admin", "port"), ("state",), ("routing", "prefixes", "table_bytes"))
"""Settings that belong to what is made once at the start: sockets, workers, the board, the stores."""


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """The difference between two policies.

    Attributes:
        added: backends that are new, by name.
        removed: backends that are gone.
        changed: backends of which any setting differs.
        needs_restart: dotted paths of settings that differ and have no effect before a restart.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


def diff(old: Policy, new: Policy) -> PolicyChange:
    """What is different in `new`. Backends are the same if their names are; values are never told, only where."""
    before = {backend.name: backend for backend in old.backends}
    after = {backend.name: backend for backend in new.backends}
    return PolicyChange(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in after if name in before and after[name] != before[name]),
        needs_restart=tuple(
            dotted(path) for path in _differences(old, new, ()) if any(path[: len(way)] == way for way in RESTART)
        ),
    )


def _differences(old: BaseModel, new: BaseModel, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Paths of the settings that differ, as deep as both sides have the same sections."""
    for name, field in type(old).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        at = (*path, field.alias or name)
        if isinstance(before, BaseModel) and isinstance(after, BaseModel):
            yield from _differences(before, after, at)
        elif before != after:
            yield at
