"""Reload: read the file, judge it, put it in force, or leave everything as it was.

One reload runs at a time. Whoever asks while one runs, waits for the next, which all who asked meanwhile share: it
starts after they asked, so that it sees the file as they left it. The policy in force is one attribute, `policy`; it is
replaced after `apply` has returned, and never changed. A bad file changes nothing but `last_failure`, which stays until
the file is good again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpubalancer.board.board import BoardError
from gpubalancer.brain.tokens.tokenizer import TokenizerError
from gpubalancer.policy.faults import PolicyError
from gpubalancer.policy.schema import Policy

Result = Literal["applied", "unchanged", "failed"]
WATCH_INTERVAL_S = 1.0

Fingerprint = tuple[int, ...] | None
"""Device, inode, size and times of a file; None if it is not there."""

_log = logging.getLogger(__name__)


class ApplyError(Exception):
    """A good policy could not be put in force, and the old one still is; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Reload:
    """How one reload went.

    Attributes:
        hash: of the policy that is in force afterwards.
        changes: what differs from the policy before, one line each, without secrets.
        faults: why the file was refused, one line each; empty unless the result is `failed`.
    """

    result: Result
    hash: str
    changes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if the file is now in force."""
        return self.result != "failed"


class Reloader:
    """Puts the policy file in force again.

    Arguments:
        policy: in force at the start.
        load: reads the file; raises `PolicyError`. It runs in a thread, as a large file takes long.
        apply: hands a policy to the workers and returns when all have it. Raises `ApplyError`, `BoardError` or
            `OSError` (time-outs, TLS files) when the old one stays. Also called for an equal policy: certificates may
            be new.
        compare: the lines of `Reload.changes` for an old and a new policy.

    Attributes:
        policy: in force.
        last_failure: the last reload, if it failed.
        counts: reloads by result.
    """

    def __init__(
        self,
        policy: Policy,
        load: Callable[[], Policy],
        apply: Callable[[Policy], Awaitable[None]],
        compare: Callable[[Policy, Policy], Iterable[str]],
    ) -> None:
        self.policy = policy
        self.last_failure: Reload | None = None
        self.counts: dict[Result, int] = {"applied": 0, "unchanged": 0, "failed": 0}
        self._load = load
        self._apply = apply
        self._compare = compare
        self._running = asyncio.Lock()
        self._waiting: asyncio.Task[Reload] | None = None

    def request(self, trigger: str) -> "asyncio.Task[Reload]":
        """Ask for a reload that begins from now on, without waiting; fit for a signal handler.

        Arguments:
            trigger: who asks, for the log.
        """
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_task(self._next(trigger))
        return self._waiting

    async def reload(self, trigger: str) -> Reload:
        """Ask for a reload and wait for its end. One that is cancelled while waiting stops nothing."""
        return await asyncio.shield(self.request(trigger))

    async def watch(self, path: Path, since: Fingerprint, interval_s: float = WATCH_INTERVAL_S) -> None:
        """Reload whenever the file is another, until cancelled.

        A file that was caught half written fails, and is tried again when the rest has come: that is a change too.

        Arguments:
            path: the policy file, which may be a symbolic link.
            since: its fingerprint from before the policy in force was read.
            interval_s: time between two looks.
        """
        seen = since
        while True:
            await asyncio.sleep(interval_s)
            now = fingerprint(path)
            if now != seen:
                seen = now
                await self.reload(f"a change of {path}")

    async def _next(self, trigger: str) -> Reload:
        async with self._running:
            self._waiting = None
            reload = await self._once()
        self.counts[reload.result] += 1
        self.last_failure = None if reload.ok else reload
        _tell(trigger, reload)
        return reload

    async def _once(self) -> Reload:
        old = self.policy
        try:
            new = await asyncio.to_thread(self._load)
        except PolicyError as error:
            return Reload("failed", old.hash, faults=tuple(fault.line() for fault in error.faults))
        try:
            await self._apply(new)
        except (ApplyError, BoardError, OSError, TokenizerError) as error:
            why = str(error) or "the workers did not take the new policy in time"
            return Reload("failed", old.hash, faults=(why,))
        self.policy = new
        if new.hash == old.hash:
            return Reload("unchanged", new.hash)
        return Reload("applied", new.hash, tuple(self._compare(old, new)))


def fingerprint(path: Path) -> Fingerprint:
    """What tells one state of a file from another, symbolic links followed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _tell(trigger: str, reload: Reload) -> None:
    if reload.ok:
        changes = "; ".join(reload.changes) or "nothing has changed"
        _log.info("reload after %s: policy %s in force: %s", trigger, reload.hash, changes)
    for fault in reload.faults:
        _log.error("reload after %s failed, policy %s stays in force: %s", trigger, reload.hash, fault)
