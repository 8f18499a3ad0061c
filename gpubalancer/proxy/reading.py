"""The reader process: it reads one body after another for its worker (`proxy/reader.py`), and holds up nobody.

Its loop is as plain as can be: receive an order and, behind it, a body's bytes; answer with one message; again. It ends
when its worker's end of the socket closes. It is told of a policy only what a text is understood by, no keys and no
addresses, since what it parses comes from anywhere.

A body is given up when it has taken `READ_CPU_S` of this process's own time, when it needs more than `MEMORY_BYTES`, or
when the worker says that its client has left (SIGUSR1). Each raises inside the reading, which is plain code without
cleanup; a call of a library is not interrupted, but ends sooner or later, or the worker ends the process.

    python -m gpubalancer.proxy.reading FD
"""

import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import orjson

from gpubalancer.brain.document import Document
from gpubalancer.brain.gist import Lore, Owner, take_gist, to_row
from gpubalancer.brain.routes import Route
from gpubalancer.brain.sensitivity.scan import Scanner
from gpubalancer.brain.tokens.book import TokenBook
from gpubalancer.domain.errors import RequestError
from gpubalancer.policy.schema import Policy
from gpubalancer.policy.tiers import Sensitivity
from gpubalancer.proxy.channel import LENGTH, Message, encode

READ_CPU_S = 10.0
"""CPU time for one body. The worst of 32 MB that are known take less (bench/results/classify.md)."""
MEMORY_BYTES = 1024**3
"""What reading one body may take beside what the process has before. 32 MB of text take a quarter of it."""
NICENESS = 5
"""Where cores are short, the workers' loops go first."""
_TOO_LONG = "The body takes too long to read."
_INSIST_S = 0.1
"""A library may swallow what is raised in its callback: so it is raised again."""

READY, READ, REFUSED, STOPPED, TOO_COSTLY = "ready", "read", "refused", "stopped", "too_costly"
"""Kinds of answers."""


def order_to_learn(policy: Policy) -> Message:
    """What tells a reader to read by this policy."""
    return {
        "kind": "learn",
        "tokenizers": {name: model.tokenizer for name, model in policy.models.items() if model.tokenizer is not None},
        "aliases": {alias: name for name, model in policy.models.items() for alias in model.aliases},
        "sensitivity": policy.sensitivity.model_dump(mode="json", by_alias=True),
        "tiers": policy.tier_ranks,
    }


def order_to_read(route: Route, owner: Owner | None, size_bytes: int) -> Message:
    """What tells a reader to read the bytes that follow."""
    return {
        "kind": "read",
        "api": route.api,
        "streams": route.streams_by_default,
        "owner": list(owner) if owner is not None else None,
        "bytes": size_bytes,
    }


class _Stopped(Exception):  # noqa: N818  it stops, and is no error
    """The client has left."""


class _TooCostly(Exception):  # noqa: N818  likewise
    """The body has had its time."""


class Reading:
    """The process's state: how bodies are read, and whether one is being read."""

    def __init__(
        self, channel: socket.socket, seed: int, cpu_s: float = READ_CPU_S, memory_bytes: int = MEMORY_BYTES
    ) -> None:
        """`seed`: a secret number of 64 bits; the rest are the limits of one body."""
        self._channel = channel
        self._seed = seed
        self._cpu_s = cpu_s
        self._memory_bytes = memory_bytes
        self._lore: Lore | None = None
        self._busy = False

    def run(self) -> None:
        """Follow orders until the worker has gone."""
        signal.signal(signal.SIGUSR1, self._on_left)
        signal.signal(signal.SIGALRM, lambda *_: self._give_up(_Stopped))
        signal.signal(signal.SIGPROF, lambda *_: self._give_up(_TooCostly))
        os.nice(NICENESS)
        # The worker decides how long it lives; a terminal's or a service manager's signal is for the supervisor.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        with suppress(EOFError, OSError):
            while True:
                (size,) = LENGTH.unpack(self._receive(LENGTH.size))
                order = orjson.loads(self._receive(size))
                answer = self._learn(order) if order["kind"] == "learn" else self._read(order)
                self._channel.sendall(encode(answer))

    def _receive(self, size: int) -> bytes:
        data = bytearray(size)
        view, received = memoryview(data), 0
        while received < size:
            count = self._channel.recv_into(view[received:])
            if not count:
                raise EOFError
            received += count
        return bytes(data)

    def _learn(self, order: Message) -> Message:
        book = TokenBook(order["tokenizers"], self._seed, self._lore.book if self._lore is not None else None)
        scanner = Scanner(Sensitivity.model_validate(order["sensitivity"]), order["tiers"])
        self._lore = Lore(book, scanner, order["aliases"])
        gc.collect()
        gc.freeze()
        # From what there is now on, so that another policy may take more.
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + self._memory_bytes, hard))
        return {"kind": READY}

    def _read(self, order: Message) -> Message:
        if self._lore is None:
            raise EOFError
        route = Route(order["api"], "json", frozenset(), order["streams"])
        owner = Owner(*order["owner"]) if order["owner"] is not None else None
        content = self._receive(order["bytes"])
        signal.setitimer(signal.ITIMER_PROF, self._cpu_s, _INSIST_S)
        try:
            answer = {"kind": READ, **to_row(self._gist(content, route, self._lore, owner))}
        except RequestError as error:
            answer = {"kind": REFUSED, "code": error.code, "message": error.message, "param": error.param}
        except _Stopped:
            answer = {"kind": STOPPED}
        except _TooCostly:
            answer = {"kind": REFUSED, "code": "body_too_costly", "message": _TOO_LONG, "param": None}
        except (MemoryError, SystemError):
            # SystemError: what orjson makes of a MemoryError. The worker takes a new process after this answer.
            answer = {"kind": TOO_COSTLY}
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        return answer

    def _gist(self, content: bytes, route: Route, lore: Lore, owner: Owner | None) -> Document:
        self._busy = True
        try:
            return take_gist(content, route, lore, owner)
        finally:
            self._busy = False

    def _on_left(self, *_: object) -> None:
        if self._busy:
            signal.setitimer(signal.ITIMER_REAL, _INSIST_S, _INSIST_S)
            raise _Stopped

    def _give_up(self, why: Callable[[], BaseException]) -> None:
        if self._busy:
            raise why()


if __name__ == "__main__":
    import secrets

    Reading(socket.socket(fileno=int(sys.argv[1])), secrets.randbits(64)).run()
