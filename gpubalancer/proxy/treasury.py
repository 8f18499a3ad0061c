"""The supervisor's end of the budgets: their file, and what dead workers have left in it."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_locks import BusyError
from gpubalancer.board.budget_recovery import Left, dead_workers, rebuild, recover
from gpubalancer.brain.budget import BudgetPlan
from gpubalancer.domain.budget import NEW, Terms, standing
from gpubalancer.domain.outcome import Outcome
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.label import outcome_of
from gpubalancer.proxy.shared_budgets import SharedBudgets

RECOVER_S = 2.0
"""How often dead workers are looked for: one may have outlived the last supervisor, so that nobody sees it die."""
SWEEP_S = 60.0

Bury = Callable[[Outcome, Left, int], bool]
"""Puts a request of a dead worker on record, if it is not: its outcome, what its slot held, and when it was settled.
False if it was on record.

Errors:
    OSError: it can't be done now, and is to be tried again.
"""


class Treasury:
    """Owns the file of budgets.

    Arguments:
        path: of the file.
        bury: gets each request that a dead worker had in flight.
        clock: monotonic seconds.

    Attributes:
        set_aside: why and where an earlier file was put away, None if it was usable.

    Errors:
        BoardError: another supervisor owns the file.
        OSError: it can't be opened, or the disk is full.
    """

    def __init__(self, path: Path, bury: Bury, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = BudgetFile.create(path)
        self._file.follow(time.time_ns())
        self.set_aside = self._file.set_aside
        self._plan: BudgetPlan | None = None
        self._shared: SharedBudgets | None = None
        self._bury = bury
        self._clock = clock
        self._swept_s = self._recovered_s = clock()

    def adopt(self, policy: Policy) -> None:
        """Know these budgets.

        Errors:
            MissingDriverError: they are on a server, and the `redis` extra is not installed.
        """
        self._plan, url = BudgetPlan(policy), policy.state.budgets_url
        if url is not None and self._shared is None:
            self._shared = SharedBudgets(url, self._file, lambda: self._plan)

    def now_ns(self) -> int:
        """The budgets' time."""
        return self._file.now_ns()

    def rebuild(self, plan: BudgetPlan, spent: Mapping[bytes, int], now_ns: int) -> int:
        """Fill budgets that were set aside from the ledger, before a worker starts; returns how many that were."""
        return rebuild(self._file, plan.every(), spent, now_ns)

    def recover(self) -> list[Outcome]:
        """Settle and record what dead workers had in flight. Call it before a worker starts.

        Returns:
            What was recorded.
        """
        plan, now_ns = self._plan, self._file.now_ns()
        buried: list[Outcome] = []
        if plan is None:
            return buried

        def record(left: Left) -> None:
            outcome = outcome_of(left, now_ns)
            if self._bury(outcome, left, now_ns):
                buried.append(outcome)

        for worker in dead_workers(self._file):
            # A lock that a stopped process holds, or a full disk: what is left is settled and recorded later.
            with contextlib.suppress(BusyError, OSError):
                recover(self._file, worker, plan.terms_of, now_ns, record)
        if self._shared is not None:
            with contextlib.suppress(OSError):
                self._shared.recover(record)
        return buried

    def tidy(self) -> list[Outcome]:
        """Look for dead workers as `recover` does; each minute, follow the wall clock and free rows as good as new."""
        now_s = self._clock()
        buried: list[Outcome] = []
        if now_s - self._recovered_s >= RECOVER_S:
            self._recovered_s = now_s
            buried = self.recover()
        if now_s - self._swept_s >= SWEEP_S:
            self._swept_s = now_s
            self._file.follow(time.time_ns())
            self._file.sweep()
        return buried

    def remaining(self) -> Iterator[tuple[tuple[str, str, str], float]]:
        """What is left of each budget, by tenant, unit and period; of several for one period, the least."""
        least: dict[tuple[str, str, str], float] = {}
        now_ns = self._file.now_ns()
        known = self._shared.remaining() if self._shared is not None else self._local(now_ns)
        for terms, left in known:
            key = (terms.owner, str(terms.unit), terms.per)
            least[key] = min(left, least.get(key, left))
        yield from least.items()

    def _local(self, now_ns: int) -> Iterator[tuple[Terms, float]]:
        for terms in self._plan.every() if self._plan is not None else ():
            row = self._file.find(terms.id)
            state = self._file.state(row) if row is not None else NEW
            yield terms, standing(terms, terms.at(state, now_ns), now_ns).remaining

    def close(self) -> None:
        """Let the file go."""
        if self._shared is not None:
            self._shared.close()
        self._file.close()
