"""What telemetry learns, written into the board's columns.

Only the supervisor writes here. The time of a reading is written last, so that a worker that reads in between takes the
new numbers for somewhat older than they are, never old ones for new. What is not known is written too, as NaN.

The board holds what decides; of GPUs that is little. The last snapshot of each backend is kept beside it, for metrics.
"""

import math
import time
from collections.abc import Callable, Collection, Mapping

from gpubalancer.board.board import Board
from gpubalancer.board.layout import Hardware, Loaded
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
        self._snapshots[name] = (snapshot, at_s)

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
        for name, row in board.rows().items():
            if name not in engines:
                for column in (board.running, board.waiting, board.kv_used_fraction, board.kv_capacity_tokens):
                    column[row] = math.nan
                board.loaded[row], board.scraped_s[row], board.scraped_in_flight[row] = Loaded.READY, 0.0, 0
            if name not in gpus:
                board.hardware[row], board.speed_fraction[row] = Hardware.UNKNOWN, 1.0
                board.power_watts[row], board.gpu_at_s[row] = math.nan, 0.0

    def _forget_before(self, row: int, since_s: float) -> None:
        # Entries have whole seconds: what was read in the second in question may be from either side of it.
        since = self._board.cached_since_s
        since[row] = max(int(since[row]), math.ceil(since_s))


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else number


def _or_none(number: float) -> float | None:
    return None if math.isnan(number) else float(number)
