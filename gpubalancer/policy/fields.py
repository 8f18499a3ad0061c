"""How one value of the policy file is read, written back and described.

A `Reading` stands in a field's type: `Annotated[float, duration()]`. Its `read` turns what YAML gives into the Python
value or raises `ValueError` whose text is what was expected; `write` is the inverse, for `dump` and the documentation.
Thus a number's unit, its bounds, its message and its JSON Schema stand in one place.

Nothing is coerced behind the operator's back: `true` is not 1, and 1 is not text.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SecretStr,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from gpubalancer.policy import units

Json = dict[str, Any]

LATER = "*Checked, not acted on yet.*"
"""Ends the description of what is accepted before the part that reads it exists."""


class UnexpectedError(ValueError):
    """A refused value. The text is what was expected; `found` says what was found, where that is only a part of it."""

    def __init__(self, expected: str, found: str | None = None) -> None:
        super().__init__(expected)
        self.found = found


class Part(BaseModel):
    """A mapping of the file: frozen, no unknown keys, and a key without a value is as if it were not there."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {key: value for key, value in data.items() if value is not None or key not in known}


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One kind of value.

    Attributes:
        expected: what messages call it.
        read: from YAML's value to ours; raises `ValueError`.
        json: its JSON Schema.
        write: from our value to what `read` takes.
        is_secret: no message may show what was found.
        short: what the reference calls it, where `expected` is long.
    """

    expected: str
    read: Callable[[Any], Any]
    json: Json
    write: Callable[[Any], Any] = lambda value: value
    is_secret: bool = False
    short: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        writer = core_schema.plain_serializer_function_ser_schema(self.write, when_used="json")
        return core_schema.no_info_plain_validator_function(self.read, serialization=writer)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return dict(self.json)


@dataclass(frozen=True, slots=True, eq=False)
class SecretReading(Reading):
    """A secret: shown as stars unless the writer's context says `reveal`, and empty text is no secret at all."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        writer = core_schema.plain_serializer_function_ser_schema(_write_secret, info_arg=True, when_used="json")
        return core_schema.no_info_plain_validator_function(self.read, serialization=writer)


@dataclass(frozen=True, slots=True, eq=False)
class PathReading(Reading):
    """A file or folder; a relative one starts at the policy file's folder, which the context names while loading."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        writer = core_schema.plain_serializer_function_ser_schema(str, when_used="json")
        return core_schema.with_info_plain_validator_function(self._resolve, serialization=writer)

    def _resolve(self, value: Any, info: core_schema.ValidationInfo[Any]) -> Path:
        path: Path = self.read(value)
        folder: Path | None = (info.context or {}).get("folder")
        return folder / path if folder else path


@dataclass(frozen=True, slots=True, eq=False)
class OneOrMany:
    """Stands before a tuple's type: one value may be written without the brackets of a list."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_listed, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        many = handler(schema)
        return {"anyOf": [many.get("items", {}), many]}


def later(meaning: str) -> str:
    """The description of a setting, or of a whole section, that is checked but that nothing acts on yet."""
    return f"{meaning} {LATER}"


def text(expected: str, is_valid: Callable[[str], object], short: str = "") -> Reading:
    """A text that `is_valid` accepts."""

    def read(value: Any) -> str:
        if isinstance(value, str) and is_valid(value):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool) and is_valid(str(value)):
            raise ValueError(f'{expected} (put it in quotes: "{value}")')
        raise ValueError(expected)

    return Reading(expected, read, {"type": "string"}, short=short)


def whole(at_least: int, at_most: int | None = None) -> Reading:
    """A whole number within bounds. Digits in quotes are taken too, because `"${PORT}"` gives them."""
    bounds = f" of at least {at_least}" if at_most is None else f" from {at_least} to {at_most}"
    expected = "a whole number" + bounds
    ceiling = units.MAX_COUNT if at_most is None else at_most

    def read(value: Any) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 17:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not at_least <= value <= ceiling:
            raise ValueError(expected)
        return value

    number: Json = {"type": "integer", "minimum": at_least, "maximum": ceiling}
    return Reading(expected, read, {"anyOf": [number, {"type": "string", "pattern": r"^([0-9]+|.*\$\{.*)$"}]})


def number(*, above_zero: bool = False) -> Reading:
    """A finite number that is not negative (or above zero)."""
    expected = "a number above 0" if above_zero else "a number of at least 0"

    def read(value: Any) -> float:
        if isinstance(value, str):
            value = _float_or_none(value)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= units.MAX_COUNT:
            raise ValueError(expected)
        if above_zero and value == 0:
            raise ValueError(expected)
        return float(value)

    bound = {"exclusiveMinimum": 0} if above_zero else {"minimum": 0}
    return Reading(expected, read, {"anyOf": [{"type": "number", **bound}, {"type": "string"}]})


def duration(*, above_zero: bool = True) -> Reading:
    """A duration, in seconds. A timeout of zero would end everything at once, so most are above zero."""
    expected = units.DURATION + (", above zero" if above_zero else "")

    def read(value: Any) -> float:
        seconds = units.duration_s(value)
        if above_zero and seconds <= 0:
            raise ValueError(expected)
        return seconds

    short = "duration above 0" if above_zero else "duration"
    return Reading(expected, read, {"type": "string"}, units.write_duration, short=short)


def size(at_least: int) -> Reading:
    """A size in bytes with a floor below which the setting could not work."""
    expected = f"{units.SIZE}, at least {units.write_size(at_least)}"

    def read(value: Any) -> int:
        size_bytes = units.size_bytes(value)
        if size_bytes < at_least:
            raise ValueError(expected)
        return size_bytes

    short = f"size of at least {units.write_size(at_least)}"
    return Reading(expected, read, {"type": ["integer", "string"]}, units.write_size, short=short)


def count(at_least: int) -> Reading:
    """A count, `100k` and `2M` included, with a floor."""
    expected = f"{units.COUNT}, at least {at_least}"

    def read(value: Any) -> int:
        number = units.count(value)
        if number < at_least:
            raise ValueError(expected)
        return number

    short = f"count of at least {at_least}"
    return Reading(expected, read, {"type": ["integer", "string"]}, units.write_count, short=short)


def _float_or_none(value: str) -> float | None:
    try:
        parsed = float(value)
    except ValueError:
        return None
    return parsed if math.isfinite(parsed) else None


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def _read_secret(value: Any) -> SecretStr | None:
    if isinstance(value, SecretStr):
        return value
    if not (isinstance(value, str) and value.isprintable() and value.isascii() and " " not in value):
        raise ValueError("a secret in quotes, of printable ASCII without spaces, because it travels in a header")
    return SecretStr(value) if value else None


def _write_secret(value: SecretStr | None, info: core_schema.SerializationInfo[Any]) -> str | None:
    if value is None:
        return None
    return value.get_secret_value() if (info.context or {}).get("reveal") else "**********"


def _read_path(value: Any) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("a path")
    return Path(value)


def _is_name(value: str) -> bool:
    return (
        len(value) <= 260
        and value.isascii()
        and any(letter.isalnum() for letter in value)
        and all(letter.isalnum() or letter in "._:@[]-" for letter in value)
    )


def _is_model(value: str) -> bool:
    return 0 < len(value) <= 256 and value.isprintable() and not any(letter in " *\"'" for letter in value)


def _is_model_pattern(value: str) -> bool:
    return _is_model(value.replace("*", "x"))


def _is_title(value: str) -> bool:
    return len(value.strip()) > 0 and len(value) <= 128 and value.isprintable()


NAME = text("a name of letters, digits and . _ : @ -", _is_name, "name")
MODEL = text("a model's name without spaces or *", _is_model, "model's name")
MODEL_PATTERN = text('a model\'s name, or a pattern such as "*" or "llama-*"', _is_model_pattern, "name or pattern")
TITLE = text("a short text on one line", _is_title)
SECRET = SecretReading("a secret as text", _read_secret, {"type": "string"}, is_secret=True)

Name = Annotated[str, NAME]
ModelName = Annotated[str, MODEL]
ModelPattern = Annotated[str, MODEL_PATTERN]
Title = Annotated[str, TITLE]
Secret = Annotated[SecretStr | None, SECRET]
FilePath = Annotated[Path, PathReading("a path", _read_path, {"type": "string"})]
Timeout = Annotated[float, duration()]
Port = Annotated[int, whole(0, 65_535)]
Positive = Annotated[int, whole(1)]
Number = Annotated[float, number()]
Labels = dict[Name, Title]
