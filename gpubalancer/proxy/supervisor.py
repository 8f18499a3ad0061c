"""The process that looks after the workers: starts them, restarts dead ones, hands them policies, gathers counts.

Each worker has a listening socket of its own on the one port (SO_REUSEPORT). The supervisor keeps a copy of each, so
connections that arrive while a worker is being restarted wait in its socket instead of being refused.
"""

import asyncio
import contextlib
import errno
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gpubalancer.board.board import Board
from gpubalancer.brain.fleet import Discovery
from gpubalancer.domain.outcome import Outcome
from gpubalancer.policy.schema import Policy, dump
from gpubalancer.proxy.calibration import Calibration, Rows
from gpubalancer.proxy.channel import Channel, Message
from gpubalancer.proxy.generation import build_generation
from gpubalancer.proxy.treasury import Treasury
from gpubalancer.wire.sweep import Sweeper

ADOPT_S = 30.0
RESTART_FIRST_S = 0.1
RESTART_LONGEST_S = 5.0
BACKLOG = 1024


def bind(host: str, port: int, workers: int) -> list[socket.socket]:
    """One listening socket for each worker, all on one port.

    Raises:
        OSError: the address is in use, also by another balancer that shares ports, or can't be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        # Without SO_REUSEPORT this fails even if whoever has the port would share it.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen()
        address = probe.getsockname()
    sockets = []
    for _ in range(workers):
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        sockets.append(listener)
    return sockets


async def bind_when_free(host: str, port: int, workers: int, wait_s: float) -> list[socket.socket]:
    """`bind`, tried until workers of an earlier supervisor have let the port go."""
    until_s = time.monotonic() + wait_s
    while True:
        try:
            return bind(host, port, workers)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= until_s:
                raise
        await asyncio.sleep(0.1)


@dataclass(slots=True)
class Seat:
    """One worker's place: its socket stays while processes come and go."""

    index: int
    listener: socket.socket
    process: asyncio.subprocess.Process | None = None
    channel: Channel | None = None
    adopted: int = 0
    connections: int = 0
    reservations: int = 0
    lines_dropped: int = 0
    records_lost: int = 0
    before: tuple[int, int] = (0, 0)
    """Lines dropped and records lost of processes that have ended."""


class Supervisor:
    """Keeps the workers running on the present policy."""

    def __init__(
        self,
        board: Board,
        listeners: list[socket.socket],
        via: bytes,
        on_counts: Callable[[dict[str, Any]], None],
        on_decisions: Callable[[list[dict[str, Any]]], None],
        on_buried: Callable[[Outcome], None],
        answer_usage: Callable[[Message], Awaitable[Message]],
        on_unreachable: Callable[[str], None],
        treasury: Treasury,
    ) -> None:
        self.restarts = 0
        self.stopping = False
        self._board = board
        self._via = via
        self._on_counts = on_counts
        self._on_decisions = on_decisions
        self._on_buried = on_buried
        self._answer_usage = answer_usage
        self._on_unreachable = on_unreachable
        self._treasury = treasury
        self._answering: set[asyncio.Task[None]] = set()
        self._seats = [Seat(index, listener) for index, listener in enumerate(listeners)]
        self._keepers: list[asyncio.Task[None]] = []
        self._policy: Policy | None = None
        self._discovered: dict[str, Discovery] = {}
        self._number = 0
        self._reported = asyncio.Event()
        self._calibration = Calibration(board.path.with_name("learned-fleet.json"), time.monotonic)

    @property
    def alive(self) -> int:
        """Workers that serve."""
        return sum(seat.adopted > 0 and seat.channel is not None for seat in self._seats)

    @property
    def connections(self) -> int:
        """Open connections of clients, as last reported."""
        return sum(seat.connections for seat in self._seats)

    @property
    def reservations(self) -> int:
        """Requests that hold a reservation in a budget, as last reported."""
        return sum(seat.reservations for seat in self._seats)

    @property
    def lines_dropped(self) -> int:
        """Lines of the access log that could not be written in time."""
        return sum(seat.before[0] + seat.lines_dropped for seat in self._seats)

    @property
    def records_lost(self) -> int:
        """Requests that could not be put on record: there was no room for long, and the policy said to go on."""
        return sum(seat.before[1] + seat.records_lost for seat in self._seats)

    async def start(self, policy: Policy) -> None:
        """Start all workers on a policy, and return when they serve."""
        self._take(policy)
        loop = asyncio.get_running_loop()
        self._keepers = [loop.create_task(self._keep(seat)) for seat in self._seats]
        await self._until_adopted()

    async def apply(self, policy: Policy) -> None:
        """Hand all workers another policy, and return when they serve it.

        Raises:
            OSError, BoardError: the policy can't be served; the present one stays in force. A time-out is an OSError.
        """
        self._take(policy)
        self._broadcast()
        await self._until_adopted()

    async def learn(self, discovered: Mapping[str, Discovery]) -> None:
        """Tell the workers what servers said of themselves."""
        if dict(discovered) != self._discovered and self._policy is not None:
            self._discovered = dict(discovered)
            await self.apply(self._policy)

    @property
    def learned(self) -> Rows:
        """What was learned of the backends' speed."""
        return self._calibration.rows

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the data port."""
        host, port = self._seats[0].listener.getsockname()[:2]
        return host, port

    def kill(self) -> None:
        """End the workers without a drain."""
        for seat in self._seats:
            if seat.process is not None and seat.process.returncode is None:
                seat.process.kill()

    async def stop(self) -> None:
        """Drain the workers and end them."""
        self.stopping = True
        for seat in self._seats:
            seat.listener.close()
            if seat.channel is not None:
                seat.channel.send({"kind": "drain"})
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._calibration.save()

    def _take(self, policy: Policy) -> None:
        """Make a policy the present one, after making sure that it can be served."""
        names = [backend.name for backend in policy.backends]
        # What may fail comes before the board changes: its rows must stay those of the policy in force.
        build_generation(0, policy, dict.fromkeys(names, 0), {}, None, time.monotonic, Sweeper(time.monotonic))
        rows = self._board.assign_rows(names)
        for row in rows.values():
            if not self._board.probed_s[row]:
                # Nothing is known yet, and what is not known to be down is tried.
                self._board.up[row] = 1
                self._board.cached_since_s[row] = int(time.monotonic())
        self._policy = policy
        self._number += 1
        self._calibration.expect(policy, self._discovered)
        self._treasury.adopt(policy)

    def _message(self) -> Message:
        if self._policy is None:
            raise RuntimeError("no policy has been taken")
        return {
            "kind": "policy",
            "number": self._number,
            "policy": orjson.loads(dump(self._policy)),
            "rows": self._board.rows(),
            "discovered": {
                name: {
                    "models": found.models,
                    "engine": found.engine,
                    "kind": found.kind,
                    "adapters": found.adapters,
                }
                for name, found in self._discovered.items()
            },
        }

    def _broadcast(self) -> None:
        self._tell_all(self._message())

    def _tell_all(self, message: Message) -> None:
        for seat in self._seats:
            if seat.channel is not None:
                seat.channel.send(message)

    async def _until_adopted(self) -> None:
        until_s = time.monotonic() + ADOPT_S
        while any(seat.adopted < self._number for seat in self._seats):
            if time.monotonic() >= until_s:
                raise TimeoutError("the workers did not take the policy in time")
            self._reported.clear()
            try:
                async with asyncio.timeout(0.1):
                    await self._reported.wait()
            except TimeoutError:
                continue

    async def _keep(self, seat: Seat) -> None:
        """Keep one seat taken until the supervisor stops."""
        pause_s = RESTART_FIRST_S
        while not self.stopping:
            began_s = time.monotonic()
            # Where no process can be had now, one is tried again like one that ends at once.
            with contextlib.suppress(OSError):
                process = await self._spawn(seat)
                await process.wait()
            self._empty(seat)
            if self.stopping:
                return
            self.restarts += 1
            pause_s = RESTART_FIRST_S if time.monotonic() - began_s > 10 else min(pause_s * 2, RESTART_LONGEST_S)
            await asyncio.sleep(pause_s)

    async def _spawn(self, seat: Seat) -> asyncio.subprocess.Process:
        self._bury(self._treasury.recover())
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as until_started, theirs:
            until_started.enter_context(ours)
            fds = (theirs.fileno(), seat.listener.fileno())
            arguments = {
                "--index": seat.index,
                "--channel-fd": fds[0],
                "--listen-fd": fds[1],
                "--board": self._board.path,
                "--via": self._via.decode(),
            }
            command = [text for pair in arguments.items() for text in map(str, pair)]
            seat.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gpubalancer", "worker", *command, pass_fds=fds, env=dict(os.environ)
            )
            until_started.pop_all()
        seat.channel = await Channel.open(ours, lambda message: self._hear(seat, message), lambda: None)
        seat.channel.send(self._message())
        if self.stopping:
            seat.channel.send({"kind": "drain"})
        return seat.process

    def _empty(self, seat: Seat) -> None:
        """A worker's process has ended: what it held is free."""
        if seat.channel is not None:
            seat.channel.close()
        seat.process = seat.channel = None
        seat.adopted = seat.connections = seat.reservations = 0
        seat.before = seat.before[0] + seat.lines_dropped, seat.before[1] + seat.records_lost
        seat.lines_dropped = seat.records_lost = 0
        # Of all that have ended: a worker that outlived the last supervisor dies unseen by us.
        self._board.clear_worker()

    def _hear(self, seat: Seat, message: Message) -> None:
        if message["kind"] == "adopted":
            seat.adopted = message["number"]
            self._reported.set()
        elif message["kind"] == "counts":
            self._on_counts(message["tally"])
            self._on_decisions(message["decisions"])
            seat.reservations = message["reservations"]
            self._bury(self._treasury.tidy())
            if news := self._calibration.learn(message["samples"]):
                self._tell_all({"kind": "measured", "backends": news})
            seat.connections = message["connections"]
            seat.lines_dropped, seat.records_lost = message["lines_dropped"], message["records_lost"]
        elif message["kind"] == "unreachable":
            self._on_unreachable(message["backend"])
        elif message["kind"] == "usage":
            answering = asyncio.create_task(self._answer(seat, message))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)

    def _bury(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self._on_buried(outcome)

    async def _answer(self, seat: Seat, message: Message) -> None:
        channel, answer = seat.channel, await self._answer_usage(message)
        if channel is not None:
            channel.send({"kind": "usage", "number": message["number"], **answer})
