"""The cells of bench/placement.py: one contestant, one fleet, one window of a trace, over real sockets."""

import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from random import Random

import orjson

from bench.fleets import FLEETS, INTERVAL_TOKENS, engines
from bench.openloop import Replay, Told
from bench.peers import OURS, Contestant
from bench.placement_peers import BALANCE, VARIANTS, baseline, fleet_values, ours, peer
from bench.prompts import MODEL
from bench.running import CHECKOUT, POLL_S, START_WITHIN_S, StartError, process, run_values

TTFT_S, TPOT_S = 2.0, 0.1


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        scenario, load: what it belongs to in the report.
        fleet: of `FLEETS`.
        trace: name of the file.
        contestant: who is in front.
        variant: settings of a router.
        rate_per_s, seed: of the window.
        told: the result, None before.
        failure: why there is none.
    """

    scenario: str
    load: str
    fleet: str
    trace: str
    contestant: str
    variant: str
    rate_per_s: float
    seed: int
    told: Told | None = None
    failure: str = ""

    def __str__(self) -> str:
        return f"{self.scenario} {self.load} {self.rate_per_s:g}/s seed {self.seed} {self.contestant} {self.variant}"


@dataclass(frozen=True)
class Lanes:
    """Where and how long cells are measured.

    Attributes:
        traces: the folder.
        peers: the routers' environments.
        folder: scratch.
        seconds, warm_s: of each window.
        lanes: how many run side by side.
        on_cell: is told of each result.
    """

    traces: Path
    peers: Path
    folder: Path
    seconds: float
    warm_s: float
    lanes: int
    on_cell: Callable[[Cell], None]

    def play(self, cells: Iterable[Cell]) -> list[Cell]:
        """Measure all, in a random order, fleet by fleet. Raises StartError if an engine does not start."""
        shuffled = list(cells)
        Random(1).shuffle(shuffled)
        waiting: queue.SimpleQueue[Cell] = queue.SimpleQueue()
        for cell in sorted(shuffled, key=lambda cell: cell.fleet):
            waiting.put(cell)
        found: list[Cell] = []
        lock = threading.Lock()

        def keep(cell: Cell) -> None:
            with lock:
                found.append(cell)
                self.on_cell(cell)

        with ThreadPoolExecutor(self.lanes) as pool:
            for ended in [pool.submit(self._lane, waiting, keep) for _ in range(self.lanes)]:
                ended.result()
        return found

    def _lane(self, waiting: "queue.SimpleQueue[Cell]", keep: Callable[[Cell], None]) -> None:
        """Cell after cell; the engines stay while the fleet does."""
        cell = _next(waiting)
        while cell is not None:
            name = cell.fleet
            with engines(FLEETS[name], cores(), Path(tempfile.mkdtemp(dir=self.folder))) as ports:
                while cell is not None and cell.fleet == name:
                    keep(self._result(cell, ports))
                    cell = _next(waiting)

    def _result(self, cell: Cell, ports: Sequence[int]) -> Cell:
        """The cell with its result, or with the reason why there is none."""
        try:
            return replace(cell, told=self._measure(cell, ports))
        except StartError as error:
            return replace(cell, failure=str(error)[-500:])

    def _measure(self, cell: Cell, ports: Sequence[int]) -> Told:
        """Start the contestant, replay the window through it, and stop it."""
        row = row_of(cell, ports)
        program = row.find(self.peers)
        if program is None:
            raise StartError(f"{row.name} is not installed")
        values = run_values((0, 0)) | fleet_values(FLEETS[cell.fleet], ports, TTFT_S, TPOT_S)
        values["balance"] = BALANCE.get(cell.contestant, "")
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        log = folder / "output.log"
        with process(row.command(program, values, folder), cores(), log, folder) as started:
            _wait_until_ready(started, int(values["port"]), log)
            return self._replay(cell, int(values["port"]))

    def _replay(self, cell: Cell, port: int) -> Told:
        """The load, from a process of its own."""
        plan = Replay(
            trace=str(self.traces / cell.trace),
            rate_per_s=cell.rate_per_s,
            seconds=self.seconds,
            seed=cell.seed,
            port=port,
            warm_s=self.warm_s,
            salt=os.urandom(8).hex(),
            ttft_s=TTFT_S,
            tpot_s=TPOT_S,
            interval_tokens=INTERVAL_TOKENS,
        )
        command = [sys.executable, "-m", "bench.openloop", orjson.dumps(asdict(plan)).decode()]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
        if ended.returncode:
            raise StartError(ended.stderr[-2000:])
        return Told(**orjson.loads(ended.stdout))


def cores() -> frozenset[int]:
    """All that there are: lanes share them evenly."""
    return frozenset(os.sched_getaffinity(0))


def row_of(cell: Cell, ports: Sequence[int]) -> Contestant:
    """Who is in front of the engines."""
    if cell.contestant == OURS:
        return ours()
    return peer(cell.contestant, cell.variant, ports) if cell.contestant in VARIANTS else baseline(cell.contestant)


def _next(waiting: "queue.SimpleQueue[Cell]") -> Cell | None:
    try:
        return waiting.get_nowait()
    except queue.Empty:
        return None


def _wait_until_ready(started: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return once it answers a chat with 200. Raises StartError."""
    deadline_s = time.monotonic() + START_WITHIN_S
    while not _answers(port):
        if started.poll() is not None or time.monotonic() > deadline_s:
            raise StartError(f"it gave no answer: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(POLL_S)


def _answers(port: int) -> bool:
    body = orjson.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1})
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return answer.status == 200
