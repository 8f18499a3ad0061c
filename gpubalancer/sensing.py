"""What a policy means for telemetry: which backend is probed, scraped and watched, and how.

The parts of `telemetry` know no policy; here each backend of one becomes a probe's target, a scraper's source and a
watched GPU. All of them write to the board. `replace` is called after each reload, and again when a server has told
what it is.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from gpubalancer.board.board import Board
from gpubalancer.policy.backends import Backend
from gpubalancer.policy.schema import Policy
from gpubalancer.policy.series import parse_selector
from gpubalancer.telemetry import discover, probes
from gpubalancer.telemetry.agents import Agents, GpuSource, Place
from gpubalancer.telemetry.columns import Columns
from gpubalancer.telemetry.dialects import Series
from gpubalancer.telemetry.gpus import Alarm, Snapshot
from gpubalancer.telemetry.hardware import chosen
from gpubalancer.telemetry.host_watch import HostWatch
from gpubalancer.telemetry.hysteresis import Health
from gpubalancer.telemetry.scrape import Scraper, Source
from gpubalancer.wire.tls import client_context

OWN_GPUS_S = 1.0
"""Between two looks at this machine's GPUs; alarms come at once."""
_OF_HARDWARE = frozenset(("speed_fraction", "power_watts"))
"""Fields of a mapped series that take the place of an agent."""


class Senses:
    """All that looks at the backends, in the supervisor.

    Arguments:
        board: where everything is written.
        on_alarm: told of a GPU's alarm at once.

    Attributes:
        columns: where readings are kept, for whoever shows them.
    """

    def __init__(self, board: Board, on_alarm: Callable[[str, Alarm], None]) -> None:
        self.columns = Columns(board)
        self._board = board
        self._prober = probes.Prober(self._record_health, random.random)
        self._scraper = Scraper(self.columns.record_engine, self.columns.in_flight, random.random)
        self._agents = Agents(self.columns.record_gpus, random.random, alarm=on_alarm)
        self._on_alarm = on_alarm
        self._here: Mapping[str, tuple[int, ...]] = {}
        self._changed = asyncio.Event()

    def replace(self, policy: Policy, discovered: Mapping[str, discover.Discovery]) -> None:
        """Look at this policy's backends from now on.

        Raises:
            OSError: the TLS files of a backend can't be used.
        """
        targets = {backend.name: target_of(backend, discovered.get(backend.name)) for backend in policy.backends}
        interval_s = policy.telemetry.interval_s
        sources = [_source(backend, targets[backend.name]) for backend in policy.backends]
        gpus = [gpu for backend in policy.backends if (gpu := _gpus(backend)) is not None]
        self._here = {
            backend.name: backend.telemetry.gpus
            for backend in policy.backends
            if backend.telemetry.gpus and not (backend.telemetry.agent or backend.telemetry.exporter)
        }
        self._prober.replace(targets.values(), policy.telemetry.probe_interval_s)
        self._scraper.replace(sources, interval_s)
        self._agents.replace(gpus, interval_s)
        mapped = {backend.name for backend in policy.backends if _maps_hardware(backend)}
        read = {source.target.name for source in sources if not source.is_silent}
        self.columns.keep(read, {gpu.name for gpu in gpus} | mapped | set(self._here))
        self._changed.set()

    def connect_failed(self, name: str) -> None:
        """A worker could not connect to a backend: probe it at once."""
        self._prober.connect_failed(name)

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._prober.run())
            group.create_task(self._scraper.run())
            group.create_task(self._agents.run())
            group.create_task(self._watch_own_gpus())

    async def _watch_own_gpus(self) -> None:
        """Read this machine's own GPUs, once a backend is said to run on some of them."""
        while not self._here:
            self._changed.clear()
            await self._changed.wait()
        async with HostWatch() as watch:
            watch.listen(self._take_own)
            await watch.first()
            while True:
                self._take_own((), watch.snapshot())
                await asyncio.sleep(OWN_GPUS_S)

    def _take_own(self, alarms: Sequence[Alarm], snapshot: Snapshot) -> None:
        for name, indices in self._here.items():
            of_backend = chosen(snapshot, indices)
            self.columns.record_gpus(name, of_backend)
            uuids = {uuid for gpu in of_backend.gpus for uuid in (gpu.uuid, gpu.parent_uuid)}
            for alarm in alarms:
                if alarm.uuid in uuids:
                    self._on_alarm(name, alarm)

    def _record_health(self, name: str, health: Health) -> None:
        row = self._board.row(name)
        if row is not None:
            self._board.up[row] = 1 if health.up else 0
            self._board.reachable[row] = 1 if health.reachable else 0
            self._board.probed_s[row] = time.time()
            if not health.up:
                self.columns.record_down(name)


def target_of(backend: Backend, found: discover.Discovery | None) -> probes.Target:
    """A backend as probes and discovery see it."""
    tls = backend.tls
    return probes.Target(
        name=backend.name,
        url=backend.url,
        engine=backend.engine or (found.engine if found is not None else None),
        credential=backend.credential.get_secret_value() if backend.credential else None,
        trust=client_context(tls.ca, tls.certificate, tls.key) if tls is not None else True,
        server_name=tls.server_name if tls else None,
    )


def _source(backend: Backend, target: probes.Target) -> Source:
    telemetry = backend.telemetry
    mapped = ((mapping.field, parse_selector(text), mapping.scale) for text, mapping in telemetry.map.items())
    series = tuple((field, replace(Series(*selector), scale=scale)) for field, selector, scale in mapped)
    return Source(target, telemetry.metrics, series)


def _gpus(backend: Backend) -> GpuSource | None:
    telemetry = backend.telemetry
    url = telemetry.agent or telemetry.exporter
    if url is None:
        return None
    # The token is the agent's: an exporter of another make has no business with it.
    secret = telemetry.credential if telemetry.agent is not None else None
    token = secret.get_secret_value() if secret is not None else None
    return GpuSource(backend.name, Place(url, is_exporter=telemetry.agent is None, credential=token), telemetry.gpus)


def _maps_hardware(backend: Backend) -> bool:
    return any(mapping.field in _OF_HARDWARE for mapping in backend.telemetry.map.values())
