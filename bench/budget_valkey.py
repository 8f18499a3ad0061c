"""What budgets on a Valkey or Redis server cost beside those on the board: CPU of a worker, time, and memory there.

Each worker is a process of its own with `FLYING` requests at a time, as an event loop has them: a reservation is
awaited, its settlement is sent behind. The server is started for the run, on this machine, so that the time is without
a network's.
"""

import asyncio
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import uvloop

from bench.figures import percentile
from gpubalancer.domain.budget import Claims, Refusal, Spending
from gpubalancer.domain.errors import RequestError
from gpubalancer.policy.valkey_url import read_address
from gpubalancer.valkey.store import ValkeyStore

PROGRAMS = ("valkey-server", "redis-server")
FLYING = 8
START_S = 10.0
LEAST_FOR_BYTES = 1000
"""Tenants from which on bytes for each say something."""


@dataclass(frozen=True)
class Shared:
    """What one worker found: microseconds.

    Attributes:
        cpu_us: of its process, for reserve and settle together.
        wall_us: of single reservations.
        late: reservations that did not come in time.
    """

    cpu_us: float
    wall_us: tuple[float, ...]
    late: int


@dataclass(frozen=True)
class SharedRow:
    """All workers with some number of tenants."""

    tenants: int
    workers: Sequence[Shared]
    pairs_per_s: float
    server_us: float
    bytes_per_tenant: float


class NoLock:
    """No row needs to be kept."""

    def close(self) -> None:
        """Nothing."""


def program() -> str | None:
    """The server that this machine has, None if it has none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@contextmanager
def serving(path: str) -> Iterator[int]:
    """Run a server for the time of a block; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    command = [path, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            until_s = time.monotonic() + START_S
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if time.monotonic() > until_s:
                        raise
                    time.sleep(0.05)
            yield port
        finally:
            process.terminate()


async def spend(url: str, worker: int, folder: Path, claims: Sequence[Claims], pairs: int, barrier: Barrier) -> Shared:
    """Reserve and settle, so many pairs."""
    store = ValkeyStore(read_address(url), f"bench-{worker}", folder / f"s.worker-{worker}", lambda: False, NoLock())
    while store.link.breaker.is_open:  # noqa: ASYNC110  a plain look costs nothing here
        await asyncio.sleep(0.01)
    chance, left, wall = random.Random(worker), [pairs], list[float]()
    late = 0
    barrier.wait()
    began_s = time.process_time()

    async def client() -> None:
        nonlocal late
        while left[0] > 0:
            left[0] -= 1
            asked_s = time.perf_counter()
            try:
                held = await store.reserve(chance.choice(claims), Spending(1200, 0, 400, 1), b"x" * 64)
            except RequestError:
                late += 1
                continue
            wall.append((time.perf_counter() - asked_s) * 1e6)
            if not isinstance(held, Refusal):
                held.settle(Spending(1200, 800, 250, 1), 0)

    await asyncio.gather(*(client() for _ in range(FLYING)))
    while store.late:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    cpu_us = (time.process_time() - began_s) / pairs * 1e6
    store.close()
    return Shared(cpu_us, tuple(wall), late)


def work(
    pipe: Connection, url: str, worker: int, folder: Path, claims: Sequence[Claims], pairs: int, barrier: Barrier
) -> None:
    """One worker, in a process of its own; sends what it found."""
    pipe.send(uvloop.run(spend(url, worker, folder, claims, pairs, barrier)))


def measure(path: str, claims: Sequence[Claims], workers: int, pairs: int) -> SharedRow:
    """All workers at once on a server that was just started."""
    context = get_context("fork")
    with TemporaryDirectory() as folder, serving(path) as port:
        url, barrier = f"valkey://127.0.0.1:{port}/0", context.Barrier(workers + 1)
        before = usage(port)
        pipes, processes = [], []
        for worker in range(workers):
            ours, theirs = context.Pipe()
            arguments = (theirs, url, worker, Path(folder), claims, pairs, barrier)
            processes.append(context.Process(target=work, args=arguments, daemon=True))
            processes[-1].start()
            pipes.append(ours)
        barrier.wait()
        began_s = time.perf_counter()
        found: list[Shared] = [pipe.recv() for pipe in pipes]
        took_s = time.perf_counter() - began_s
        for process in processes:
            process.join()
        after = usage(port)
        met = min(len(claims), workers * pairs)
        server_us = (after["cpu_s"] - before["cpu_s"]) / (workers * pairs) * 1e6
        return SharedRow(
            len(claims), found, workers * pairs / took_s, server_us, (after["bytes"] - before["bytes"]) / met
        )


def usage(port: int) -> dict[str, float]:
    """CPU seconds and bytes that the server has taken."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(b"INFO\r\n")
        data = b""
        while b"\r\n\r\n" not in data[-6:] and b"db0" not in data[-200:] and len(data) < 20_000:
            piece = client.recv(65536)
            data += piece
            if len(piece) < 1400 and b"cluster_enabled" in data:
                break
    lines = dict(line.split(":", 1) for line in data.decode().splitlines() if ":" in line)
    cpu_s = float(lines["used_cpu_sys"]) + float(lines["used_cpu_user"])
    return {"cpu_s": cpu_s, "bytes": float(lines["used_memory"])}


def section(name: str, rows: Sequence[SharedRow]) -> list[str]:
    """The findings as Markdown lines."""
    workers = len(rows[0].workers)
    return [
        "## On a server",
        "",
        f"`{name}` on this machine, {FLYING} requests at a time in each of {workers} workers. A pair is one round trip",
        "that is waited for, and a settlement sent behind. CPU: of a worker's process, and of the server. Late:",
        "reservations that took longer than 50 ms, with workers, server and all else on this machine's cores.",
        "",
        "| tenants | CPU us per pair | server's | reserve, us | 99 % | late | pairs per s | server, bytes per tenant |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(_row, rows),
        "",
    ]


def _row(row: SharedRow) -> str:
    cpu = median(each.cpu_us for each in row.workers)
    wall = [value for each in row.workers for value in each.wall_us]
    times = f"{median(wall):.0f} | {percentile(wall, 0.99):.0f}"
    late = sum(each.late for each in row.workers)
    costs = f"{cpu:.0f} | {row.server_us:.0f}"
    # With few tenants what grows is the server's memory for connections.
    each_bytes = f"{row.bytes_per_tenant:,.0f}" if row.tenants >= LEAST_FOR_BYTES else "-"
    return f"| {row.tenants:,} | {costs} | {times} | {late} | {row.pairs_per_s:,.0f} | {each_bytes} |"
