"""What a budget costs: reserve and settle, with several real processes that contend, and memory for each tenant.

The goal: reserve and settle take at most 25 us of CPU together with 4 workers, for 10 and for 100,000 tenants. Each
tenant has three budgets (tokens per minute, tokens per month, requests per minute), each worker a process of its own
that reserves for a tenant by chance and settles at once, as fast as it can. That is contention as it never is: no
request takes any time. With one tenant all workers want one lock.

    python -m bench.budget --out bench/results/budget.md
"""

import gc
import os
import random
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

import click

from bench import budget_valkey
from bench.figures import percentile
from bench.machine import describe
from bench.running import CHECKOUT
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_layout import ROW_BYTES
from gpubalancer.board.budget_locks import BusyError
from gpubalancer.board.budget_reservation import Reservation
from gpubalancer.board.budgets import Till
from gpubalancer.brain.budget import BudgetPlan
from gpubalancer.domain.budget import Claims, Spending
from gpubalancer.policy.budgets import Budget
from gpubalancer.policy.schema import Policy

GOAL_US = 25.0
WORKERS = 4
SIZES = (1, 10, 100_000)
BUDGETS = (
    {"unit": "tokens", "limit": "900G", "per": "1m"},
    {"unit": "tokens", "limit": "900G", "per": "month"},
    {"unit": "requests", "limit": "900G", "per": "1m"},
)
EXPECTED, ACTUAL = Spending(1200, 0, 400, 1), Spending(1200, 800, 250, 1)
LABEL = b"x" * 64
ROUNDS = 5
PATIENCE_S = 600.0


@dataclass(frozen=True)
class Cost:
    """What one worker found with some number of tenants: microseconds for reserve and settle together.

    Attributes:
        cpu_us: of its process, by round.
        wall_us: of single pairs, all rounds.
        first_us: of a tenant's first pair in this worker.
        bytes_per_tenant: by which its memory grew for each tenant.
    """

    cpu_us: tuple[float, ...]
    wall_us: tuple[float, ...]
    first_us: float
    bytes_per_tenant: float


@dataclass(frozen=True)
class Row:
    """All workers with some number of tenants."""

    tenants: int
    workers: Sequence[Cost]
    pairs_per_s: float
    file_bytes: int


def claims_of(tenants: int) -> list[Claims]:
    """What each tenant's requests count in."""
    budgets = [Budget.model_validate(settings) for settings in BUDGETS]
    names = (f"tenant-{number}" for number in range(tenants))
    return [Claims(tuple(budget.terms(name, "", "UTC") for budget in budgets), stops=False) for name in names]


def pair(till: Till, claims: Claims) -> None:
    """Reserve and settle once."""
    while True:
        try:
            answer = till.reserve(claims, EXPECTED, till.now_ns(), LABEL)
        except BusyError:
            continue
        if not isinstance(answer, Reservation):
            raise TypeError("refused")
        answer.settle(ACTUAL, till.now_ns())
        return


def resident_bytes() -> int:
    """The process's memory that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def work(pipe: Connection, path: Path, worker: int, tenants: int, pairs: int, barrier: Barrier) -> None:
    """One worker, in a process of its own; sends its cost."""
    till, chance = Till(BudgetFile.attach(path), worker), random.Random(worker)
    gc.collect()
    before_bytes = resident_bytes()
    claims = claims_of(tenants)
    began_s = time.process_time()
    for each in claims:
        pair(till, each)
    first_us = (time.process_time() - began_s) / tenants * 1e6
    gc.collect()
    grown_bytes = resident_bytes() - before_bytes
    cpu, wall = [], []
    for _ in range(ROUNDS):
        chosen = [chance.choice(claims) for _ in range(pairs)]
        barrier.wait()
        cpu_s = time.process_time()
        for each in chosen:
            began_s = time.perf_counter()
            pair(till, each)
            wall.append((time.perf_counter() - began_s) * 1e6)
        cpu.append((time.process_time() - cpu_s) / pairs * 1e6)
        barrier.wait()
    pipe.send(Cost(tuple(cpu), tuple(wall), first_us, grown_bytes / tenants))


def measure(tenants: int, workers: int, pairs: int) -> Row:
    """Start the workers, wait for each round, and take what they found."""
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "budgets"
        file = BudgetFile.create(path, len(BUDGETS) * tenants)
        barrier, pipes, processes = context.Barrier(workers + 1, timeout=PATIENCE_S), [], []
        for worker in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, path, worker, tenants, pairs, barrier), daemon=True)
            process.start()
            pipes.append(ours)
            processes.append(process)
        rates = []
        for _ in range(ROUNDS):
            barrier.wait()
            began_s = time.perf_counter()
            barrier.wait()
            rates.append(workers * pairs / (time.perf_counter() - began_s))
        costs = [pipe.recv() for pipe in pipes]
        for process in processes:
            process.join()
        file.close()
        return Row(tenants, costs, median(rates), path.stat().st_size)


def without(pairs: int) -> float:
    """Microseconds for a tenant that has no budgets: to find that out."""
    backend = {"url": "http://127.0.0.1:1"}
    plan = BudgetPlan(Policy.model_validate({"backends": [backend], "tenants": [{"name": "anybody"}]}))
    began_s = time.perf_counter()
    for _ in range(pairs):
        plan.claims("anybody", "model")
    return (time.perf_counter() - began_s) / pairs * 1e6


def report(
    command: str,
    machine: Mapping[str, str],
    rows: Sequence[Row],
    alone: Row,
    nothing_us: float,
    shared: Sequence[str] = (),
) -> str:
    """The findings as Markdown; `shared` are lines on budgets on a server."""
    worst = max(median(cost.cpu_us) for row in rows for cost in row.workers)
    lines = [
        "# Budgets",
        "",
        f"Taken {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by one command:",
        "",
        f"    {command}",
        "",
        "| machine |  |",
        "| --- | --- |",
        *(f"| {what} | {value} |" for what, value in machine.items()),
        "",
        f"Goal: reserve and settle take at most {GOAL_US:.0f} us of CPU together, with {WORKERS} workers that contend.",
        f"The dearest takes {worst:.1f} us: **{'met' if worst <= GOAL_US else 'missed'}**.",
        "",
        "Three budgets a tenant. CPU: of a worker's process for one pair, waiting for locks included; the median of",
        f"{ROUNDS} rounds and all workers, with the least and the greatest. Wall: of single pairs, where more workers",
        "than cores take turns. Each worker reserves and settles without a pause.",
        "",
        "| tenants | workers | CPU us per pair | wall us, median | 99 % | pairs per s, all workers |",
        "| --- | --- | --- | --- | --- | --- |",
        *map(_cost_row, [alone, *rows]),
        "",
        f"A tenant without budgets: {nothing_us:.2f} us.",
        "",
        "## Memory",
        "",
        f"A budget is a row of {ROW_BYTES} bytes in the shared file, made when it is first used. A worker remembers",
        "where the rows of a tenant are, and its terms.",
        "",
        "| tenants | file, bytes per tenant | worker, bytes per tenant | a tenant's first pair, us |",
        "| --- | --- | --- | --- |",
        *map(_memory_row, (row for row in rows if row.tenants >= 1000)),
        "",
        *shared,
    ]
    return "\n".join(lines)


def _cost_row(row: Row) -> str:
    cpu = [value for cost in row.workers for value in cost.cpu_us]
    wall = [value for cost in row.workers for value in cost.wall_us]
    spread = f"{median(cpu):.1f} ({min(cpu):.1f} to {max(cpu):.1f})"
    times = f"{median(wall):.1f} | {percentile(wall, 0.99):.0f}"
    return f"| {row.tenants:,} | {len(row.workers)} | {spread} | {times} | {row.pairs_per_s:,.0f} |"


def _memory_row(row: Row) -> str:
    worker_bytes = median(cost.bytes_per_tenant for cost in row.workers)
    first_us = median(cost.first_us for cost in row.workers)
    return f"| {row.tenants:,} | {row.file_bytes / row.tenants:,.0f} | {worker_bytes:,.0f} | {first_us:.0f} |"


@click.command()
@click.option("--pairs", type=click.IntRange(1), default=20_000, show_default=True, help="Of each worker and round.")
@click.option("--tenants", "sizes", type=click.IntRange(1), multiple=True, default=SIZES, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the report here too.")
def main(pairs: int, sizes: tuple[int, ...], out: Path | None) -> None:
    """Measure what budgets cost and print the report."""
    load = os.getloadavg()[0]
    alone = measure(sizes[0], 1, pairs)
    rows = [measure(tenants, WORKERS, pairs) for tenants in sizes]
    shared, server = [], budget_valkey.program()
    if server is not None:
        found = [budget_valkey.measure(server, claims_of(tenants), WORKERS, pairs) for tenants in sizes if tenants > 1]
        shared = budget_valkey.section(Path(server).name, found)
    command = f"python -m bench.budget --pairs {pairs}"
    machine = {**describe(CHECKOUT), "load before": f"{load:.1f} on these cores, of other work"}
    text = report(command, machine, rows, alone, without(pairs), shared)
    click.echo(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    main()
