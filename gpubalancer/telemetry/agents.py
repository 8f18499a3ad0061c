"""What agents and exporters tell of the GPUs behind the backends.

One task per address, however many backends run on that machine; each gets the part that its GPUs are. An agent's event
stream is followed, so that an alarm is here as soon as it is sent; an agent without a stream is polled, and so are the
pages of exporters. What fails is tried again ever more seldom. While nobody tells, nothing is written: what is known
grows old, and whoever reads it sees how old it is.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import aiohttp

from gpubalancer.telemetry import exporters
from gpubalancer.telemetry.fetch import FetchError, fetch, open_session
from gpubalancer.telemetry.gpus import Alarm, Snapshot, alarms_of, snapshot_of
from gpubalancer.telemetry.hardware import chosen
from gpubalancer.telemetry.pacing import pause_s
from gpubalancer.telemetry.sse import EventReader

SNAPSHOT_PATH = "/v1/gpus"
EVENTS_PATH = "/v1/events"
DEADLINE_S = 2.0
"""For an answer, connecting included; of a stream, for its head."""
SILENCE_S = 10.0
"""A stream that sends nothing for so long is given up: an agent sends a snapshot at least each second or two."""
RECONNECT_S = 0.25
STREAM_RETRY_S = 60.0
"""How long an agent without a stream is polled before it is asked for one again."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """An address that tells of a machine's GPUs.

    Attributes:
        url: root of an agent, or the whole URL of an exporter's page.
        is_exporter: it is the latter.
        credential: bearer token that the agent wants.
    """

    url: str
    is_exporter: bool = False
    credential: str | None = None


@dataclass(frozen=True, slots=True)
class GpuSource:
    """A backend, where its GPUs are told of, and their indices; none means all of the machine's."""

    name: str
    place: Place
    gpus: tuple[int, ...] = ()


class _NoStreamError(Exception):
    """The agent has no event stream."""


class Agents:
    """Keeps following the agents and exporters of a set of backends.

    Arguments:
        record: told a backend's name and the snapshot of its GPUs, each time; must be quick.
        random: numbers from 0 to 1, for the jitter.
        alarm: told a backend's name and each alarm of its GPUs.
        clock: Unix time in seconds.
        pause: how to wait.
    """

    def __init__(
        self,
        record: Callable[[str, Snapshot], None],
        random: Callable[[], float],
        alarm: Callable[[str, Alarm], None] = lambda name, alarm: None,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._record = record
        self._random = random
        self._alarm = alarm
        self._clock = clock
        self._pause = pause
        self._interval_s = 1.0
        self._sources: dict[Place, list[GpuSource]] = {}
        self._missing: set[GpuSource] = set()
        self._changed = asyncio.Event()

    def replace(self, sources: Iterable[GpuSource], interval_s: float) -> None:
        """Follow these from now on. A stream whose address stays is not interrupted."""
        self._sources = {}
        for source in sources:
            self._sources.setdefault(source.place, []).append(source)
        self._interval_s = interval_s
        self._changed.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        tasks: dict[Place, asyncio.Task[None]] = {}
        async with open_session() as session, asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                for place in tasks.keys() - self._sources.keys():
                    tasks.pop(place).cancel()
                for place in self._sources.keys() - tasks.keys():
                    tasks[place] = group.create_task(self._follow(session, place))
                await self._changed.wait()

    async def _follow(self, session: aiohttp.ClientSession, place: Place) -> None:
        course = _Course(place)
        while True:
            streams = not place.is_exporter and self._clock() >= course.polled_until_s
            try:
                if streams:
                    await self._stream(session, course)
                else:
                    await self._poll(session, course)
            except _NoStreamError:
                course.polled_until_s = self._clock() + STREAM_RETRY_S
                continue
            except (FetchError, ValueError) as error:
                course.failed(str(error))
            interval_s = RECONNECT_S if streams else self._interval_s
            await self._pause(pause_s(interval_s, course.failures, self._random()))

    async def _stream(self, session: aiohttp.ClientSession, course: "_Course") -> None:
        """Read events until the stream ends. Raises FetchError, ValueError, `_NoStreamError`."""
        place, url = course.place, course.place.url.rstrip("/") + EVENTS_PATH
        events = EventReader()
        headers = {"Accept": "text/event-stream"}
        if place.credential:
            headers["Authorization"] = f"Bearer {place.credential}"
        timeout = aiohttp.ClientTimeout(total=None, connect=DEADLINE_S, sock_connect=DEADLINE_S, sock_read=SILENCE_S)
        try:
            async with session.get(url, headers=headers, timeout=timeout, allow_redirects=False) as response:
                if response.status in (404, 405, 501) or (
                    response.status == 200 and response.content_type != "text/event-stream"
                ):
                    raise _NoStreamError
                if response.status != 200:
                    raise FetchError(f"{url} answered {response.status}")
                async for chunk in response.content.iter_any():
                    for name, data in events.feed(chunk):
                        self._event(place, name, data)
                        course.went_well()
                raise FetchError(f"{url} ended the stream")
        except TimeoutError:
            raise FetchError(f"{url} sent nothing for {SILENCE_S:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise FetchError(f"no stream from {url}: {error or type(error).__name__}") from error

    async def _poll(self, session: aiohttp.ClientSession, course: "_Course") -> None:
        place = course.place
        url = place.url if place.is_exporter else place.url.rstrip("/") + SNAPSHOT_PATH
        answer = await fetch(session, url, DEADLINE_S, credential=place.credential)
        if answer.status != 200:
            raise FetchError(f"{url} answered {answer.status}")
        if place.is_exporter:
            snapshot = exporters.snapshot_of(answer.body, self._clock())
            if snapshot.problem:
                raise ValueError(f"{url} is {snapshot.problem}")
        else:
            snapshot = snapshot_of(answer.body)
        course.went_well()
        self._deliver(place, snapshot)

    def _event(self, place: Place, name: str, data: bytes) -> None:
        if name == "gpus":
            self._deliver(place, snapshot_of(data))
        elif name == "alarm":
            alarms, snapshot = alarms_of(data)
            self._deliver(place, snapshot, alarms)

    def _deliver(self, place: Place, snapshot: Snapshot, alarms: Sequence[Alarm] = ()) -> None:
        for source in self._sources.get(place, ()):
            part = chosen(snapshot, source.gpus)
            self._record(source.name, part)
            uuids = {gpu.uuid for gpu in part.gpus}
            for alarm in alarms:
                if alarm.uuid in uuids:
                    _log.info("backend %s: GPU %s: %s %s", source.name, alarm.uuid, alarm.kind, alarm.detail)
                    self._alarm(source.name, alarm)
            if snapshot.gpus and not part.gpus and source not in self._missing:
                self._missing.add(source)
                _log.warning("backend %s: %s has none of the GPUs %s", source.name, place.url, list(source.gpus))


@dataclass(slots=True)
class _Course:
    """How the following of one address goes. The log hears of changes only."""

    place: Place
    failures: int = 0
    polled_until_s: float = 0.0

    def went_well(self) -> None:
        if self.failures:
            _log.info("GPUs are told of again by %s", self.place.url)
        self.failures = 0

    def failed(self, why: str) -> None:
        self.failures += 1
        if self.failures == 1:
            _log.warning("GPUs are not told of: %s", why)
