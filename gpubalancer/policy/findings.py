"""What a check has to say: the words of `checks` and `rule_checks`.

A finding names the place by the file's keys, so that `load` can turn it into a line.
"""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement: where, what was found, and what was expected."""

    path: Path
    found: str
    expected: str


class DisagreementError(ValueError):
    """Sections that do not agree; `findings` says where."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("; ".join(f"{at.path}: found {at.found}, expected {at.expected}" for at in findings))
        self.findings = findings


def quoted(value: str, longest: int = 60) -> str:
    """A text as a message shows it: in quotes, on one line, cut when long."""
    cut = value if len(value) <= longest else value[: longest - 3] + "..."
    return json.dumps(cut, ensure_ascii=not value.isprintable())


def listed(values: Iterable[str]) -> str:
    """Texts as a message shows them, each in quotes; long lists are cut."""
    shown = [quoted(value) for value in values]
    return ", ".join([*shown[:8], "..."] if len(shown) > 8 else shown)


def near(value: str, known: Iterable[str]) -> str:
    """What `value` was probably meant to be, else what there is."""
    names = list(dict.fromkeys(known))
    if close := difflib.get_close_matches(value, names, 1):
        return quoted(close[0])
    return listed(names) if names else "none, as none is declared"
