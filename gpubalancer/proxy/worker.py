"""One process that serves requests.

A worker is told everything over its channel: the policy to serve, a newer one, and when to drain. It tells what it
counted once a second. If its supervisor goes away it serves on with what it knows, until the board shows that another
supervisor has taken over; then it drains.
"""

import asyncio
import gc
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import count
from random import Random
from typing import Any

from gpubalancer.board.board import Board
from gpubalancer.board.prefixes import Prefixes
from gpubalancer.board.slots import Slots
from gpubalancer.brain.calibrate import Sample
from gpubalancer.brain.columns import Measured
from gpubalancer.brain.experience import Experience
from gpubalancer.brain.fleet import Discovery
from gpubalancer.brain.health import Health
from gpubalancer.domain.outcome import Outcome
from gpubalancer.domain.record import record_of
from gpubalancer.domain.tally import Tally
from gpubalancer.policy.listen import Limits as LimitSettings
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.answers import error_answer
from gpubalancer.proxy.calibration import read_rows
from gpubalancer.proxy.channel import Channel, Message
from gpubalancer.proxy.delivery import Courier
from gpubalancer.proxy.generation import Generation, build_generation, drop_generation
from gpubalancer.proxy.memory import load_state, save_state
from gpubalancer.proxy.paying import Cashier, Records
from gpubalancer.proxy.placing import Placer
from gpubalancer.proxy.service import Service
from gpubalancer.proxy.stores import open_store
from gpubalancer.proxy.study import Study
from gpubalancer.proxy.usage_desk import UsageDesk
from gpubalancer.wire.downstream import Downstream, Frontend
from gpubalancer.wire.limits import Limits
from gpubalancer.wire.sweep import Sweeper
from gpubalancer.wire.tls import server_context

COUNT_S = 0.2
COUNTS_PER_REPORT = 5
REPORTS_PER_SAVE = 30
SAMPLES_PER_REPORT = 1000
"""Samples of backends' speed in each report: the last ones. The supervisor learns from each in 25 us."""
TOLD_PER_REPORT = 100
"""Decisions that a worker tells of at most in each report: the last ones."""
BATCH = 32
"""Outcomes are counted and logged so many at a time: in a row they cost half of what they cost one by one (caches)."""
ORPHAN_CHECK_S = 0.5
SETTLE_UP_S = 1.0
"""How long a worker that ends waits for budgets on a server; on the board there is nothing to wait for."""
BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Post:
    """Where a worker stands: what the supervisor gives it at its start."""

    index: int
    board: Board
    listener: socket.socket
    channel: socket.socket
    via: bytes


class Worker:
    """One worker's life, from its first policy to its last connection."""

    def __init__(
        self, post: Post, log: Callable[[Outcome], None], lines_dropped: Callable[[], int], records: Records
    ) -> None:
        self._post = post
        self._log = log
        self._lines_dropped = lines_dropped
        self._records = records
        self._clock = time.monotonic
        self._sweeper = Sweeper(self._clock)
        self._tally = Tally()
        self._ended: list[Outcome] = []
        self._samples: deque[Sample] = deque(maxlen=SAMPLES_PER_REPORT)
        self._measured: dict[str, Measured] = {}
        self._told: deque[Outcome] = deque(maxlen=TOLD_PER_REPORT)
        self._epoch = post.board.epoch
        self._generation: Generation | None = None
        self._frontend: Frontend | None = None
        self._service: Service | None = None
        self._memory = post.board.path.with_name(f"learned-{post.index}.json")
        self._cashier: Cashier | None = None
        self._usage_desk = UsageDesk(self._tell)
        self._prefixes = Prefixes.attach(post.board.path.with_name("prefixes"), post.board)
        salt = self._prefixes.salt if self._prefixes is not None else None
        self._study = Study(Experience.from_state(load_state(self._memory)), time.time, salt)
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._channel: Channel | None = None
        self._drain = asyncio.Event()

    async def run(self) -> None:
        """Serve until told to stop."""
        loop = asyncio.get_running_loop()
        self._channel = await Channel.open(self._post.channel, self._inbox.put_nowait, self._orphaned)
        self._sweeper.run(loop)
        jobs = [loop.create_task(self._follow_orders()), loop.create_task(self._report_regularly())]
        waiting = loop.create_task(self._drain.wait())
        try:
            await asyncio.wait((waiting, *jobs), return_when=asyncio.FIRST_COMPLETED)
            for job in jobs:
                if job.done():
                    # Without its jobs a worker would serve and count nothing: better a fresh one.
                    job.result()
            await self._finish()
            self._report()
            save_state(self._memory, self._study.experience.to_state())
            self._channel.close()
        finally:
            waiting.cancel()
            for job in jobs:
                job.cancel()
            self._sweeper.stop()
            await self._study.close()

    def drain(self) -> None:
        """Take no new work and end after what is in flight."""
        self._drain.set()

    # Orders.

    async def _follow_orders(self) -> None:
        while True:
            message = await self._inbox.get()
            if message["kind"] == "policy":
                await self._adopt(message)
            elif message["kind"] == "measured":
                self._measured |= read_rows(message["backends"])
                if self._generation is not None:
                    self._generation.judge.learn(self._measured)
            elif message["kind"] == "usage":
                self._usage_desk.hear(message)
            elif message["kind"] == "drain":
                self.drain()

    async def _adopt(self, message: Message) -> None:
        """Build what a policy means, and swap."""
        old = self._generation
        discovered = {
            name: Discovery(tuple(row["models"]), row["engine"], row["kind"], tuple(row["adapters"]))
            for name, row in message["discovered"].items()
        }
        new = build_generation(
            message["number"],
            Policy.model_validate(message["policy"]),
            message["rows"],
            discovered,
            old,
            self._clock,
            self._sweeper,
        )
        new.judge.learn(self._measured)
        self._generation = new
        # What a policy means lives as long as it does: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        if self._service is None:
            await self._listen(new)
        else:
            self._service.courier.placer.newest = new.judge
            self._service.generation = new
        if old is not None:
            drop_generation(old, new)
        self._tell({"kind": "adopted", "number": new.number})

    async def _listen(self, generation: Generation) -> None:
        post, policy, loop = self._post, generation.policy, asyncio.get_running_loop()
        random = Random()  # noqa: S311  decides ties and jitter, nothing that anybody must not guess
        health = Health(post.board.layout.backends_limit)
        slots = Slots(post.board, post.index)
        shares = self._study.experience.cached
        placer = Placer(post.board, slots, health, self._clock, random, self._prefixes, shares)
        budgets = post.board.path.with_name("budgets")
        refuses = policy.state.journal_full == "refuse"
        store = open_store(budgets, slots.worker_row, self._policy)
        self._cashier = Cashier(store, self._records, refuses_unrecorded=refuses)
        self._service = Service(
            generation,
            Courier(
                placer,
                health,
                self._clock,
                random,
                post.via,
                self._samples.append,
                on_unreachable=self._tell_unreachable,
            ),
            self._study,
            self._cashier,
            self._usage_desk,
            self._record,
            id_prefix=f"req-{os.urandom(6).hex()}-",
            numbers=count(1),
        )
        self._frontend = Frontend(
            limits=_limits(policy.listen.limits),
            clock=self._clock,
            sweeper=self._sweeper,
            serve=self._service.serve,
            refusal=error_answer,
            most_connections=max(1, policy.listen.limits.connections // post.board.workers),
            loop=loop,
        )
        frontend, tls = self._frontend, policy.listen.tls
        context = (
            server_context(tls.certificate, tls.key, tls.client_ca)
            if tls is not None and tls.certificate is not None and tls.key is not None
            else None
        )
        self._server = await loop.create_server(
            lambda: Downstream(frontend), sock=post.listener, ssl=context, backlog=BACKLOG
        )

    def _policy(self) -> Policy:
        if self._generation is None:
            raise RuntimeError("no policy has been adopted")
        return self._generation.policy

    # Reports.

    def _tell_unreachable(self, backend: str) -> None:
        """Have the supervisor look at a backend at once."""
        self._tell({"kind": "unreachable", "backend": backend})

    def _record(self, outcome: Outcome) -> None:
        self._ended.append(outcome)
        if len(self._ended) >= BATCH:
            self._count_ended()

    def _count_ended(self) -> None:
        ended, self._ended = self._ended, []
        for outcome in ended:
            self._tally.add(outcome)
            self._log(outcome)
        self._told.extend(ended[-TOLD_PER_REPORT:])

    async def _report_regularly(self) -> None:
        for reports in count(1):
            for _ in range(COUNTS_PER_REPORT):
                await asyncio.sleep(COUNT_S)
                self._count_ended()
                if self._cashier is not None:
                    self._cashier.note_progress()
            self._report()
            if reports % REPORTS_PER_SAVE == 0:
                await asyncio.to_thread(save_state, self._memory, self._study.experience.to_state())

    def _report(self) -> None:
        self._count_ended()
        self._tell(
            {
                "kind": "counts",
                "tally": self._tally.take_delta(),
                "decisions": self._take_told(),
                "samples": self._take_samples(),
                "reservations": self._cashier.outstanding if self._cashier is not None else 0,
                "connections": len(self._frontend.connections) if self._frontend else 0,
                "lines_dropped": self._lines_dropped(),
                "records_lost": self._records.lost,
            }
        )

    def _take_told(self) -> list[dict[str, Any]]:
        """The last decisions, for whoever looks."""
        told, ahead_s = list(self._told), time.time() - self._clock()
        self._told.clear()
        return [record_of(outcome, ahead_s + outcome.ended_s) for outcome in told]

    def _take_samples(self) -> list[list[Any]]:
        """What answers have shown of their backends' speed since the last report, as JSON values."""
        samples = [list(sample) for sample in self._samples]
        self._samples.clear()
        return samples

    def _tell(self, message: dict[str, Any]) -> None:
        if self._channel is not None:
            self._channel.send(message)

    # The end.

    def _orphaned(self) -> None:
        self._usage_desk.close()
        if not self._drain.is_set():
            asyncio.get_running_loop().call_later(ORPHAN_CHECK_S, self._look_for_successor)

    def _look_for_successor(self) -> None:
        if self._post.board.epoch != self._epoch:
            self.drain()
        else:
            self._orphaned()

    async def _finish(self) -> None:
        """Let requests in flight end, up to the drain timeout; what is left then is broken off."""
        if self._frontend is None or self._generation is None:
            return
        self._server.close()
        self._frontend.drain()
        until_s = self._clock() + self._generation.policy.listen.limits.drain_timeout_s
        while self._frontend.connections and self._clock() < until_s:  # noqa: ASYNC110  a plain look costs no hot path
            await asyncio.sleep(0.02)
        for connection in list(self._frontend.connections):
            connection.cut()
        await asyncio.sleep(0)
        for pool in self._generation.pools:
            pool.close()
        await self._settle_up()

    async def _settle_up(self) -> None:
        """Let a server confirm the last settlements; those that it does not are settled after the next start."""
        cashier, until_s = self._cashier, self._clock() + SETTLE_UP_S
        while cashier is not None and cashier.outstanding and self._clock() < until_s:  # noqa: ASYNC110  likewise
            await asyncio.sleep(0.02)


def _limits(settings: LimitSettings) -> Limits:
    """The wire's limits are settings of the same names."""
    return Limits(**{each.name: getattr(settings, each.name) for each in fields(Limits)})
