"""The tests' end of a program that obeys JSON lines (clients/lines.py): asks, waits with a deadline, tells errors."""

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real.servers import python_of, started

ANSWER_S = 60.0
"""Longest wait for a command; the longest of them streams thousands of events."""


@dataclass(frozen=True, slots=True)
class SdkError(Exception):
    """An error that the SDK raised: the names of its classes, most special first, and what it carried."""

    kinds: tuple[str, ...]
    carried: dict[str, Any]

    @property
    def kind(self) -> str:
        """The class that users would name in `except`."""
        return self.kinds[0]

    def __str__(self) -> str:
        return f"{self.kind}: {self.carried}"


@dataclass(frozen=True, slots=True)
class Program:
    """A running program."""

    process: "subprocess.Popen[bytes]"
    errors: Path

    def ask(self, command: str, **arguments: Any) -> Any:
        """What a command gives.

        Raises:
            SdkError: the SDK raised an error of its own.
            AssertionError: the program failed, or took too long.
        """
        self._send(command, arguments)
        return self._answer()

    def refused(self, command: str, **arguments: Any) -> SdkError:
        """The error that a command ends with."""
        try:
            value = self.ask(command, **arguments)
        except SdkError as error:
            return error
        raise AssertionError(f"{command} gave {value} instead of an error")

    def _send(self, command: str, arguments: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": command, "with": arguments}).encode() + b"\n")
        self.process.stdin.flush()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        patience = threading.Timer(ANSWER_S, self.process.kill)
        patience.start()
        try:
            line = self.process.stdout.readline()
        finally:
            patience.cancel()
        assert line, f"the program ended or took longer than {ANSWER_S} s: {self.errors.read_text()[-3000:]}"
        answer = json.loads(line)
        if "error" in answer:
            carried = answer["error"]
            raise SdkError(tuple(carried.pop("kinds")), carried)
        return answer["value"]


@contextmanager
def program(
    venv: str, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator[Program]:
    """Run a module of tests/real/clients in a virtual environment for the time of a block."""
    command = [python_of(venv), "-m", f"tests.real.clients.{module}", *arguments]
    with started(command, log, environment, answers=True) as process:
        yield Program(process, log)
        assert process.stdout is not None
        process.stdout.close()
