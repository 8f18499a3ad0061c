"""A program that is told what to do: one JSON line in, one JSON line out.

`{"do": NAME, "with": {...}}` calls a command. The answer is `{"value": ...}`, or `{"error": ...}` where the SDK raised
an error of its own; any other error ends the program with a traceback, because it is a fault of the program.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

SAID = ("status_code", "code", "type", "param", "request_id")
"""What errors of the SDKs carry, if they carry it."""


def obey(commands: Mapping[str, Callable[..., Any]], error_type: type[Exception]) -> None:
    """Call the commands that standard input names until it ends.

    Arguments:
        commands: by name; what they return must be JSON.
        error_type: the root of the SDK's own errors.
    """
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"value": commands[asked["do"]](**asked["with"])}
        except error_type as error:
            answer = {"error": told(error)}
        print(json.dumps(answer, default=str), flush=True)


def told(error: Exception) -> dict[str, Any]:
    """An error as JSON: its class and those above it, its sentence, and what `SAID` names."""
    above = [kind.__name__ for kind in type(error).__mro__]
    return {"kinds": above, "message": str(error), **{name: getattr(error, name, None) for name in SAID}}
