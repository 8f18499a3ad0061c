"""The supervisor's end of budgets that several balancers share: what dead workers left, and what is left of each.

The server is asked for all budgets again and again, some at a time, for the metric alone: no request waits for it.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator

from gpubalancer.board import locks
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_layout import WORKER_ROWS
from gpubalancer.board.budget_recovery import Left
from gpubalancer.board.budget_slots import slots_path
from gpubalancer.brain.budget import BudgetPlan
from gpubalancer.domain.budget import Claims, Standing, Terms, standing
from gpubalancer.policy.valkey_url import read_address
from gpubalancer.proxy.label import payer_in
from gpubalancer.valkey.claims_text import read, write
from gpubalancer.valkey.connection import GoneError, driver
from gpubalancer.valkey.link import Link
from gpubalancer.valkey.outbox import Outbox
from gpubalancer.valkey.recovery import Leftovers

SHARED = "shared"
"""Beside the file of budgets, workers' slots begin with this where the budgets are on a server."""
BATCH, BATCH_S, ROUND_S = 200, 0.05, 2.0
"""At most 4,000 budgets are read in a second, in steps of less than 1 ms for the server."""


class SharedBudgets:
    """Looks after the shared budgets for all workers of this balancer.

    Arguments:
        url: `state.budgets`.
        file: the local file, on which the workers' rows are locked.
        plan: the policy's budgets, as they are now.

    Errors:
        MissingDriverError: the `redis` extra is not installed.
    """

    def __init__(self, url: str, file: BudgetFile, plan: Callable[[], BudgetPlan | None]) -> None:
        driver()
        self._file = file
        self._plan = plan
        self._known: dict[bytes, Standing] = {}
        self._link = Link(read_address(url), "", self._came_back)
        self._outbox = Outbox(self._link.send)
        self._leftovers = Leftovers(file.path.parent, self._outbox, self._claims_of, self._link.now_ns)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._link.run()), loop.create_task(self._look())]

    def recover(self, record: Callable[[Left], None]) -> None:
        """Take over what dead workers left, record and settle it.

        Errors:
            OSError: `record` can't now; what it did not get is recorded and settled with the next call.
        """
        for worker in range(WORKER_ROWS):
            path = slots_path(self._file.path.with_name(SHARED), worker)
            if path.exists() and locks.try_lock(self._file.fd, locks.WORKER_BYTE + worker):
                self._leftovers.put_aside(path)
                locks.unlock(self._file.fd, locks.WORKER_BYTE + worker)
        self._leftovers.settle(record)

    @property
    def settling(self) -> int:
        """Requests of dead workers that the server has not confirmed yet."""
        return len(self._outbox)

    def remaining(self) -> Iterator[tuple[Terms, float]]:
        """What was left of each budget when the server was last asked."""
        plan = self._plan()
        for terms in plan.every() if plan is not None else ():
            known = self._known.get(terms.id)
            if known is not None:
                yield terms, known.remaining

    def close(self) -> None:
        """Stop; what was not confirmed stays on this machine, and is settled after the next start."""
        for task in self._tasks:
            task.cancel()
        self._link.close()

    async def _look(self) -> None:
        while True:
            plan = self._plan()
            every = iter(plan.every() if plan is not None else ())
            while batch := tuple(itertools.islice(every, BATCH)):
                await self._read(Claims(batch, False))
                await asyncio.sleep(BATCH_S)
            await asyncio.sleep(ROUND_S if self._known or not batch else BATCH_S)

    async def _read(self, claims: Claims) -> None:
        text = write(claims, self._link.now_ns())
        try:
            answer = read(await self._link.ask("read", text.data), claims, text)
        except GoneError:
            return
        for terms, state in zip(claims.terms, answer.states, strict=True):
            self._known[terms.id] = standing(terms, state, answer.now_ns)

    def _claims_of(self, label: bytes) -> Claims | None:
        """Of a request by its label; budgets of single keys are not found again."""
        plan, (tenant, model) = self._plan(), payer_in(label)
        return plan.claims(tenant, model) if plan is not None else None

    def _came_back(self) -> None:
        self._outbox.pump()
