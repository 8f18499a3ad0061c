"""Where the balancer's CPU goes: one workload of the overhead benchmark with py-spy watching, as two tables.

py-spy samples the stacks of the running process tree from outside and writes them folded ("outer;inner count"). A
function's own share is of samples with it innermost; its whole share is of samples with it anywhere. Time in native
code counts for the Python function that called it. What lets go of the interpreter's lock (waiting, and libuv's reads
of sockets) is left out unless `--all` is given, because waits cannot be told from work there. Run it as a module only:
a script's folder would hide Python's own `profile`.

    python -m bench.profile --workload stream_1000
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import click

from bench.load import play_apart
from bench.peers import CONTESTANTS, OURS
from bench.running import (
    CHECKOUT,
    StartError,
    backends,
    contestant,
    divide_cores,
    end_processes_on_sigterm,
    raise_file_limit,
    run_values,
)
from bench.workloads import DEFAULT_RATE_PER_S, INTERVAL_S, WORKLOADS

SAMPLES_PER_S = 500


def shares(folded: Iterable[str]) -> tuple[Counter[str], Counter[str], int]:
    """Samples by innermost function, samples by function anywhere in the stack, and all samples."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in folded:
        stack, _, count = line.rpartition(" ")
        frames = [frame for frame in stack.split(";") if not frame.startswith(("process ", "thread "))]
        if frames and count.isdigit():
            own[frames[-1]] += int(count)
            whole.update(dict.fromkeys(frames, int(count)))
    return own, whole, own.total()


def top(title: str, counts: Counter[str], total: int, rows: int) -> str:
    """The greatest shares, one a line."""
    lines = [f"{count / max(total, 1):6.1%}  {name}" for name, count in counts.most_common(rows)]
    return "\n".join([f"{title} ({total} samples)", *lines])


def find_py_spy(peers: Path) -> Path:
    """The profiler's program. Raises click.ClickException where there is none."""
    in_environment = peers / "py-spy" / "bin" / "py-spy"
    found = in_environment if in_environment.is_file() else shutil.which("py-spy")
    if not found:
        raise click.ClickException(f"no py-spy on PATH or in {in_environment.parent}: sh bench/install_peers.sh")
    return Path(found)


@click.command()
@click.option("--workload", "name", type=click.Choice([workload.name for workload in WORKLOADS]), default="unary_1k")
@click.option("--seconds", type=click.FloatRange(1), default=6.0, show_default=True)
@click.option("--rate", "rate_per_s", type=click.FloatRange(1), default=DEFAULT_RATE_PER_S, show_default=True)
@click.option("--rows", type=click.IntRange(1), default=30, show_default=True)
@click.option("--lines", is_flag=True, help="Tell lines apart, not only functions.")
@click.option(
    "--gil/--all", default=True, show_default=True, help="Only what holds the interpreter's lock, or waits too."
)
@click.option("--native", is_flag=True, help="Show frames of native extensions too (slower).")
@click.option("--peers", type=click.Path(path_type=Path), default=CHECKOUT / ".venvs")
def main(
    name: str, seconds: float, rate_per_s: float, rows: int, lines: bool, gil: bool, native: bool, peers: Path
) -> None:
    """Profile the balancer under one workload and print the top functions."""
    raise_file_limit()
    end_processes_on_sigterm()
    py_spy, cores = find_py_spy(peers), divide_cores(sorted(os.sched_getaffinity(0)))
    (workload,) = (workload for workload in WORKLOADS if workload.name == name)
    (row,) = (row for row in CONTESTANTS if row.name == OURS)
    with tempfile.TemporaryDirectory(prefix="profile-") as scratch, backends(cores, Path(scratch), INTERVAL_S) as ports:
        values, stacks = run_values(ports), Path(scratch) / "stacks.txt"
        options = [] if lines else ["--function"]
        options += [flag for flag, wanted in (("--gil", gil), ("--native", native)) if wanted]
        try:
            with contestant(row, Path(sys.executable), values, cores, Path(scratch) / OURS) as started:
                plan = workload.plan(row, (int(values["port"]),), values["key"], seconds, rate_per_s, 0, started.pid)
                record = ["--pid", str(started.pid), "--subprocesses", "--duration", str(round(seconds))]
                form = ["--rate", str(SAMPLES_PER_S), "--format", "raw", "--output", str(stacks), *options]
                with subprocess.Popen([py_spy, "record", *record, *form], stdout=subprocess.DEVNULL) as recorder:
                    result = play_apart(plan, cores.others)
                    recorder.wait()
        except StartError as failure:
            raise click.ClickException(f"{OURS} did not start: {failure}") from failure
        own, whole, total = shares(stacks.read_text().splitlines())
    click.echo(top("own", own, total, rows) + "\n\n" + top("whole", whole, total, rows))
    click.echo(f"\n{result.done} right, {result.failed} failed")


if __name__ == "__main__":
    main()
