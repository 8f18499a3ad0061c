"""What is wrong with a policy file, in lines that an operator can act on.

Every fault says the same things in the same order: where (file, line, setting), what was found, what was expected.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gpubalancer.policy.findings import Path, quoted

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the file.

    Attributes:
        file: as it was given on the command line.
        line_number: counted from 1.
        path: the setting's keys; empty for the file as a whole.
        found: what the file says; never a secret.
        expected: what would have been right.
    """

    file: str
    line_number: int
    path: Path
    found: str
    expected: str

    def line(self) -> str:
        """The fault on one line, as compilers print theirs: `FILE:LINE: SETTING: found ..., expected ...`."""
        place = f"{dotted(self.path)}: " if self.path else ""
        text = f"{self.file}:{self.line_number}: {place}found {self.found}, expected {self.expected}"
        return "".join(letter if letter.isprintable() else "?" for letter in text)


class PolicyError(Exception):
    """The file is refused, for all these reasons, in the order of their lines."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = sorted(faults, key=lambda fault: (fault.line_number, dotted(fault.path)))
        super().__init__("\n".join(fault.line() for fault in self.faults))


class UnreadableFilesError(PolicyError):
    """The policy is right, but files that it names (certificates, keys) can't be read on this machine."""


def dotted(path: Path) -> str:
    """A path as people write it: `backends[1].slots`, `models["llama-3.1-8b"].aliases`."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        elif _PLAIN_KEY.fullmatch(key):
            text += f".{key}" if text else key
        else:
            text += f"[{quoted(key)}]"
    return text


def shown(value: object) -> str:
    """A value as a message shows it: texts and numbers themselves, of lists and mappings only what they are."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    return str(value)[:60]
