"""A backend and a slot on it for each request.

Choosing and taking happen in one step without an await between them: with one, simultaneous requests would all see the
same idle backend. If another worker takes the last slot in between, the choice is made again without that backend.

Where no backend that could serve has a place, or none would keep the SLO, requests wait here: those of one kind in one
line, higher classes first, and inside a class in the order they came. The line moves when a slot is given back: the
head looks first. If an SLO holds it, the next one may look, and so on for the first `REACH`: a long prompt that fits
nowhere just now does not keep places empty that a shorter one behind it could have. Nobody is passed for ever, because
who can no longer be in time is refused.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from random import Random

import numpy as np

from gpubalancer.board.board import Board
from gpubalancer.board.burdens import Burden, Burdens
from gpubalancer.board.prefixes import Prefixes
from gpubalancer.board.slots import Lease, Slots
from gpubalancer.brain.choose import choose
from gpubalancer.brain.fleet import Flags, signature
from gpubalancer.brain.health import Health
from gpubalancer.brain.prefix import CacheShares
from gpubalancer.brain.verdict import Choice
from gpubalancer.brain.weighed import Forecast
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Priority, Work
from gpubalancer.policy.routing import Queue
from gpubalancer.proxy.judging import Judge
from gpubalancer.proxy.outlook import Outlook

RECHECK_S = 0.05
"""How often the head of a line looks again, because slots that other workers give back are not announced here."""
REACH = 8
"""So many of a line may look for a place. With 1, 4, 16 and 64 the SLO was kept for 0.83, 0.89, 0.89 and 0.89 of all
requests (`bench/steps`, the mixed fleet, chats at 22 requests per second, 5 seeds)."""
RETRY_NO_BACKEND_S = 2.0
LASTING = frozenset(("api", "model", "clearance", "tenant", "claim", "rule", "context"))
"""Reasons that no time heals: who is refused for these alone need not come back."""


@dataclass(slots=True)
class Place:
    """A chosen backend, the slot that was taken on it, and what is expected of the request there."""

    index: int
    lease: Lease
    burden: Burden
    forecast: Forecast | None
    foreseen_tokens: float = 0.0
    """Of the prompt, what the table of prefixes says that the backend has read before."""
    watts: float = math.nan
    """What the backend was measured to draw for its work; NaN if nobody measures."""


class Line:
    """Requests of one kind that wait, by class."""

    def __init__(self) -> None:
        self._classes: tuple[deque[asyncio.Future[bool]], ...] = tuple(deque() for _ in Priority)

    def __repr__(self) -> str:
        return f"<Line {[len(each) for each in self._classes]}>"

    def __bool__(self) -> bool:
        return any(self._classes)

    def join(self, priority: Priority, turn: asyncio.Future[bool]) -> None:
        """Stand behind all others of the class."""
        self._classes[priority].append(turn)

    def leave(self, priority: Priority, turn: asyncio.Future[bool], *, lets_pass: bool) -> None:
        """Stand here no more; who stood behind may look if it heads the line now, or if this one lets it pass."""
        self.call_after(turn, lets_pass=lets_pass)
        self._classes[priority].remove(turn)

    def renew(self, priority: Priority, turn: asyncio.Future[bool]) -> asyncio.Future[bool]:
        """The turn, or a fresh one in its place if it was called."""
        if not turn.done():
            return turn
        mates = self._classes[priority]
        fresh: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        mates[mates.index(turn)] = fresh
        return fresh

    @property
    def head(self) -> asyncio.Future[bool]:
        """Whose turn is next. Errors: IndexError for an empty line."""
        return next(each for each in self._classes if each)[0] if self else self._classes[0][0]

    def call(self) -> None:
        """Tell the head that it may look again."""
        if not self.head.done():
            self.head.set_result(True)

    def call_after(self, turn: asyncio.Future[bool], *, lets_pass: bool) -> None:
        """Tell the one behind this turn whether it may look though it is not the head, unless it is out of reach."""
        within = islice(chain.from_iterable(self._classes), REACH)
        following = next((after for before, after in pairwise(within) if before is turn), None)
        if following is not None and not following.done():
            following.set_result(lets_pass)


class Placer:
    """Finds places for one worker's requests."""

    def __init__(
        self,
        board: Board,
        slots: Slots,
        health: Health,
        clock: Callable[[], float],
        random: Random,
        prefixes: Prefixes | None = None,
        shares: CacheShares | None = None,
    ) -> None:
        """What a worker places by.

        Arguments:
            board: attached.
            slots: this worker's.
            health: what it has seen of backends.
            clock: monotonic seconds.
            random: decides between equals.
            prefixes: who has read what before; None if nobody remembers.
            shares: how far that can be relied on.

        Whoever adopts another policy sets `newest`: what has waited since an older one is bound by it too.
        """
        self.waiting = 0
        self.newest: Judge | None = None
        self._slots = slots
        self._burdens = Burdens(board, slots)
        self._outlook = Outlook(board, slots.total, prefixes, shares)
        self._watts = board.active_watts
        self._prefixes = prefixes
        self._shares = shares
        self._health = health
        self._clock = clock
        self._random = random
        self._lines: dict[Hashable, Line] = {}

    def place_nowait(self, judge: Judge, work: Work, tried: Flags | None, waited_s: float = 0.0) -> Place | Choice:
        """A place now, or the decision that says why there is none."""
        now_s = self._clock()
        barred = judge.barred_by(self.newest, work.tier) if self.newest is not None else None
        if barred is not None:
            tried = barred if tried is None else barred | tried
        avoided = self._health.avoided(judge.fleet.rows, now_s)
        if avoided is not None:
            place = self._take(judge, work, avoided if tried is None else avoided | tried, now_s, waited_s)
            if isinstance(place, Place):
                return place
        return self._take(judge, work, tried, now_s, waited_s)

    def _take(self, judge: Judge, work: Work, tried: Flags | None, now_s: float, waited_s: float) -> Place | Choice:
        fleet, lost = judge.fleet, None
        cached = self._outlook.cached(judge, work, now_s) if work.prefix is not None else None
        if fleet.adapters:
            self._outlook.note_loaded(judge, work, now_s)
        while True:
            live = self._outlook.live(judge, now_s, lost, cached)
            choice = choose(fleet, work, live, tried, self._random, judge.method, waited_s)
            if choice.index is None:
                return choice
            row, slots = fleet.places[choice.index]
            lease = self._slots.take(row, slots)
            if lease is not None:
                if not self._health.all_well:
                    self._health.sent(row, now_s)
                fresh_tokens = work.prompt_tokens - (choice.forecast.load.cached_tokens if choice.forecast else 0.0)
                burden = self._burdens.add(row, max(0, int(fresh_tokens)), work.prompt_tokens + work.output_tokens // 2)
                foreseen = cached.foreseen.get(choice.index, 0.0) if cached is not None else 0.0
                return Place(choice.index, lease, burden, choice.forecast, foreseen, float(self._watts[row]))
            lost = np.zeros(len(fleet), dtype=np.bool_) if lost is None else lost
            lost[choice.index] = True

    async def place(self, judge: Judge, work: Work, tried: Flags | None, queue: Queue) -> Place:
        """A place, waited for if need be.

        Raises:
            RequestError: `no_backend`, `context_length_exceeded`, `overloaded`, `timed_out`.
        """
        kind = signature(work)
        if kind not in self._lines:
            place = self.place_nowait(judge, work, tried)
            if isinstance(place, Place):
                return place
            _refuse_unless_full(place)
        elif judge.fleet.exceeds_context(work):
            raise _too_long()
        return await self._place_in_turn(kind, judge, work, tried, queue)

    async def _place_in_turn(
        self, kind: Hashable, judge: Judge, work: Work, tried: Flags | None, queue: Queue
    ) -> Place:
        if self.waiting >= queue.limit:
            raise RequestError("overloaded", "Every backend is full, and so is the queue.", retry_after_s=1)
        line = self._lines.setdefault(kind, Line())
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        line.join(work.priority, turn)
        self.waiting += 1
        since_s = self._clock()
        until_s = min(since_s + queue.timeout_s, work.deadline_s)
        # Where what holds this one back need not hold those behind it, they look after it has looked in vain.
        lets_pass = judge.method.slo is not None or tried is not None
        try:
            while True:
                await asyncio.wait((turn,), timeout=min(RECHECK_S, max(0.0, until_s - self._clock())))
                called = turn.done() and turn.result()
                turn = line.renew(work.priority, turn)
                if line.head is turn or called:
                    place = self.place_nowait(judge, work, tried, self._clock() - since_s)
                    if isinstance(place, Place):
                        return place
                    _refuse_unless_full(place)
                    if lets_pass:
                        line.call_after(turn, lets_pass=True)
                if self._clock() >= work.deadline_s:
                    raise RequestError("timed_out", "The request's deadline passed while it waited.")
                if self._clock() >= until_s:
                    raise RequestError("overloaded", "Every backend was full for too long.", retry_after_s=1)
        finally:
            self.waiting -= 1
            line.leave(work.priority, turn, lets_pass=lets_pass)
            if not line:
                self._lines.pop(kind, None)

    def began(self, place: Place, work: Work) -> None:
        """The first token of an answer has come: its backend has read the prompt."""
        place.burden.read()
        if work.prefix is not None and self._prefixes is not None:
            self._prefixes.enter(work.prefix.names, place.lease.row, int(self._clock()))
        if work.adapter and self._prefixes is not None:
            self._prefixes.enter((work.adapter,), place.lease.row, int(self._clock()))

    def learn(self, place: Place, backend: str, cached_tokens: int) -> None:
        """So many tokens of a prompt its backend had read before, by its own word."""
        if place.foreseen_tokens and self._shares is not None:
            self._shares.learn(backend, place.foreseen_tokens, cached_tokens)

    def give_back(self, place: Place) -> None:
        """End a request's stay, and let the lines move."""
        place.burden.end()
        place.lease.release()
        if self._lines:
            for line in self._lines.values():
                line.call()


def _refuse_unless_full(choice: Choice) -> None:
    """Refuse what waiting will not help."""
    if choice.wait == "hold":
        return
    if choice.wait == "hopeless":
        late = "No backend can serve this in time."
        raise RequestError("overloaded", late, retry_after_s=choice.retry_after_s)
    if choice.is_too_long:
        raise _too_long()
    heals = not LASTING.issuperset(reason for reason in choice.dropped if reason is not None)
    sentence = "No backend that may serve this request is available."
    raise RequestError("no_backend", sentence, retry_after_s=RETRY_NO_BACKEND_S if heals else None)


def _too_long() -> RequestError:
    return RequestError("context_length_exceeded", "The prompt is longer than the model's context.", param="messages")
