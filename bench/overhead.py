"""What the balancer costs, beside every peer that is installed: one command, one run, one machine, the same backends.

    python -m bench.overhead                        # everybody, 5 rounds, about half an hour
    python -m bench.overhead --quick                # one short round: does everything come up?
    python -m bench.overhead --only gpubalancer,envoy --rounds 3

Writes bench/results/overhead.md and overhead.json beside it. Peers come from bench/install_peers.sh.
"""

import os
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from bench import accounting, machine
from bench.load import play_apart
from bench.peers import CONTESTANTS, OURS, Contestant
from bench.report import DIRECT, Findings, as_json, markdown
from bench.running import (
    Cores,
    StartError,
    backends,
    contestant,
    divide_cores,
    end_processes_on_sigterm,
    raise_file_limit,
    run_values,
)
from bench.workloads import DEFAULT_RATE_PER_S, INTERVAL_S, WARM_UP, WARM_UP_S, WORKLOADS, Idle, Point, point

CHECKOUT = Path(__file__).parent.parent
REST_S = 0.3  # after the warm-up
IDLE_S = 1.0  # for how long an idle contestant is watched


def _say(text: str) -> None:
    click.echo(text, err=True)


def watch_idle(pid: int) -> Idle:
    """Memory and CPU of a process tree while nothing is asked of it."""
    time.sleep(REST_S)
    before_s, start_s = accounting.cpu_s(pid), time.perf_counter()
    time.sleep(IDLE_S)
    used_s = accounting.cpu_s(pid) - before_s
    return Idle(accounting.memory_bytes(pid), used_s / (time.perf_counter() - start_s))


@dataclass(frozen=True)
class Bench:
    """How long and how hard; `folder` takes the configurations and logs of this run."""

    rounds: int
    seconds: float
    rate_per_s: float
    seed: int
    cores: Cores
    folder: Path

    def measure(
        self, number: int, ports: tuple[int, ...], key: str = "none", row: Contestant | None = None, pid: int = 0
    ) -> list[Point]:
        """All workloads against one address; without a row that is the backends themselves."""
        name = row.name if row else DIRECT
        warm_up = WARM_UP.plan(row, ports, key, WARM_UP_S, self.rate_per_s, 0, pid)
        play_apart(warm_up, self.cores.others)
        idle = watch_idle(pid) if pid else Idle()
        points = []
        for workload in WORKLOADS:
            plan = workload.plan(row, ports, key, self.seconds, self.rate_per_s, self.seed + number, pid)
            result = play_apart(plan, self.cores.others)
            points.append(point(name, workload, number, plan, result, idle))
            cost_us = points[-1].cpu_us
            _say(f"  {name:14} {workload.name:12} {f'{cost_us:9.1f} us' if cost_us else '':12} failed {result.failed}")
        return points

    def visit(self, number: int, backend_ports: Sequence[int], row: Contestant, program: Path) -> list[Point]:
        """Start one contestant, measure it, stop it. Raises StartError."""
        values = run_values(backend_ports)
        with contestant(row, program, values, self.cores, self.folder / f"{number}-{row.name}") as started:
            return self.measure(number, (int(values["port"]),), values["key"], row, started.pid)

    def run(self, programs: dict[str, Path], absent: dict[str, str]) -> list[Point]:
        """All rounds; a contestant that does not start is put down in `absent` and not tried again."""
        points: list[Point] = []
        rows = {row.name: row for row in CONTESTANTS if row.name in programs}
        with backends(self.cores, self.folder, INTERVAL_S) as backend_ports:
            for number in range(self.rounds):
                order = [*rows, DIRECT]
                random.Random(self.seed + number).shuffle(order)
                _say(f"round {number + 1} of {self.rounds}: {', '.join(order)}")
                for name in order:
                    if name == DIRECT:
                        points += self.measure(number, tuple(backend_ports))
                        continue
                    try:
                        points += self.visit(number, backend_ports, rows[name], programs[name])
                    except StartError as failure:
                        absent[name] = f"did not start: {failure}"
                        del rows[name]
                        _say(f"  {name} {absent[name]}")
        return points


def chosen(only: str) -> list[Contestant]:
    """The rows that `--only` names, all if it is empty. Raises click.BadParameter for a name that is none."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    known = [row.name for row in CONTESTANTS]
    if unknown := sorted(set(names) - set(known)):
        raise click.BadParameter(f"{', '.join(unknown)}: not among {', '.join(known)}", param_hint="--only")
    return [row for row in CONTESTANTS if not names or row.name in names]


def notes_of(rows: Sequence[Contestant], cores: Cores, rate_per_s: float) -> list[str]:
    """What a reader must know beside the tables."""
    notes = [f"everybody is asked for {rate_per_s:,.0f} unary requests a second, well below saturation"]
    notes += [
        f"{row.name} would saturate at that load: it gets {min(rate_per_s, row.max_rate_per_s):g} requests a second "
        f"and {row.max_streams} streams in every stream workload"
        for row in rows
        if row.max_rate_per_s and row.max_streams
    ]
    if cores.shared:
        notes.append("this machine has one core, which all share: latencies mean little")
    return notes


def write(findings: Findings, out: Path) -> None:
    """The Markdown file and, beside it, the JSON."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(markdown(findings))
    out.with_suffix(".json").write_bytes(as_json(findings))
    _say(f"wrote {out} and {out.with_suffix('.json')}")


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.5), default=4.0, show_default=True, help="Length of each window.")
@click.option("--rate", "rate_per_s", type=click.FloatRange(1), default=DEFAULT_RATE_PER_S, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Orders and arrival times.")
@click.option("--only", default="", help="Names of contestants, with commas between them.")
@click.option("--quick", is_flag=True, help="One round of one second.")
@click.option(
    "--peers", type=click.Path(path_type=Path), default=CHECKOUT / ".venvs", help="Where install_peers.sh put them."
)
@click.option("--out", type=click.Path(path_type=Path), default=CHECKOUT / "bench" / "results" / "overhead.md")
def main(
    rounds: int, seconds: float, rate_per_s: float, seed: int, only: str, quick: bool, peers: Path, out: Path
) -> None:
    """Measure, then write the report. Ends with 1 if the balancer itself was asked for and did not start."""
    raise_file_limit()
    end_processes_on_sigterm()
    taken_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    rows = chosen(only)
    found = {row.name: row.find(peers) for row in rows}
    programs = {name: program for name, program in found.items() if program}
    absent = {name: "not installed" for name, program in found.items() if not program}
    versions = {row.name: row.version_text(programs[row.name]) for row in rows if row.name in programs}
    cores = divide_cores(sorted(os.sched_getaffinity(0)))
    if quick:
        rounds, seconds = 1, 1.0
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        points = Bench(rounds, seconds, rate_per_s, seed, cores, Path(folder)).run(programs, absent)
    findings = Findings(
        command=shlex.join(["python", "-m", "bench.overhead", *sys.argv[1:]]),
        taken_at=taken_at,
        machine=machine.describe(CHECKOUT),
        versions={name: text for name, text in versions.items() if name not in absent},
        settings={row.name: row.settings for row in rows},
        absent=absent,
        notes=notes_of([row for row in rows if row.name not in absent], cores, rate_per_s),
        points=points,
    )
    write(findings, out)
    if OURS in absent:
        raise click.ClickException(f"{OURS} {absent[OURS]}")


if __name__ == "__main__":
    main()
