"""The load generator: a process of its own that plays one plan and prints what it saw as one line of JSON.

It reads the accounting of the contestant (`watch_pid`) itself, so that both sides of a division are of the same
instants.

    python -m bench.load '{"kind": "unary", "ports": [9001], "key": "k", "prompt_bytes": 1024, "seconds": 2,
                           "connections": 64, "rate_per_s": 500}'
"""

import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

import orjson
import uvloop

from bench.plan import Plan, Result
from bench.streams import StreamRun
from bench.unary import UnaryRun

KINDS: dict[str, type[UnaryRun] | type[StreamRun]] = {"unary": UnaryRun, "stream": StreamRun}
CHECKOUT = Path(__file__).parent.parent


class LoadError(RuntimeError):
    """The generator itself ended with an error; the message is its last output."""


def play(plan: Plan) -> Result:
    """Play a plan in this process."""
    run = KINDS[plan.kind](plan)
    return uvloop.run(run.play())


def play_apart(plan: Plan, cores: Collection[int] = ()) -> Result:
    """Play a plan in a process of its own, on these cores. Raises LoadError."""
    command = [sys.executable, "-m", "bench.load", orjson.dumps(asdict(plan)).decode()]
    pin = ["taskset", "-c", ",".join(map(str, sorted(cores)))] if cores else []
    ended = subprocess.run([*pin, *command], capture_output=True, text=True, check=False, cwd=CHECKOUT)
    if ended.returncode:
        raise LoadError(ended.stderr[-2000:])
    return Result(**orjson.loads(ended.stdout))


def main(arguments: Sequence[str]) -> None:
    """Play the plan that is the only argument."""
    (text,) = arguments
    fields = orjson.loads(text)
    plan = Plan(**fields | {"ports": tuple(fields["ports"])})
    sys.stdout.write(orjson.dumps(asdict(play(plan))).decode() + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
