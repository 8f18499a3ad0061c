"""What telemetry learns, written into the board's columns.

Only the supervisor writes here. The time of a reading is written last, so that a worker that reads in between takes the
new numbers for somewhat older than they are, never old ones for new. What is not known is written too, as NaN.

The board holds what decides; of GPUs that is little. The last snapshot of each backend is kept beside it, for metrics.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

from gpubalancer.board.board import Board
from gpubalancer.board.layout import Hardware, Loaded
from gpubalancer.telemetry.energy import Drawn, EnergyMeter
from gpubalancer.telemetry.engines import EngineReading
from gpubalancer.telemetry.gpus import Snapshot
from gpubalancer.telemetry.hardware import State, state_of
from gpubalancer.telemetry.retention import Retention

SHOWN_S = 60.0
"""A snapshot that is older is not shown any more: nobody should take a sensor that fell silent for a calm one."""


class Columns:
    """The telemetry columns of a board. Names that are not live are ignored: a reading may outlive a reload.

    Arguments:
        board: as the supervisor created it.
        clock: monotonic seconds, the same for all processes of the machine.
    """

    def __init__(self, board: Board, clock: Callable[[], float] = time.monotonic) -> None:
        self._board = board
        self._clock = clock
        self._snapshots: dict[str, tuple[Snapshot, float]] = {}
        self._retentions: dict[str, Retention] = {}
        self._meters: dict[str, EnergyMeter] = {}
        self._sharers: Counter[str] = Counter()
        self._worked_us = board.all_of("worked_us")

    def in_flight(self, name: str) -> int:
        """Requests of ours at a backend, all workers together; 0 for an unknown name."""
        row = self._board.row(name)
        return 0 if row is None else int(self._board.in_flight[:, row].sum())

    def record_engine(self, name: str, reading: EngineReading) -> None:
        """Write what an engine told."""
        board, row = self._board, self._board.row(name)
        if row is None:
            return
        board.running[row] = _or_nan(reading.running)
        board.waiting[row] = _or_nan(reading.waiting)
        board.kv_used_fraction[row] = _or_nan(reading.kv_used_fraction)
        board.kv_capacity_tokens[row] = _or_nan(reading.kv_capacity_tokens)
        board.loaded[row] = reading.loaded
        board.scraped_in_flight[row] = int(board.in_flight[:, row].sum())
        board.scraped_s[row] = reading.at_s
        self._forget_before(row, self._retentions.setdefault(name, Retention()).since_s(reading))
        if reading.power_watts is not None or reading.speed_fraction is not None:
            board.power_watts[row] = _or_nan(reading.power_watts)
            board.speed_fraction[row] = reading.speed_fraction or 1.0
            board.gpu_at_s[row] = reading.at_s

    def record_down(self, name: str) -> None:
        """A backend is down: when it comes back, nothing of what it had read may be there."""
        row = self._board.row(name)
        if row is not None:
            self._forget_before(row, self._clock())

    def record_gpus(self, name: str, snapshot: Snapshot) -> None:
        """Write what is known of a backend's GPUs: of all that the snapshot has."""
        board, row = self._board, self._board.row(name)
        if row is None:
            return
        state = state_of(snapshot.gpus)
        board.hardware[row] = state.hardware
        board.speed_fraction[row] = state.speed_fraction
        board.power_watts[row] = _or_nan(state.power_watts)
        at_s = self._clock() - snapshot.age_s
        board.gpu_at_s[row] = at_s if snapshot.gpus else 0.0
        is_new = name not in self._snapshots
        self._snapshots[name] = (snapshot, at_s)
        if is_new:
            self._count_sharers()
        self._measure(name, row, snapshot, at_s)

    def _measure(self, name: str, row: int, snapshot: Snapshot, at_s: float) -> None:
        """Take a reading of what its cards draw; what backends share is drawn by each in equal parts."""
        cards = [(gpu, 1.0 / max(1, self._sharers[gpu.uuid])) for gpu in snapshot.gpus if gpu.parent_uuid is None]
        if not cards:
            return
        board, meter = self._board, self._meters.setdefault(name, EnergyMeter())
        ours, said = float(board.in_flight[:, row].sum()), float(board.running[row] + board.waiting[row])
        reading = Drawn(
            at_s,
            watts=_sum((gpu.power_watts, part) for gpu, part in cards),
            joules=_sum((gpu.energy_joules, part) for gpu, part in cards),
            worked_s=float(self._worked_us[:, row].sum()) / 1e6,
            ours=ours,
            all=ours if math.isnan(said) else max(ours, said),
        )
        meter.read(reading)
        board.active_watts[row] = meter.active_watts

    def idle_joules(self) -> dict[str, float]:
        """By backend what its GPUs have drawn for nobody."""
        return {name: meter.idle_joules for name, meter in self._meters.items()}

    def gpus(self) -> dict[str, Snapshot]:
        """By backend the last that was told of its GPUs, unless that is long ago."""
        now_s = self._clock()
        return {name: snapshot for name, (snapshot, at_s) in self._snapshots.items() if now_s - at_s <= SHOWN_S}

    def ages_s(self) -> dict[str, float]:
        """By backend how old what we go by is: of its engine's word and its GPUs', the older one.

        Backends of which nothing was ever read are left out.
        """
        board, now_s = self._board, self._clock()
        times = {name: (float(board.scraped_s[row]), float(board.gpu_at_s[row])) for name, row in board.rows().items()}
        return {name: max(0.0, now_s - min(filter(None, both))) for name, both in times.items() if any(both)}

    def hardware(self) -> Mapping[str, State]:
        """By backend what the board says of its GPUs; those that nobody tells of are left out."""
        board = self._board
        return {
            name: State(
                Hardware(int(board.hardware[row])), float(board.speed_fraction[row]), _or_none(board.power_watts[row])
            )
            for name, row in board.rows().items()
            if board.gpu_at_s[row]
        }

    def keep(self, engines: Collection[str], gpus: Collection[str]) -> None:
        """Forget what was known of backends that are no longer read.

        Arguments:
            engines: names of those whose engine is read.
            gpus: names of those whose GPUs are.
        """
        board = self._board
        self._retentions = {name: kept for name, kept in self._retentions.items() if name in engines}
        self._snapshots = {name: told for name, told in self._snapshots.items() if name in gpus}
        self._meters = {name: meter for name, meter in self._meters.items() if name in gpus}
        self._count_sharers()
        for name, row in board.rows().items():
            if name not in engines:
                for column in (board.running, board.waiting, board.kv_used_fraction, board.kv_capacity_tokens):
                    column[row] = math.nan
                board.loaded[row], board.scraped_s[row], board.scraped_in_flight[row] = Loaded.READY, 0.0, 0
            if name not in gpus:
                board.hardware[row], board.speed_fraction[row] = Hardware.UNKNOWN, 1.0
                board.power_watts[row], board.active_watts[row], board.gpu_at_s[row] = math.nan, math.nan, 0.0

    def _count_sharers(self) -> None:
        """How many backends each GPU serves."""
        told = [snapshot for snapshot, _ in self._snapshots.values()]
        self._sharers = Counter(uuid for snapshot in told for uuid in {gpu.uuid for gpu in snapshot.gpus})

    def _forget_before(self, row: int, since_s: float) -> None:
        # Entries have whole seconds: what was read in the second in question may be from either side of it.
        since = self._board.cached_since_s
        since[row] = max(int(since[row]), math.ceil(since_s))


def _sum(parts: Iterable[tuple[float | None, float]]) -> float | None:
    """The sum of numbers by their part; None if one is not known."""
    known = [(number, part) for number, part in parts]
    return None if any(number is None for number, _ in known) else sum((number or 0.0) * part for number, part in known)


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else number


def _or_none(number: float) -> float | None:
    return None if math.isnan(number) else float(number)
