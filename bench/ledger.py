"""What the ledger costs: a line of the journal, taking lines in, and a report over a month.

Appending is timed in the process that does it, from the ended request to the written line, with as many writers at once
as are asked for. Taking in is timed from segments that lie there to the committed roll-ups. A month is made of
generated roll-ups that add up to 10 million requests, and the report is timed inside the process and as the whole
`usage` command, with Python's start.

    python -m bench.ledger --postgres postgresql://user@127.0.0.1/empty --out bench/results/ledger.md
"""

import asyncio
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import click

from bench.machine import describe
from bench.running import CHECKOUT
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budgets import Till
from gpubalancer.domain.budget import Spending
from gpubalancer.domain.outcome import Outcome
from gpubalancer.ledger import schema
from gpubalancer.ledger.ingest import DATABASE, JOURNAL, Ledger, Retention
from gpubalancer.ledger.journal import Journal
from gpubalancer.ledger.postgres import PostgresStore
from gpubalancer.ledger.records import line_of
from gpubalancer.ledger.report import usage
from gpubalancer.ledger.sqlite import SqliteStore
from gpubalancer.ledger.store import By, Query, Store
from gpubalancer.proxy.label import label_of, server_of

MONTH_REQUESTS = 10_000_000
GOAL_S = 2.0
ROUNDS = 5
TENANTS, MODELS, BACKENDS, TIERS = 50, 5, 8, 2
QUESTIONS: tuple[tuple[By, ...], ...] = (("tenant",), ("model", "day"), ("tenant", "key", "model", "backend", "tier"))
POLICY = "version: 1\nbackends: [{url: http://127.0.0.1:9001}]\nstate: {directory: %s}\n"


@dataclass(frozen=True)
class Appending:
    """Writers at once, microseconds for each line in each (wall, processor), lines per second, bytes of a line."""

    writers: int
    line_us: tuple[float, ...]
    cpu_us: tuple[float, ...]
    lines_per_s: float
    line_bytes: int


@dataclass(frozen=True)
class Taking:
    """A database, lines per second into it in each round, and bytes that it takes for a line, if that is known."""

    name: str
    lines_per_s: tuple[float, ...]
    line_bytes: float | None


@dataclass(frozen=True)
class Command:
    """Seconds of the wall and of a processor that a whole command took in each round, Python's start included."""

    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]


@dataclass(frozen=True)
class Asking:
    """A question over a month: rows of roll-ups, rows of the answer, seconds in the process in each round."""

    by: tuple[By, ...]
    rollups: int
    rows: int
    seconds: tuple[float, ...]


def outcome(number: int, source: random.Random) -> Outcome:
    """A request that has ended."""
    return Outcome(
        f"req-{number:012d}",
        100.0,
        decision_id=f"decision-{number:08d}",
        key_id="0a1b2c3d",
        kind="gpu",
        path="/v1/chat/completions",
        api="chat",
        tenant=f"tenant-{source.randrange(TENANTS)}",
        model=f"model-{source.randrange(MODELS)}",
        backend=f"backend-{source.randrange(BACKENDS)}",
        tier="internal",
        tier_source="tenant",
        attempts=1,
        streamed=True,
        status=200,
        first_token_s=100.31,
        last_token_s=103.5,
        ended_s=103.5,
        prompt_tokens=source.randrange(10_000),
        completion_tokens=source.randrange(2000),
        usage_source="reported",
    )


def write(directory: Path, worker: str, lines: int) -> tuple[float, float]:
    """Append lines; returns microseconds for each, of the wall and of a processor."""
    source = random.Random(worker)
    ended = [outcome(number, source) for number in range(min(lines, 1000))]
    journal = Journal(directory, worker)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for number in range(lines):
        spending = Spending(ended[number % 1000].prompt_tokens, 0, 700, 1, 1_234_567, 98_765)
        journal.append(line_of(ended[number % 1000], spending, time.time_ns() // 1000))
    took_s, used_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    journal.close()
    return took_s / lines * 1e6, used_s / lines * 1e6


def append_cost(directory: Path, writers: int, lines: int) -> Appending:
    """Time several writers at once, each in a process of its own."""
    with get_context("spawn").Pool(writers) as pool:
        jobs = [(directory, f"{writers}x{number}", lines) for number in range(writers)]
        line_us, cpu_us = zip(*pool.starmap(write, jobs, chunksize=1), strict=True)
    size_bytes = sum(path.stat().st_size for path in directory.glob(f"*-{writers}x*"))
    return Appending(writers, line_us, cpu_us, sum(1e6 / each for each in line_us), size_bytes // (writers * lines))


def slot_cost(directory: Path, requests: int) -> float:
    """Microseconds of a processor for the slot of one request that no budget counts, from its beginning to its end."""
    file = BudgetFile.create(directory / "budgets")
    till = Till(BudgetFile.attach(directory / "budgets"), 0)
    ended, spending = outcome(0, random.Random(0)), Spending(1500, 0, 200, 1)
    began_s = time.process_time()
    for _ in range(requests):
        reservation = till.enter(till.now_ns(), label_of(ended))
        reservation.sent(1500, server_of(ended))
        reservation.settle(spending, 0, keep=True)
        reservation.forget()
    used_s = time.process_time() - began_s
    till.close()
    file.close()
    return used_s / requests * 1e6


def say(event: str, /, **details: object) -> None:
    """Take what the ledger tells."""
    click.echo(f"{event} {details}", err=True)


async def take_in(journal: Path, store: Store) -> float:
    """Lines per second from a journal into a database."""
    ledger = Ledger(journal, store, say, Retention())
    await ledger.open()
    began_s = time.perf_counter()
    lines = await ledger.catch_up()
    took_s = time.perf_counter() - began_s
    await ledger.close()
    return lines / took_s


def sqlite_cost(directory: Path, lines: int, rounds: int) -> Taking:
    """Time SQLite on a new file in each round."""
    write(directory / JOURNAL, "1", lines)
    rates = []
    for number in range(rounds):
        path = directory / f"{number}.sqlite"
        rates.append(asyncio.run(take_in(directory / JOURNAL, SqliteStore(path))))
    return Taking("SQLite", tuple(rates), path.stat().st_size / lines)


def postgres_cost(directory: Path, url: str, lines: int, rounds: int) -> Taking:
    """Time PostgreSQL: a new journal in each round, as its segments must be new to the server."""
    rates = []
    for number in range(rounds):
        write(directory / f"{number}", "1", lines)
        rates.append(asyncio.run(take_in(directory / f"{number}", PostgresStore(url))))
    return Taking("PostgreSQL", tuple(rates), None)


async def make_month(path: Path, rollups: int) -> None:
    """A database whose roll-ups of 30 days add up to 10 million requests."""
    store = SqliteStore(path)
    await store.open()
    await store.close()
    keys = max(1, rollups // (30 * TENANTS * MODELS * BACKENDS * TIERS))
    days = [(date(2026, 11, 1) + timedelta(days=number)).isoformat() for number in range(30)]
    groups = [
        (day, f"tenant-{tenant}", f"{tenant:04x}{key:04x}", f"model-{model}", f"backend-{backend}", f"tier-{tier}")
        for day in days
        for tenant in range(TENANTS)
        for key in range(keys)
        for model in range(MODELS)
        for backend in range(BACKENDS)
        for tier in range(TIERS)
    ]
    each, more = divmod(MONTH_REQUESTS, len(groups))
    rows = [
        (*group, count, 0, count * 1500, count * 300, count * 200, count * 10**6, count * 10**5)
        for group, count in zip(groups, (each + (at < more) for at in range(len(groups))), strict=True)
    ]
    connection = sqlite3.connect(path)
    connection.executemany(schema.ADD_ROLLUP, rows)
    connection.commit()
    connection.close()


async def ask(path: Path, by: tuple[By, ...], rounds: int) -> Asking:
    """Time one question."""
    store = SqliteStore(path)
    await store.open()
    ((_, everything),) = await store.usage(Query(()))
    if everything.requests != MONTH_REQUESTS:
        raise click.ClickException(f"the month has {everything.requests} requests")
    with closing(sqlite3.connect(path)) as connection:
        (rollups,) = connection.execute("SELECT COUNT(*) FROM rollups").fetchone()
    seconds = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        report = await usage(store, Query(by, since=date(2026, 11, 1)))
        seconds.append(time.perf_counter() - began_s)
    await store.close()
    return Asking(by, rollups, len(report["rows"]), tuple(seconds))


def command_s(state: Path, by: tuple[By, ...], rounds: int) -> Command:
    """The whole command in a process of its own."""
    policy = state / "gpubalancer.yaml"
    policy.write_text(POLICY % state)
    command = [sys.executable, "-m", "gpubalancer", "usage", "--config", str(policy), "--json", "--by", ",".join(by)]
    wall_s, cpu_s = [], []
    for _ in range(rounds):
        began_s, before_s = time.perf_counter(), _children_s()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall_s.append(time.perf_counter() - began_s)
        cpu_s.append(_children_s() - before_s)
    return Command(tuple(wall_s), tuple(cpu_s))


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def report(
    command: str,
    machine: Mapping[str, str],
    appendings: Sequence[Appending],
    takings: Sequence[Taking],
    askings: Sequence[tuple[Asking, Command]],
    slot_us: float,
) -> str:
    """The findings as Markdown."""
    lines = [
        "# The ledger",
        "",
        f"Taken {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by one command:",
        "",
        f"    {command}",
        "",
        "| machine |  |",
        "| --- | --- |",
        *(f"| {what} | {value} |" for what, value in machine.items()),
        "",
        "## Outcomes into the journal",
        "",
        "From the ended request to the line in the file: JSON, checksum, one `write`. It waits for no disk.",
        "",
        "| writers | us of a processor per line | us per line | lines per s, all together | bytes per line |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {each.writers} | {_spread(each.cpu_us, 1)} | {_spread(each.line_us, 1)} | {each.lines_per_s:,.0f} "
            f"| {each.line_bytes} |"
            for each in appendings
        ),
        "",
        "A request that no budget counts also takes a slot, so that it can be recorded if its worker is killed:",
        f"{slot_us:.1f} us of a processor from its beginning to its end. One that budgets count has one anyway.",
        "",
        "## Outcomes into the databases",
        "",
        "From segments to committed entries, roll-ups and offsets, with every checksum looked at.",
        "",
        "| database | lines per s | bytes per line |",
        "| --- | --- | --- |",
        *(
            f"| {t.name} | {_spread(t.lines_per_s, 0)} | {f'{t.line_bytes:.0f}' if t.line_bytes else 'not measured'} |"
            for t in takings
        ),
        "",
        *_month(askings),
        "",
    ]
    return "\n".join(lines)


def _month(askings: Sequence[tuple[Asking, Command]]) -> list[str]:
    worst_s = max(max(whole.wall_s) for _, whole in askings)
    most_cpu_s = max(max(whole.cpu_s) for _, whole in askings)
    verdict = "met" if worst_s < GOAL_S else "missed"
    return [
        "## A month of 10 million requests",
        "",
        f"Goal: `usage` answers in under {GOAL_S:g} s. The slowest run of the whole command took {worst_s:.2f} s:",
        f"**{verdict}**. No run took more than {most_cpu_s:.2f} s of a processor; the rest went to other work.",
        "Roll-ups in SQLite; medians with the least and the greatest.",
        "",
        "| rows of roll-ups | by | rows of the answer | report, s | whole command, s | of a processor, s |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {a.rollups:,} | {','.join(a.by)} | {a.rows:,} | {_spread(a.seconds, 2)} | {_spread(whole.wall_s, 2)} "
            f"| {_spread(whole.cpu_s, 2)} |"
            for a, whole in askings
        ),
    ]


def month_cost(folder: Path, rollups: int, rounds: int) -> list[tuple[Asking, Command]]:
    """Time all questions on one month."""
    folder.mkdir()
    asyncio.run(make_month(folder / DATABASE, rollups))
    return [(asyncio.run(ask(folder / DATABASE, by, rounds)), command_s(folder, by, rounds)) for by in QUESTIONS]


@click.command()
@click.option("--lines", type=click.IntRange(1), default=100_000, show_default=True, help="Of each round.")
@click.option("--rounds", type=click.IntRange(1), default=ROUNDS, show_default=True)
@click.option("--postgres", "url", help="URL of an empty PostgreSQL database; left out if not given.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the report here too.")
def main(lines: int, rounds: int, url: str | None, out: Path | None) -> None:
    """Measure what the ledger costs and print the report."""
    busy = f"{os.getloadavg()[0]:.1f} at the start, over {os.cpu_count()} cores"
    with tempfile.TemporaryDirectory(prefix="bench-ledger-") as name:
        folder = Path(name)
        appendings = [append_cost(folder / "append", writers, lines) for writers in (1, 2, 4)]
        takings = [sqlite_cost(folder / "sqlite", lines, rounds)]
        if url:
            takings.append(postgres_cost(folder / "postgres", url, lines, rounds))
        askings = [
            each for rollups in (240_000, 960_000) for each in month_cost(folder / f"{rollups}", rollups, rounds)
        ]
        slot_us = slot_cost(folder, lines)
    command = f"python -m bench.ledger{' --postgres URL' if url else ''}"
    text = report(command, {**describe(CHECKOUT), "load average": busy}, appendings, takings, askings, slot_us)
    click.echo(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    main()
