"""A worker's reader: the process that parses, counts and scans the bodies which would hold up the event loop.

orjson and hyperscan's callbacks keep the interpreter's lock, so no thread helps: 32 MB of small numbers would stop all
requests of a worker for a third of a second. The process is started with the first body that needs it, and reads one at
a time, the smallest first, so that nobody waits behind more than one that was made to be slow. The body's bytes stay
here for the backend; the process gets a copy over a socket, in pieces, and sends back a gist of a few hundred bytes.

What may go wrong with it is the affair of one request:

* a body that takes more CPU or memory than one may have is given up there (`proxy/reading.py`), one that the process
  dies of or does not answer is given up here: both are refused, and the next one gets a new process;
* a client that leaves while its body is read stops the reading.
"""

import asyncio
import contextlib
import heapq
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import orjson

from gpubalancer.brain.document import Document
from gpubalancer.brain.gist import Owner, from_row
from gpubalancer.brain.routes import Route
from gpubalancer.domain.errors import RequestError
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.channel import LENGTH, Message, encode
from gpubalancer.proxy.reading import READ, REFUSED, STOPPED, TOO_COSTLY, order_to_learn, order_to_read

START_S = 30.0
"""To start the process and to load a policy's tokenizers: 1 s, more on a machine that is busy."""
ANSWER_S = 60.0
"""To read one body. The process itself gives up after less of its own time (`reading.READ_CPU_S`)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    """A body that waits, or is being read."""

    pieces: list[bytes]
    route: Route
    policy: Policy
    owner: Owner | None
    answer: "asyncio.Future[Message]"

    @property
    def size_bytes(self) -> int:
        """Of the body."""
        return sum(map(len, self.pieces))


class Reader:
    """Reads bodies in another process, which it starts and ends."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, _Job]] = []
        self._numbers = count()
        self._work: asyncio.Task[None] | None = None
        self._link: _Link | None = None

    def __repr__(self) -> str:
        return f"<Reader {'idle' if self._work is None else 'reading'}, {len(self._waiting)} waiting>"

    @property
    def pid(self) -> int | None:
        """The process, None while there is none."""
        return self._link.process.pid if self._link is not None else None

    async def read(self, pieces: Sequence[bytes], route: Route, policy: Policy, owner: Owner | None = None) -> Document:
        """Have a body read, counted and scanned by a policy, and its beginnings named for an owner of prefixes.

        Raises:
            RequestError: what is wrong with the body, `body_too_costly`, `internal_error`.
        """
        loop = asyncio.get_running_loop()
        job = _Job(list(pieces), route, policy, owner, loop.create_future())
        job.answer.add_done_callback(lambda _answer: job.pieces.clear())  # of who left, nothing is kept
        heapq.heappush(self._waiting, (job.size_bytes, next(self._numbers), job))
        if self._work is None:
            self._work = loop.create_task(self._work_off())
        return from_row(await job.answer, pieces)

    async def close(self) -> None:
        """End the process; nobody is answered any more."""
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
            await asyncio.wait((work,))
        await self._drop()

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                job = heapq.heappop(self._waiting)[-1]
                if not job.answer.done():
                    await self._serve(job)
        finally:
            self._work = None

    async def _serve(self, job: _Job) -> None:
        """Get one body read, whatever becomes of the process."""
        try:
            async with asyncio.timeout(START_S):
                link = await self._linked(job.policy)
        except (OSError, EOFError) as error:
            _log.warning("the reader process can't be started: %s", error or "it ended")
            await self._drop()
            _settle(job, RequestError("internal_error", "The balancer failed."))
            return
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await link.ask(job)
                if answer["kind"] == STOPPED and not job.answer.done():
                    answer = await link.ask(job)  # stopped for the one before, a moment too late
        except (OSError, EOFError):
            answer = {"kind": TOO_COSTLY}
        if answer["kind"] == TOO_COSTLY:
            _log.warning("a body of %d bytes is too costly to read: the reader process is replaced", job.size_bytes)
            await self._drop()
        _settle(job, _judged(answer))

    async def _linked(self, policy: Policy) -> "_Link":
        """The process, told this policy."""
        if self._link is None:
            self._link = await _Link.open()
        await self._link.learn(policy)
        return self._link

    async def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.end()


class _Link:
    """One process and the way to it."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self._incoming = incoming
        self._outgoing = outgoing
        self._policy: Policy | None = None

    @classmethod
    async def open(cls) -> "_Link":
        """Start a process.

        Raises:
            OSError: there can be none.
        """
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as until_started, theirs:
            until_started.enter_context(ours)
            process = _start(theirs.fileno())
            until_started.pop_all()
        return cls(process, *await asyncio.open_unix_connection(sock=ours))

    async def learn(self, policy: Policy) -> None:
        """Have the process read by this policy from now on.

        Raises:
            EOFError: the process has ended.
        """
        if policy is not self._policy:
            self._outgoing.write(encode(order_to_learn(policy)))
            await self._hear()
            self._policy = policy

    async def ask(self, job: _Job) -> Message:
        """Have a body read.

        Raises:
            OSError, EOFError: the process has ended.
        """
        pieces = tuple(job.pieces)  # once begun, it is sent to its end, also where the client leaves meanwhile
        self._outgoing.write(encode(order_to_read(job.route, job.owner, job.size_bytes)))
        for piece in pieces:
            self._outgoing.write(piece)
            await self._outgoing.drain()
        job.answer.add_done_callback(self._stop)
        try:
            return await self._hear()
        finally:
            job.answer.remove_done_callback(self._stop)

    def _stop(self, _answer: object) -> None:
        """The client has left: what is being read is given up."""
        self.process.send_signal(signal.SIGUSR1)

    async def _hear(self) -> Message:
        (size,) = LENGTH.unpack(await self._incoming.readexactly(LENGTH.size))
        message: Message = orjson.loads(await self._incoming.readexactly(size))
        return message

    async def end(self) -> None:
        """End the process now."""
        self._outgoing.close()
        self.process.kill()
        await asyncio.to_thread(self.process.wait)


def _start(channel_fd: int) -> "subprocess.Popen[bytes]":
    """Start a process.

    With `vfork`, as here, that takes 0.3 ms however large this process is; a `fork` of 300 MB takes 5 ms.
    """
    command = (sys.executable, "-m", "gpubalancer.proxy.reading", str(channel_fd))
    return subprocess.Popen(command, pass_fds=(channel_fd,))  # noqa: S603  nothing of it comes from outside


def _judged(answer: Message) -> Message | RequestError:
    """What the process said, as the request's caller gets it."""
    if answer["kind"] == REFUSED:
        return RequestError(answer["code"], answer["message"], param=answer["param"])
    if answer["kind"] == READ:
        return answer
    return RequestError("body_too_costly", "The body takes more time or memory to read than one request may have.")


def _settle(job: _Job, answer: Message | RequestError) -> None:
    if job.answer.done():
        return
    if isinstance(answer, RequestError):
        job.answer.set_exception(answer)
    else:
        job.answer.set_result(answer)
