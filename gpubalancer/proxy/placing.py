"""A backend and a slot on it for each request.

Choosing and taking happen in one step without an await between them: with one, simultaneous requests would all see the
same idle backend. If another worker takes the last slot in between, the choice is made again without that backend.

Where every backend that could serve is full, requests wait here in the order they came, those of one kind in one line,
and the line moves when a slot is given back.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from random import Random

import numpy as np

from gpubalancer.board.board import Board
from gpubalancer.board.slots import Lease, Slots
from gpubalancer.brain.choose import Live, choose
from gpubalancer.brain.fleet import Flags, Fleet
from gpubalancer.brain.health import Health
from gpubalancer.domain.decision import Decision
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Work
from gpubalancer.policy.routing import Queue

OPENNESS_S = 0.02
"""How old a worker's picture of what is up and draining may be; slots are always read anew."""

RECHECK_S = 0.05
"""How often the head of a line looks again, because slots that other workers give back are not announced here."""


@dataclass(frozen=True, slots=True)
class Place:
    """A chosen backend and the slot that was taken on it."""

    index: int
    lease: Lease


class Placer:
    """Finds places for one worker's requests."""

    def __init__(self, board: Board, slots: Slots, health: Health, clock: Callable[[], float], random: Random) -> None:
        self.waiting = 0
        self._board = board
        self._slots = slots
        self._health = health
        self._clock = clock
        self._random = random
        self._looked_s = -OPENNESS_S
        self._up = board.up != 0
        self._draining = board.draining != 0
        self._lines: dict[Hashable, deque[asyncio.Future[None]]] = {}

    def place_nowait(self, fleet: Fleet, work: Work, tried: Flags | None) -> Place | Decision:
        """A place now, or the decision that says why there is none."""
        now_s = self._clock()
        if now_s - self._looked_s >= OPENNESS_S:
            self._looked_s = now_s
            self._up, self._draining = self._board.up != 0, self._board.draining != 0
        avoided = self._health.avoided(fleet.rows, now_s)
        if avoided is not None:
            place = self._take(fleet, work, avoided if tried is None else avoided | tried)
            if isinstance(place, Place):
                return place
        return self._take(fleet, work, tried)

    def _take(self, fleet: Fleet, work: Work, tried: Flags | None) -> Place | Decision:
        rows = fleet.rows
        lost: Flags | None = None
        while True:
            in_flight = self._slots.total()[rows]
            if lost is not None:
                in_flight = np.where(lost, fleet.slots, in_flight)
            live = Live(self._up[rows], self._draining[rows], in_flight)
            decision = choose(fleet, work, live, tried, self._random)
            if decision.index is None:
                return decision
            lease = self._slots.take(int(rows[decision.index]), int(fleet.slots[decision.index]))
            if lease is not None:
                return Place(decision.index, lease)
            lost = np.zeros(len(fleet), dtype=np.bool_) if lost is None else lost
            lost[decision.index] = True

    async def place(self, fleet: Fleet, work: Work, tried: Flags | None, queue: Queue) -> Place:
        """A place, waited for if need be.

        Raises:
            RequestError: `no_backend`, `overloaded`, `timed_out`.
        """
        kind = (work.api, work.model, work.sent_name, work.tier, work.kinds, work.labels, work.claim, work.upgrade)
        if kind not in self._lines:
            place = self.place_nowait(fleet, work, tried)
            if isinstance(place, Place):
                return place
            self._refuse_unless_full(place)
        return await self._place_in_turn(kind, fleet, work, tried, queue)

    async def _place_in_turn(
        self, kind: Hashable, fleet: Fleet, work: Work, tried: Flags | None, queue: Queue
    ) -> Place:
        if self.waiting >= queue.limit:
            raise RequestError("overloaded", "Every backend is full, and so is the queue.", retry_after_s=1)
        line = self._lines.setdefault(kind, deque())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(turn)
        self.waiting += 1
        until_s = min(self._clock() + queue.timeout_s, work.deadline_s)
        try:
            while True:
                await asyncio.wait((turn,), timeout=min(RECHECK_S, max(0.0, until_s - self._clock())))
                turn = self._renew(line, turn)
                if line[0] is turn:
                    place = self.place_nowait(fleet, work, tried)
                    if isinstance(place, Place):
                        return place
                    self._refuse_unless_full(place)
                if self._clock() >= work.deadline_s:
                    raise RequestError("timed_out", "The request's deadline passed while it waited.")
                if self._clock() >= until_s:
                    raise RequestError("overloaded", "Every backend was full for too long.", retry_after_s=1)
        finally:
            self.waiting -= 1
            line.remove(turn)
            if not line:
                self._lines.pop(kind, None)
            else:
                self._wake(line)

    @staticmethod
    def _renew(line: deque[asyncio.Future[None]], turn: asyncio.Future[None]) -> asyncio.Future[None]:
        if not turn.done():
            return turn
        fresh: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line[line.index(turn)] = fresh
        return fresh

    @staticmethod
    def _refuse_unless_full(decision: Decision) -> None:
        if not decision.only_full:
            raise RequestError("no_backend", "No backend that may serve this request is available.", retry_after_s=2)

    def give_back(self, lease: Lease) -> None:
        """End a lease, and let the lines move."""
        lease.release()
        if self._lines:
            for line in self._lines.values():
                self._wake(line)

    @staticmethod
    def _wake(line: deque[asyncio.Future[None]]) -> None:
        if not line[0].done():
            line[0].set_result(None)
