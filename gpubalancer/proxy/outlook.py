"""What one worker sees of the fleet when it chooses.

Its own and other workers' slots and tokens are read from the board for every choice. What only changes with a probe or
a scrape (up, draining, what engines and sensors said) is looked at again every `FRESH_S`, and at once for another
fleet.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpubalancer.board.board import Board
from gpubalancer.board.layout import Hardware, Loaded
from gpubalancer.board.prefixes import Prefixes
from gpubalancer.brain.fleet import Flags, Fleet
from gpubalancer.brain.live import Cells, Live
from gpubalancer.brain.method import FEW
from gpubalancer.brain.panic import in_panic
from gpubalancer.brain.prefix import ADAPTER_LOAD_S, CacheShares, adapter_of, foreseen_tokens
from gpubalancer.brain.reckon import Others, believed_speed, reckon_others
from gpubalancer.domain.work import Preference, Selection, Work
from gpubalancer.proxy.judging import Judge

FRESH_S = 0.02
_NOT_SERVING = int(Loaded.LOADING | Loaded.SLEEPING)


class Cached(NamedTuple):
    """Who has read how much of one prompt before.

    Attributes:
        foreseen: tokens by index in the fleet, as the table has them; those who have read nothing are left out.
        tokens: for each backend, what is reckoned with.
    """

    foreseen: dict[int, float]
    tokens: Cells


class Outlook:
    """The state of the fleet, for one worker's choices."""

    def __init__(
        self,
        board: Board,
        total: Callable[[], NDArray[np.int32]],
        prefixes: Prefixes | None = None,
        shares: CacheShares | None = None,
    ) -> None:
        """What choices are made from.

        Arguments:
            board: attached.
            total: requests in flight by row, all workers together.
            prefixes: who has read what; None if nobody remembers.
            shares: how far that can be relied on.
        """
        self._board = board
        self._total = total
        self._prefixes = prefixes
        self._shares = shares or CacheShares()
        self._rows_used = board.rows_used_cell()
        self._cells = board.in_flight_cells(), board.cells("prefill_tokens"), board.cells("context_tokens")
        self._prefill: NDArray[np.int64] = board.all_of("prefill_tokens")
        self._context: NDArray[np.int64] = board.all_of("context_tokens")
        self._judge: Judge | None = None
        self._looked_s = 0.0
        self._up: Cells = []
        self._draining: Cells = []
        self._others: Others | None = None
        self._speed: Cells | None = None

    def live(self, judge: Judge, now_s: float, lost: Flags | None, cached: Cached | None = None) -> Live:
        """The fleet now.

        Arguments:
            judge: whose fleet it is.
            now_s: of the monotonic clock.
            lost: backends whose last slot was taken by somebody else in this very moment.
            cached: who has read the prompt in question before.
        """
        if judge is not self._judge or now_s - self._looked_s >= FRESH_S:
            self._look(judge, now_s)
        in_flight, prefill, context = self._ours(judge.fleet, lost)
        tokens = None if cached is None else cached.tokens
        return Live(self._up, self._draining, in_flight, prefill, context, self._others, tokens, self._speed)

    def _ours(self, fleet: Fleet, lost: Flags | None) -> tuple[Cells, Cells, Cells]:
        """Our requests, their unread prompts and their context on each backend, all workers together."""
        if lost is None and self._rows_used[0] == 1 and len(fleet.places) <= FEW:
            # Of one worker and a few backends plain cells are quicker than columns.
            in_flight, prefill, context = self._cells
            places = fleet.places
            return (
                [in_flight[row] for row, _ in places],
                [prefill[row] for row, _ in places],
                [context[row] for row, _ in places],
            )
        rows = fleet.rows
        counts: NDArray[np.int32] = self._total()[rows]
        if lost is not None:
            counts = np.where(lost, fleet.slots, counts)
        columns = counts, self._sum(self._prefill)[rows], self._sum(self._context)[rows]
        return columns if len(fleet) > FEW else (columns[0].tolist(), columns[1].tolist(), columns[2].tolist())

    def _sum(self, column: NDArray[np.int64]) -> NDArray[np.int64]:
        rows_used = self._rows_used[0]
        if rows_used == 1:
            first: NDArray[np.int64] = column[0]
            return first
        everybody: NDArray[np.int64] = np.add.reduce(column[:rows_used], axis=0)
        return everybody

    def cached(self, judge: Judge, work: Work, now_s: float) -> Cached | None:
        """Who has read how much of a prompt before; None if nobody has."""
        prefix = work.prefix
        if prefix is None or self._prefixes is None:
            return None
        found = self._prefixes.find(prefix.names, int(now_s), judge.remembers_s)
        if not found:
            return None
        fleet, foreseen = judge.fleet, {}
        tokens: Cells = [0.0] * len(fleet) if len(fleet) <= FEW else np.zeros(len(fleet), np.float32)
        for row, place in found.items():
            index = fleet.index_of_row.get(row)
            if index is not None:
                foreseen[index] = foreseen_tokens(prefix, place, work.prompt_tokens)
                share = self._shares.share(fleet.names[index])
                # The last token is always computed anew: its pass gives the next one.
                tokens[index] = max(0.0, min(foreseen[index] * share, work.prompt_tokens - 1.0))
        return Cached(foreseen, tokens)

    def note_loaded(self, judge: Judge, work: Work, now_s: float) -> None:
        """Note which backends have the adapter loaded that a request is for: those that have answered with it."""
        fleet = judge.fleet
        if self._prefixes is None or work.model is None or work.model not in fleet.adapters:
            return
        work.adapter = adapter_of(self._prefixes.salt, work.model)
        found = self._prefixes.find((work.adapter,), int(now_s), judge.remembers_s)
        indices = [fleet.index_of_row[row] for row in found if row in fleet.index_of_row]
        names = frozenset(fleet.names[index] for index in indices)
        work.loaded = (Preference(Selection(names), ADAPTER_LOAD_S),) if names else ()

    def _look(self, judge: Judge, now_s: float) -> None:
        """Look at what changes seldom."""
        board, rows = self._board, judge.fleet.rows
        self._judge, self._looked_s = judge, now_s
        serving = (board.loaded[rows] & _NOT_SERVING) == 0
        draining = (board.draining[rows] != 0) | (board.hardware[rows] == Hardware.FAULTY)
        up = (board.up[rows] != 0) & serving
        if not up.all():
            up = in_panic(judge.fleet.pools, up, draining, (board.reachable[rows] != 0) & serving)
        scraped_s, gpu_at_s = board.scraped_s[rows], board.gpu_at_s[rows]
        self._others = speed = None
        if scraped_s.any():
            age_s = np.where(scraped_s > 0, now_s - scraped_s, np.inf)
            ours_then = board.scraped_in_flight[rows].astype(np.float64)
            self._others = reckon_others(
                board.running[rows], board.waiting[rows], ours_then, age_s, fades_s=judge.fades_s
            )
        if gpu_at_s.any():
            age_s = np.where(gpu_at_s > 0, now_s - gpu_at_s, np.inf)
            speed = believed_speed(board.speed_fraction[rows], age_s, judge.fades_s)
        few = len(judge.fleet) <= FEW
        self._up, self._draining = (up.tolist(), draining.tolist()) if few else (up, draining)
        self._speed = speed.tolist() if few and speed is not None else speed
