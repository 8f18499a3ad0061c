"""From what the schema refused to faults: where it stands in the file, what was found, what was expected.

pydantic names a kind of error and a location; `EXPECTED` says for each kind what was expected there. The values of
secrets are never shown, nor what came from the environment or a secret file, which may be a misplaced secret.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gpubalancer.policy.faults import Fault, shown
from gpubalancer.policy.fields import UnexpectedError
from gpubalancer.policy.findings import DisagreementError, Path, near, quoted
from gpubalancer.policy.settings import is_secret, keys, one_of, pattern_of, settings


@dataclass(slots=True)
class Tree:
    """The file's content, and where each value of it stands.

    Attributes:
        file: the file's name, for messages.
        data: mappings, lists and scalars; None where a value could not be read.
        lines: line of each key and item, counted from 1.
        origins: what to show instead of a value that came from the environment or a secret file.
        faults: what was wrong already.
    """

    file: str
    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    origins: dict[Path, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def fault(self, path: Path, found: str, expected: str) -> Fault:
        """A fault at `path`, on the line of the nearest thing that is in the file."""
        near_path = path
        while near_path and near_path not in self.lines:
            near_path = near_path[:-1]
        return Fault(self.file, self.lines.get(near_path, 1), path, found, expected)

    def shown(self, path: Path, value: object) -> str:
        """What a message may say of the value at `path`."""
        if value is None or isinstance(value, list | dict):
            return shown(value)
        return "a value that is not shown" if is_secret(path) else self.origins.get(path, shown(value))


def explain(error: ValidationError, tree: Tree) -> tuple[list[Fault], list[Fault]]:
    """What the schema refused: the values that are wrong, and the disagreements between sections.

    The second is looked for only when the first is empty.
    """
    wrong: list[Fault] = []
    disagreeing: list[Fault] = []
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, DisagreementError):
            disagreeing += [tree.fault(at.path, at.found, at.expected) for at in cause.findings]
        elif detail["type"] != "default_factory_not_called":
            wrong.append(_fault(detail, cause, tree))
    return wrong, disagreeing


def _fault(detail: ErrorDetails, cause: object, tree: Tree) -> Fault:
    path = _place(detail["loc"], tree)
    if detail["type"] == "extra_forbidden":
        return tree.fault(path, "an unknown key", near(str(path[-1]), keys(pattern_of(path[:-1]))))
    if isinstance(cause, UnexpectedError) and cause.found and not is_secret(path):
        return tree.fault(path, cause.found, str(cause))
    value = None if detail["type"] == "missing" else detail["input"]
    expected = EXPECTED.get(detail["type"], _as_declared)(detail, path)
    return tree.fault(path, tree.shown(path, value), expected)


def _place(location: tuple[int | str, ...], tree: Tree) -> Path:
    """The error's location as a path of the file: without pydantic's mark for keys, or the index of a bare value."""
    path = location[:-1] if location and location[-1] == "[key]" else location
    while path and isinstance(path[-1], int) and path not in tree.lines:
        path = path[:-1]
    return path


def _as_read(detail: ErrorDetails, path: Path) -> str:
    return str(detail["ctx"]["error"])


def _as_listed(detail: ErrorDetails, path: Path) -> str:
    """The choice of words, and which of them was probably meant. pydantic writes them as `'a', 'b' or 'c'`."""
    words = str(detail["ctx"]["expected"]).replace(" or ", ", ").split(", ")
    options = [word.strip("'") for word in words]
    choice = one_of(options)
    close = near(str(detail["input"]), options)
    return f"{choice} (did you mean {close}?)" if len(options) > 1 and close in map(quoted, options) else choice


def _as_mapping(detail: ErrorDetails, path: Path) -> str:
    if not path:
        return "settings, at least backends: [{url: http://127.0.0.1:8000}]"
    return "a mapping with keys such as " + ", ".join(keys(pattern_of(path))[:6])


def _as_declared(detail: ErrorDetails, path: Path) -> str:
    setting = settings().get(pattern_of(path))
    return setting.words if setting else "another value"


EXPECTED: dict[str, Callable[[ErrorDetails, Path], str]] = {
    "value_error": _as_read,
    "literal_error": _as_listed,
    "enum": _as_listed,
    "model_type": _as_mapping,
    "model_attributes_type": _as_mapping,
    "missing": _as_declared,
    "tuple_type": _as_declared,
    "dict_type": _as_declared,
}
