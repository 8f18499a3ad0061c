"""Engines' pages, read again and again.

One task per backend reads its page, hands the reading to `record`, and sleeps for the interval with jitter: so two
readings of one backend never overlap, and a slow one delays nobody else. What fails is tried again ever more seldom. A
backend without such a page is *silent*, which is no fault: it is asked again each minute, in case it has one then.

The log hears of a change, not of each failure.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from gpubalancer.board.layout import Loaded
from gpubalancer.telemetry import dialects
from gpubalancer.telemetry.dialects import DIALECTS, METRICS_PATHS, METRICS_PORTS, Dialect, Series
from gpubalancer.telemetry.engines import EngineReading, Watch
from gpubalancer.telemetry.fetch import Answer, FetchError, fetch, open_session
from gpubalancer.telemetry.pacing import pause_s
from gpubalancer.telemetry.probes import Target

DEADLINE_S = 2.0
"""For one page, connecting included."""
SILENT_S = 60.0
NO_PAGE = frozenset((404, 405, 410, 501))
"""Statuses of servers without the page; llama.cpp without `--metrics` answers 501."""
TOLD_AFTER = 3
"""Failures in a row from which on the log hears of it: a restart alone is the probes' news."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a backend's engine tells its state.

    Attributes:
        target: the backend, with its engine as far as it is known.
        metrics: a path on the backend, or a whole URL; None for where such an engine has it.
        by_hand: fields of `engines.TOLD`, and the series that they are read from.
    """

    target: Target
    metrics: str | None = None
    by_hand: tuple[tuple[str, Series], ...] = ()

    @property
    def is_silent(self) -> bool:
        """True if there is nothing to ask."""
        known = self.target.engine in (None, "ollama", *DIALECTS)
        return not known and self.metrics is None

    @property
    def url(self) -> str:
        """The page's whole URL."""
        if self.metrics is not None and not self.metrics.startswith("/"):
            return self.metrics
        engine = self.target.engine or ""
        url = self.target.at(self.metrics or METRICS_PATHS.get(engine, "/metrics"))
        if self.metrics is not None or engine not in METRICS_PORTS:
            return url
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return urlunsplit(parts._replace(netloc=f"{host}:{METRICS_PORTS[engine]}"))

    @property
    def is_own_server(self) -> bool:
        """True if the page is the backend's own, which may see the backend's secret and has its certificate."""
        return urlsplit(self.url)[:2] == urlsplit(self.target.url)[:2]


class _SilentError(Exception):
    """There is nothing to read; the message says what the backend does instead."""


@dataclass(slots=True)
class _Course:
    """How the reading of one backend goes."""

    source: Source
    dialect: Dialect | None
    watch: Watch = field(default_factory=Watch)
    failures: int = 0
    silent: bool = False


class Scraper:
    """Keeps reading the pages of a set of backends.

    Arguments:
        record: told a backend's name and reading, each time; must be quick.
        in_flight: how many requests of ours a backend has now.
        random: numbers from 0 to 1, for the jitter.
        clock: monotonic seconds.
        pause: how to wait.
        deadline_s: for one page.
    """

    def __init__(
        self,
        record: Callable[[str, EngineReading], None],
        in_flight: Callable[[str], int],
        random: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._record = record
        self._in_flight = in_flight
        self._random = random
        self._clock = clock
        self._pause = pause
        self._deadline_s = deadline_s
        self._interval_s = 1.0
        self._sources: frozenset[Source] = frozenset()
        self._changed = asyncio.Event()

    def replace(self, sources: Iterable[Source], interval_s: float) -> None:
        """Read these from now on. What is known of those that stay survives; silent ones are left out."""
        self._sources = frozenset(source for source in sources if not source.is_silent)
        self._interval_s = interval_s
        self._changed.set()

    async def run(self) -> None:
        """Read until cancelled."""
        tasks: dict[Source, asyncio.Task[None]] = {}
        async with open_session() as session, asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                for source in tasks.keys() - self._sources:
                    tasks.pop(source).cancel()
                for source in self._sources - tasks.keys():
                    tasks[source] = group.create_task(self._follow(session, source))
                await self._changed.wait()

    async def _follow(self, session: aiohttp.ClientSession, source: Source) -> None:
        course = _Course(source, _dialect(source.target.engine, source))
        await self._pause(self._interval_s * self._random())
        while True:
            why_not = await self._read(session, course)
            self._tell(course, why_not)
            interval_s = max(SILENT_S, self._interval_s) if course.silent else self._interval_s
            await self._pause(pause_s(interval_s, course.failures, self._random()))

    async def _read(self, session: aiohttp.ClientSession, course: _Course) -> str | None:
        """Read once. Returns None if that went well or there is nothing to read, else why it did not."""
        source, target = course.source, course.source.target
        try:
            answer = await fetch(
                session,
                source.url,
                self._deadline_s,
                credential=target.credential if source.is_own_server else None,
                trust=target.trust,
                server_name=target.server_name if source.is_own_server else None,
            )
            reading = self._reading(course, answer)
        except _SilentError as silence:
            self._hush(course, str(silence))
            return None
        except (FetchError, ValueError) as error:
            return str(error)
        course.silent = False
        checked, warnings = course.watch.look(reading, self._in_flight(target.name))
        for warning in warnings:
            _log.warning("backend %s %s", target.name, warning)
        self._record(target.name, checked)
        return None

    def _reading(self, course: _Course, answer: Answer) -> EngineReading:
        """The reading of an answer. Raises ValueError with what is wrong with it, `_SilentError` if there is none."""
        url, at_s = course.source.url, self._clock()
        if answer.status == 503 and dialects.is_loading(answer.body):
            return EngineReading(at_s, loaded=Loaded.LOADING)
        if answer.status in NO_PAGE:
            raise _SilentError("has no metrics page")
        if answer.status != 200:
            raise ValueError(f"{url} answered {answer.status}")
        if course.source.target.engine == "ollama" and not course.source.by_hand:
            return dialects.read_ollama(answer.body, at_s)
        course.dialect = course.dialect or _dialect(dialects.engine_of(answer.body), course.source)
        if course.dialect is None:
            raise _SilentError("has a metrics page of no engine that is known")
        reading = course.dialect.read(answer.body, at_s)
        if not reading.told and not course.watch.has_told:
            raise _SilentError("has a metrics page that tells nothing of use")
        return reading

    def _hush(self, course: _Course, why: str) -> None:
        if not course.silent:
            course.silent = True
            name, url = course.source.target.name, course.source.url
            _log.info("backend %s %s at %s: it is measured from outside", name, why, url)

    def _tell(self, course: _Course, why_not: str | None) -> None:
        name = course.source.target.name
        if why_not is None:
            if course.failures >= TOLD_AFTER:
                _log.info("backend %s: its state is read again", name)
            course.failures = 0
            return
        course.failures += 1
        if course.failures == TOLD_AFTER:
            _log.warning("backend %s: its state can't be read: %s", name, why_not)


def _dialect(engine: str | None, source: Source) -> Dialect | None:
    known = DIALECTS.get(engine or "")
    if source.by_hand:
        return (known or Dialect({})).extended(source.by_hand)
    return known
