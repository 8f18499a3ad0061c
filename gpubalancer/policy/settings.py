"""Every setting as data: its path, its type in words, its default, its meaning. Read from the schema's own fields.

A path's pattern has `[]` for any item of a list and `*` for any key of a mapping: `backends[].slots`,
`models.*.aliases`. Messages, reference and the search for a misspelt key all read this table.
"""

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from gpubalancer.policy.faults import dotted
from gpubalancer.policy.fields import LATER, OneOrMany, Part, Reading
from gpubalancer.policy.findings import Path
from gpubalancer.policy.schema import Policy


@dataclass(frozen=True, slots=True)
class Shape:
    """What a type takes: in words, in few words, the part it holds if any, and the pattern of the way to that part."""

    words: str
    short: str
    part: type[Part] | None = None
    suffix: str = ""
    reading: Reading | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the file.

    Attributes:
        pattern: its path with `[]` and `*`.
        words: what it takes, as messages say it.
        short: the same, as the reference says it.
        part: the mapping that it holds, if it holds one, alone or in a list or mapping.
        default: in the file's own spelling; None if it has to be given, empty if absence means something of its own.
        meaning: its description.
        is_secret: its values are never shown.
    """

    pattern: str
    words: str
    short: str
    part: type[Part] | None
    default: str | None
    meaning: str
    is_secret: bool


@cache
def settings() -> dict[str, Setting]:
    """All settings by pattern, in the file's order."""
    return {setting.pattern: setting for setting in _walk(Policy, "")}


@cache
def keys(pattern: str) -> tuple[str, ...]:
    """The keys that a mapping at `pattern` may have; the empty pattern is the whole file."""
    known = pattern + "." if pattern else ""
    nested = (found.removeprefix(known) for found in settings() if found.startswith(known))
    return tuple(key for key in nested if key and not set(key) & set(".[*"))


def pattern_of(path: Path) -> str:
    """The pattern of a path: indexes become `[]`, and keys that are the file's own words become `*`."""
    pattern = ""
    for key in path:
        if isinstance(key, int):
            pattern += "[]"
            continue
        known = f"{pattern}.{key}" if pattern else key
        is_free = f"{pattern}.*" in settings() or any(name.startswith(f"{pattern}.*.") for name in settings())
        pattern = f"{pattern}.*" if is_free else known
    return pattern


def is_secret(path: Path) -> bool:
    """True if what stands at `path`, or what it is a part of, is a secret."""
    ways = (pattern_of(path[:length]) for length in range(1, len(path) + 1))
    return any(way in settings() and settings()[way].is_secret for way in ways)


def idle(policy: Policy) -> list[str]:
    """What the file sets but nothing acts on yet, as dotted paths; for a warning to whoever relies on it."""
    return [dotted(path) for path in _idle(policy, ())]


def _idle(part: Part, path: Path) -> Iterator[Path]:
    for name, field in type(part).model_fields.items():
        value, at = getattr(part, name), (*path, field.alias or name)
        if value == field.default:
            continue
        if (field.description or "").endswith(LATER):
            yield at
        for key, inner in _items(value):
            if isinstance(inner, Part):
                yield from _idle(inner, (*at, *key))


def _items(value: object) -> list[tuple[Path, object]]:
    if isinstance(value, tuple):
        return [((index,), item) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return [((key,), item) for key, item in value.items()]
    return [((), value)]


def _walk(part: type[Part], prefix: str) -> Iterator[Setting]:
    for name, field in part.model_fields.items():
        pattern = prefix + (field.alias or name)
        shape = _shape(field.annotation, field.metadata)
        hidden = shape.reading is not None and shape.reading.is_secret
        meaning = field.description or ""
        yield Setting(pattern, shape.words, shape.short, shape.part, _default(field, shape), meaning, hidden)
        if shape.part is not None:
            yield from _walk(shape.part, f"{pattern}{shape.suffix}.")


def _shape(annotation: Any, metadata: Sequence[Any] = ()) -> Shape:
    for mark in metadata:
        if isinstance(mark, Reading):
            return Shape(mark.expected, mark.short or mark.expected, getattr(mark, "part", None), reading=mark)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = _shape(arguments[0], arguments[1:])
        one = _shape(get_args(arguments[0])[0]) if any(isinstance(mark, OneOrMany) for mark in arguments[1:]) else None
        return Shape(f"{one.words}, or a list of them", f"{one.short}, or a list") if one else inner
    if origin in (Union, types.UnionType):
        return _shape(next(argument for argument in arguments if argument is not type(None)))
    if origin is tuple:
        return _held(_shape(arguments[0]), "a list", "[]")
    if origin is dict:
        return _held(_shape(arguments[1]), "a mapping", ".*")
    if origin is Literal or issubclass(annotation, Enum):
        choice = one_of([str(argument) for argument in arguments or annotation])
        return Shape(choice, choice)
    return Shape("a mapping", "mapping", part=annotation)


def one_of(words: Sequence[str]) -> str:
    """A choice in words: `a, b or c`."""
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _held(inner: Shape, holder: str, suffix: str) -> Shape:
    words = f"{holder} of mappings" if inner.part else f"{holder}, with in it {inner.words}"
    return Shape(words, f"{holder.split()[1]}: {inner.short}", inner.part, suffix + inner.suffix, inner.reading)


def _default(field: FieldInfo, shape: Shape) -> str | None:
    if field.is_required():
        return None
    value = field.default
    if field.default_factory is not None or shape.part is not None or value in (None, "", (), {}):
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return f"[{', '.join(map(repr, value))}]".replace("'", '"')
    return str(shape.reading.write(value) if shape.reading else value)
