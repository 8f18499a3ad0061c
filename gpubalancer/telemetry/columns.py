"""What telemetry learns, written into the board's columns.

Only the supervisor writes here. The time of a reading is written last, so that a worker that reads in between takes the
new numbers for somewhat older than they are, never old ones for new. What is not known is written too, as NaN.
"""

import math
import time
from collections.abc import Callable, Collection

from gpubalancer.board.board import Board
from gpubalancer.board.layout import Hardware, Loaded
from gpubalancer.telemetry.engines import EngineReading
from gpubalancer.telemetry.gpus import Snapshot
from gpubalancer.telemetry.hardware import state_of


class Columns:
    """The telemetry columns of a board. Names that are not live are ignored: a reading may outlive a reload.

    Arguments:
        board: as the supervisor created it.
        clock: monotonic seconds, the same for all processes of the machine.
    """

    def __init__(self, board: Board, clock: Callable[[], float] = time.monotonic) -> None:
        self._board = board
        self._clock = clock

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
        if reading.power_watts is not None or reading.speed_fraction is not None:
            board.power_watts[row] = _or_nan(reading.power_watts)
            board.speed_fraction[row] = reading.speed_fraction or 1.0
            board.gpu_at_s[row] = reading.at_s

    def record_gpus(self, name: str, snapshot: Snapshot) -> None:
        """Write what is known of a backend's GPUs: of all that the snapshot has."""
        board, row = self._board, self._board.row(name)
        if row is None:
            return
        state = state_of(snapshot.gpus)
        board.hardware[row] = state.hardware
        board.speed_fraction[row] = state.speed_fraction
        board.power_watts[row] = _or_nan(state.power_watts)
        board.gpu_at_s[row] = self._clock() - snapshot.age_s if snapshot.gpus else 0.0

    def keep(self, engines: Collection[str], gpus: Collection[str]) -> None:
        """Forget what was known of backends that are no longer read.

        Arguments:
            engines: names of those whose engine is read.
            gpus: names of those whose GPUs are.
        """
        board = self._board
        for name, row in board.rows().items():
            if name not in engines:
                for column in (board.running, board.waiting, board.kv_used_fraction, board.kv_capacity_tokens):
                    column[row] = math.nan
                board.loaded[row], board.scraped_s[row], board.scraped_in_flight[row] = Loaded.READY, 0.0, 0
            if name not in gpus:
                board.hardware[row], board.speed_fraction[row] = Hardware.UNKNOWN, 1.0
                board.power_watts[row], board.gpu_at_s[row] = math.nan, 0.0


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else number
