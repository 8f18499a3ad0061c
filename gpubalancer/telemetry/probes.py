"""Active health: each backend is asked, on a connection of its own, whether it lives.

One task per backend asks, feeds `hysteresis.Health`, hands the verdict to `record`, and sleeps for the interval with
jitter, so that a fleet is not asked in step. A worker's report of a failed connect ends the sleep early. Probes carry
no credential: a server that answers 401 is alive. They count nothing as load and are never retried.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from gpubalancer.telemetry.hysteresis import Health

DEADLINE_S = 5.0
"""For one probe, connecting included: longer than an engine's busy event loop needs, short enough to act on."""
CONNECT_SHARE = 0.6
"""Of it, for connecting alone: who takes longer can't be reached, which is worse than to be slow."""
JITTER_FRACTION = 0.2
LEAST_GAP_S = 0.1
"""Between two probes of a backend, however much workers report."""

PROBE_PATHS = {
    "vllm": "/health",
    "sglang": "/health",
    "llamacpp": "/health",
    "tgi": "/health",
    "ollama": "/api/version",
    "triton": "/v2/health/ready",
}
"""By engine; any other is asked for `/v1/models`."""
NOT_READY = {"triton": 400}
"""Engines that say "not ready" by a status below 500 (KServe v2 protocol, server ready API)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """A backend as probes and discovery see it.

    Attributes:
        url: the server's root; a `/v1` at its end belongs to the OpenAI API only.
        engine: as the policy or the discovery says; None if unknown.
        credential: bearer secret, sent by discovery and never by probes.
        trust: how an https certificate is checked; True for the system's authorities.
        server_name: the name that the certificate must be for, when not the URL's host.
    """

    name: str
    url: str
    engine: str | None = None
    credential: str | None = None
    trust: ssl.SSLContext | bool = True
    server_name: str | None = None

    def at(self, path: str) -> str:
        """The URL of a path: under a prefix of the root, without doubling `/v1`, and without `/v1` for other paths."""
        parts = urlsplit(self.url)
        prefix = parts.path.rstrip("/").removesuffix("/v1")
        return urlunsplit((parts.scheme, parts.netloc, prefix + path, "", ""))


def open_session() -> aiohttp.ClientSession:
    """A session for probes and discovery: no connection is kept, none waits for another, no cookie is remembered."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "gpubalancer"},
    )


class Unwell(NamedTuple):
    """Why a backend is not taken for alive, in one sentence, and whether it took the connection."""

    why: str
    reachable: bool


async def probe(session: aiohttp.ClientSession, target: Target, deadline_s: float = DEADLINE_S) -> Unwell | None:
    """Ask once. Returns None if the backend lives."""
    url = target.at(PROBE_PATHS.get(target.engine or "", "/v1/models"))
    try:
        async with session.get(
            url,
            timeout=aiohttp.ClientTimeout(total=deadline_s, sock_connect=CONNECT_SHARE * deadline_s),
            allow_redirects=False,
            ssl=target.trust,
            server_hostname=target.server_name,
        ) as response:
            status = response.status
    except aiohttp.ConnectionTimeoutError:
        return Unwell(f"no connection to {url} within {CONNECT_SHARE * deadline_s:g} s", reachable=False)
    except TimeoutError:
        return Unwell(f"no answer from {url} within {deadline_s:g} s", reachable=True)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        reachable = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientResponseError)
        return Unwell(f"no answer from {url}: {error or type(error).__name__}", reachable)
    if status >= 500 or status == NOT_READY.get(target.engine or ""):
        return Unwell(f"{url} answered {status}", reachable=True)
    return None


class Prober:
    """Keeps asking a set of backends.

    Arguments:
        record: told a backend's name and health after each observation; must be quick.
        random: numbers from 0 to 1, for the jitter.
        clock: wall time in seconds.
    """

    def __init__(
        self,
        record: Callable[[str, Health], None],
        random: Callable[[], float],
        clock: Callable[[], float] = time.time,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._record = record
        self._random = random
        self._clock = clock
        self._deadline_s = deadline_s
        self._interval_s = 1.0
        self._targets: dict[str, Target] = {}
        self._health: dict[str, Health] = {}
        self._hurry: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Event()

    def replace(self, targets: Iterable[Target], interval_s: float) -> None:
        """Ask these backends from now on. The health of those whose name and URL stay survives."""
        wanted = {target.name: target for target in targets}
        for name, old in self._targets.items():
            if name not in wanted or wanted[name].url != old.url:
                del self._health[name]
        self._targets = wanted
        self._health = {name: self._health.get(name, Health()) for name in wanted}
        self._hurry = {name: self._hurry.get(name, asyncio.Event()) for name in wanted}
        self._interval_s = interval_s
        self._changed.set()

    def connect_failed(self, name: str) -> None:
        """A worker could not connect. Unknown names are ignored: reports may outlive a reload."""
        if name in self._targets and not self._health[name].reported:
            self._note(name, self._health[name].connect_failed(self._clock()), "a worker could not connect")
            self._hurry[name].set()

    def health(self, name: str) -> Health:
        """What is known of a backend.

        Errors:
            KeyError: no such backend.
        """
        return self._health[name]

    async def run(self) -> None:
        """Ask until cancelled."""
        tasks: dict[Target, asyncio.Task[None]] = {}
        async with open_session() as session, asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                wanted = set(self._targets.values())
                for target in tasks.keys() - wanted:
                    tasks.pop(target).cancel()
                for target in wanted - tasks.keys():
                    tasks[target] = group.create_task(self._ask(session, target))
                await self._changed.wait()

    async def _ask(self, session: aiohttp.ClientSession, target: Target) -> None:
        hurry = self._hurry[target.name]
        while True:
            hurry.clear()
            why_not = await probe(session, target, self._deadline_s)
            if self._targets.get(target.name) != target:
                return  # a reload came while it was asked
            reachable, why = why_not is None or why_not.reachable, why_not.why if why_not is not None else ""
            health = self._health[target.name].probed(why_not is None, self._clock(), reachable)
            self._note(target.name, health, why)
            pause_s = self._interval_s * (1 + JITTER_FRACTION * (2 * self._random() - 1))
            gap_s = min(LEAST_GAP_S, pause_s)
            await asyncio.sleep(gap_s)
            try:
                async with asyncio.timeout(pause_s - gap_s):
                    await hurry.wait()
            except TimeoutError:
                continue

    def _note(self, name: str, health: Health, why: str) -> None:
        before, self._health[name] = self._health[name], health
        if before.up != health.up:
            _log.log(
                logging.INFO if health.up else logging.WARNING,
                "backend %s is %s%s",
                name,
                _word(health),
                f": {why}" if why else "",
            )
        self._record(name, health)


def _word(health: Health) -> str:
    return "up" if health.up else "down:"
