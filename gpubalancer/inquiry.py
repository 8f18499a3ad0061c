"""What the balancer would decide of a request now, asked at the admin port: the supervisor's own look at its fleet.

Workers decide for themselves; this reads what they read (the board, what was learned, the policy) and asks the same
code. Nothing is kept for it while nobody asks.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubalancer.board.board import Board
from gpubalancer.board.prefixes import Prefixes
from gpubalancer.brain.experience import Experience
from gpubalancer.brain.fleet import Discovery, build_fleet
from gpubalancer.brain.insight import Insight, build_insight
from gpubalancer.brain.live import Cells
from gpubalancer.brain.prefix import CacheShares
from gpubalancer.control.explain import Scene, explain_request, read_question
from gpubalancer.control.typical import typical_costs
from gpubalancer.domain.work import Work
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.calibration import Rows, read_rows
from gpubalancer.proxy.judging import Judge
from gpubalancer.proxy.memory import load_state
from gpubalancer.proxy.outlook import Outlook


class Inquiry:
    """Asks of a running balancer.

    Arguments:
        board: the supervisor's.
        prefixes: who has read what before; None if nobody remembers.
        policy: in force.
        discovered: what servers said of themselves.
        learned: what was measured of the backends.
    """

    def __init__(
        self,
        board: Board,
        prefixes: Prefixes | None,
        policy: Callable[[], Policy],
        discovered: Callable[[], Mapping[str, Discovery]],
        learned: Callable[[], Rows],
    ) -> None:
        self._board = board
        self._prefixes = prefixes
        self._policy = policy
        self._discovered = discovered
        self._learned = learned
        self._insight: tuple[Policy, Insight] | None = None
        self._asking = asyncio.Lock()  # the scanner for threads serves one at a time

    async def explain(self, body: bytes) -> dict[str, Any]:
        """What would be decided of a request now, as `explain --json` prints it.

        Raises:
            RequestError: the question, or the request in it, is wrong.
        """
        question = read_question(body)
        async with self._asking:
            policy = self._policy()
            if self._insight is None or self._insight[0] is not policy:
                earlier = self._insight[1] if self._insight is not None else None
                self._insight = policy, await asyncio.to_thread(build_insight, policy, secrets.randbits(64), earlier)
            # What the first worker has learned of tokens, as it last wrote it down.
            experience = Experience.from_state(load_state(self._board.path.with_name("learned-0.json")))
            judge = self._judge(policy)
            outlook, now_s = self._outlook(experience.cached), time.monotonic()

            def cached(work: Work) -> Cells | None:
                outlook.note_loaded(judge, work, now_s)
                found = outlook.cached(judge, work, now_s)
                return None if found is None else found.tokens

            live, salt = outlook.live(judge, now_s, None), self._prefixes.salt if self._prefixes is not None else None
            scene = Scene(policy, judge.fleet, judge.method, live, self._insight[1], experience, salt, cached)
            random = Random()  # noqa: S311  decides between equals
            table, _ = await asyncio.to_thread(explain_request, question, scene, time.time(), random)
        return table.to_json()

    def typical_costs(self) -> dict[str, dict[str, float]]:
        """By backend and term, what a typical request would cost now."""
        judge = self._judge(self._policy())
        live = self._outlook(None).live(judge, time.monotonic(), None)
        return typical_costs(judge.fleet, judge.method, live)

    def _judge(self, policy: Policy) -> Judge:
        judge = Judge(policy, build_fleet(policy, self._board.rows(), self._discovered()))
        judge.learn(read_rows(self._learned()))
        return judge

    def _outlook(self, shares: CacheShares | None) -> Outlook:
        return Outlook(self._board, self._in_flight, self._prefixes, shares)

    def _in_flight(self) -> NDArray[np.int32]:
        total: NDArray[np.int32] = self._board.all_in_flight.sum(axis=0, dtype=np.int32)
        return total
