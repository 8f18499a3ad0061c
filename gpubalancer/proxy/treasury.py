"""The supervisor's end of the budgets: their file, and what dead workers have left in it."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_locks import BusyError
from gpubalancer.board.budget_recovery import Left, dead_workers, recover
from gpubalancer.brain.budget import BudgetPlan
from gpubalancer.domain.budget import NOTHING, standing
from gpubalancer.policy.schema import Policy

SWEEP_S = 60.0
_log = logging.getLogger(__name__)


class Treasury:
    """Owns the file of budgets.

    Arguments:
        path: of the file.
        clock: monotonic seconds.

    Attributes:
        set_aside: why and where an earlier file was put away, None if it was usable.

    Errors:
        BoardError: another supervisor owns the file.
        OSError: it can't be opened, or the disk is full.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = BudgetFile.create(path)
        self._file.follow(time.time_ns())
        self.set_aside = self._file.set_aside
        self._plan: BudgetPlan | None = None
        self._clock = clock
        self._swept_s = clock()
        self.recovered = 0
        """Requests of dead workers that were settled."""

    def adopt(self, policy: Policy) -> None:
        """Know these budgets."""
        self._plan = BudgetPlan(policy)

    def recover(self) -> None:
        """Settle what dead workers had in flight. Call it before a worker starts."""
        plan = self._plan
        if plan is None:
            return
        for worker in dead_workers(self._file):
            try:
                self.recovered += recover(self._file, worker, plan.terms_of, self._file.now_ns(), _tell)
            except BusyError:
                _log.warning("what worker %d had reserved is settled later: its budgets are locked", worker)

    def tidy(self) -> None:
        """Follow the wall clock and free rows that are as good as new, once a minute."""
        if self._clock() - self._swept_s >= SWEEP_S:
            self._swept_s = self._clock()
            self._file.follow(time.time_ns())
            self._file.sweep()

    def remaining(self) -> Iterator[tuple[tuple[str, str, str], float]]:
        """What is left of each budget, by tenant, unit and period; of several for one period, the least."""
        least: dict[tuple[str, str, str], float] = {}
        now_ns = self._file.now_ns()
        for terms in self._plan.every() if self._plan is not None else ():
            row = self._file.find(terms.id)
            state = self._file.state(row) if row is not None else (0, 0, 0, 0, 0)
            left = standing(terms, terms.at(state, now_ns), now_ns).remaining
            key = (terms.owner, str(terms.unit), terms.per)
            least[key] = min(left, least.get(key, left))
        yield from least.items()

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


def _tell(left: Left) -> None:
    if left.spending != NOTHING and not left.was_settled:
        request_id = left.label.decode(errors="replace").partition("\n")[0]
        _log.info("request %s of a worker that has gone was settled for %s", request_id, left.spending)
