"""What reading the engines' pages costs the supervisor: of parsing alone, and of the whole way over sockets.

The goal: parsing 200 backends' pages every second takes under 20 % of one core. Pages are those of real servers, from
a folder of captured ones, or else the simulated engine's, which has vLLM's names. Parsing is timed as the process's
CPU per reading, each page being read anew. The whole way is a `Scraper` in a process of its own with 200 backends at
one reading a second each, on connections that are kept, against a server in another process.

    python -m bench.telemetry --pages FOLDER --out bench/results/telemetry.md
"""

import asyncio
import gzip
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import click
import uvloop
from aiohttp import web

from bench.machine import describe
from bench.running import CHECKOUT
from gpubalancer.sim.calls import Settings
from gpubalancer.sim.hardware import HARDWARE
from gpubalancer.sim.metrics import EngineMetrics
from gpubalancer.telemetry.dialects import DIALECTS, engine_of
from gpubalancer.telemetry.engines import EngineReading
from gpubalancer.telemetry.probes import Target
from gpubalancer.telemetry.scrape import Scraper, Source

BACKENDS = 200
GOAL_FRACTION = 0.2
ROUNDS = 5
SIMULATED = "simulated vLLM"
WARM_S = 3.0


@dataclass(frozen=True)
class Parsing:
    """What one page costs: CPU microseconds for each of several rounds."""

    name: str
    engine: str
    size_bytes: int
    cpu_us: tuple[float, ...]

    @property
    def core_fraction(self) -> float:
        """Share of a core at 200 of these a second."""
        return median(self.cpu_us) * 1e-6 * BACKENDS


@dataclass(frozen=True)
class Way:
    """What the whole way costs: the share of a core, and how many readings there were."""

    name: str
    compressed: bool
    core_fraction: float
    readings_per_s: float


def pages_of(folder: Path | None) -> dict[str, bytes]:
    """The pages by their servers' names. Raises click.ClickException if a folder has none."""
    if folder is None:
        engine = Settings(("llama-3.1-8b",), HARDWARE["h100"]).engine()
        return {SIMULATED: EngineMetrics(engine, "llama-3.1-8b", 131_072, 1.0).page()}
    found = {path.name.removesuffix(".metrics.txt"): path.read_bytes() for path in sorted(folder.glob("*.metrics.txt"))}
    if not found:
        raise click.ClickException(f"{folder} has no *.metrics.txt")
    return found


def parse_cost(name: str, page: bytes, readings: int) -> Parsing:
    """Time the reading of one page."""
    engine = engine_of(page) or ""
    dialect, rounds = DIALECTS[engine], []
    for _ in range(ROUNDS):
        began_s = time.process_time()
        for _ in range(readings):
            dialect.read(page, 0.0)
        rounds.append((time.process_time() - began_s) / readings * 1e6)
    return Parsing(name, engine, len(page), tuple(rounds))


def serve(pipe: Connection, page: bytes, compressed: bool) -> None:
    """Answer every request with one page, in a process of its own; tells its port through the pipe."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, headers=headers)

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    body = gzip.compress(page) if compressed else page
    headers = {"Content-Type": "text/plain", **({"Content-Encoding": "gzip"} if compressed else {})}
    uvloop.run(main())


async def scrape(port: int, engine: str, seconds: float) -> tuple[float, float]:
    """Read 200 backends each second. Returns the share of a core, and readings per second."""
    readings = 0

    def record(name: str, reading: EngineReading) -> None:
        nonlocal readings
        readings += 1

    scraper = Scraper(record, lambda name: 0, random.random)
    target = [Target(f"b{number}", f"http://127.0.0.1:{port}", engine) for number in range(BACKENDS)]
    scraper.replace([Source(each, f"/{each.name}/metrics") for each in target], 1.0)
    task = asyncio.create_task(scraper.run())
    await asyncio.sleep(WARM_S)
    began_s, cpu_s, counted = time.monotonic(), time.process_time(), readings
    await asyncio.sleep(seconds)
    took_s = time.monotonic() - began_s
    fractions = (time.process_time() - cpu_s) / took_s, (readings - counted) / took_s
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return fractions


def way_cost(name: str, page: bytes, compressed: bool, seconds: float) -> Way:
    """Time the whole way for one page."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs, page, compressed), daemon=True)
    server.start()
    try:
        return Way(name, compressed, *uvloop.run(scrape(ours.recv(), engine_of(page) or "", seconds)))
    finally:
        server.terminate()
        server.join()


def report(command: str, machine: Mapping[str, str], parsings: Sequence[Parsing], ways: Sequence[Way]) -> str:
    """The findings as Markdown."""
    worst = max(parsing.core_fraction for parsing in parsings)
    verdict = "met" if worst < GOAL_FRACTION else "missed"
    lines = [
        "# Reading the engines' pages",
        "",
        f"Taken {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by one command:",
        "",
        f"    {command}",
        "",
        "| machine |  |",
        "| --- | --- |",
        *(f"| {what} | {value} |" for what, value in machine.items()),
        "",
        f"Goal: parsing {BACKENDS} backends' pages every second takes under {GOAL_FRACTION:.0%} of one core.",
        f"The dearest page takes {worst:.1%}: **{verdict}**.",
        "",
        "## Parsing",
        "",
        "CPU of the process for one reading, from the page to the numbers; the median of",
        f"{ROUNDS} rounds, with the least and the greatest.",
        "",
        f"| page of | read as | bytes | us per reading | of a core at {BACKENDS}/s |",
        "| --- | --- | --- | --- | --- |",
        *map(_parsing_row, parsings),
        "",
        "## The whole way",
        "",
        f"{BACKENDS} backends, one reading a second each, over loopback on kept connections: HTTP client,",
        "decompression where the server compresses, parsing, checks, timers. CPU of the reading process.",
        "",
        "| page of | compressed | readings per s | of a core |",
        "| --- | --- | --- | --- |",
        *map(_way_row, ways),
        "",
    ]
    return "\n".join(lines)


def _parsing_row(found: Parsing) -> str:
    spread = f"{median(found.cpu_us):.0f} ({min(found.cpu_us):.0f} to {max(found.cpu_us):.0f})"
    return f"| {found.name} | {found.engine} | {found.size_bytes:,} | {spread} | {found.core_fraction:.1%} |"


def _way_row(way: Way) -> str:
    compressed = "gzip" if way.compressed else "no"
    return f"| {way.name} | {compressed} | {way.readings_per_s:.0f} | {way.core_fraction:.1%} |"


@click.command()
@click.option("--pages", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--readings", type=click.IntRange(1), default=1000, show_default=True, help="Of each page and round.")
@click.option("--seconds", type=click.FloatRange(0.1), default=10.0, show_default=True, help="Of the whole way.")
@click.option("--way", "ways_of", multiple=True, help="Pages for the whole way; the first if none is named.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the report here too.")
def main(folder: Path | None, readings: int, seconds: float, ways_of: tuple[str, ...], out: Path | None) -> None:
    """Measure what telemetry costs and print the report."""
    pages = pages_of(folder)
    parsings = [parse_cost(name, page, readings) for name, page in pages.items() if engine_of(page)]
    names = ways_of or (next(iter(pages)),)
    if unknown := set(names) - pages.keys():
        raise click.ClickException(f"no page of {', '.join(sorted(unknown))}")
    ways = [way_cost(name, pages[name], compressed, seconds) for name in names for compressed in (False, True)]
    flags = " ".join(f"--way {name}" for name in ways_of)
    command = f"python -m bench.telemetry{' --pages FOLDER' if folder else ''} {flags}".strip()
    text = report(command, describe(CHECKOUT), parsings, ways)
    click.echo(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    main()
