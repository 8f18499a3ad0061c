"""Samples of all cards, through resets and losses: what the sampling thread does, one call at a time.

`sample` reads everything. `glance` reads the few cheap values that an alarm may hang on, and returns a snapshot only if
one of them changed in a way that somebody should hear of; between two samples it is asked twenty times a second.

The driver is opened when it is first needed. When it says that its handles are dead, it is opened anew at once; where
that fails, and while a card is lost, it is tried again after 1, 2, 4 ... 60 s. A card that was seen once is never
forgotten: while it does not answer it stands in the snapshot as lost, with its MIG instances, and nothing else.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gpubalancer.telemetry.frozen import Stillness, without_suspects
from gpubalancer.telemetry.gpus import RANGES, THROTTLES, Gpu, Snapshot, gpu_of
from gpubalancer.telemetry.nvml.calls import CardLostError, DriverGoneError, NoDriverError
from gpubalancer.telemetry.nvml.driver import Card, Nvml
from gpubalancer.telemetry.nvml.readings import AT_A_GLANCE, COUNTERS, OF_A_THROTTLE, OF_AN_INSTANCE

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 60.0
FULL_FRACTION = 0.98
"""Memory in use from which on the next allocation may fail. Engines that take it all at start leave more (vLLM 0.9)."""

UNNAMED = "GPU-lost-"
"""Beginning of the name of a card that has been lost since before the first sample; its place follows."""

FROM_PARENT = (
    "temperature_celsius",
    "sm_clock_mhz",
    "expected_sm_clock_mhz",
    "memory_clock_mhz",
    "throttle_reasons",
    "recovery_action",
    "suspect",
)
"""Fields that a MIG instance has from its card. The others are its own, or stand at the card only."""


@dataclass(slots=True)
class Cost:
    """What sampling has cost since the start: calls of the library and the time in them."""

    samples: int = 0
    glances: int = 0
    calls: int = 0
    seconds: float = 0.0


class Sampler:
    """Reads one host's cards. For one thread.

    Arguments:
        nvml: the door.
        host: the host's name.
        timer: a steady clock, for the cost alone.
    """

    def __init__(self, nvml: Nvml, host: str, timer: Callable[[], float] = time.perf_counter) -> None:
        self.cost = Cost()
        self._nvml = nvml
        self._timer = timer
        self._last = Snapshot(0.0, host)
        self._still: dict[str, Stillness] = {}
        self._counted: dict[str, tuple[float, Mapping[str, object]]] = {}
        self._open = False
        self._why = ""
        self._retry_at_s = 0.0
        self._retry_s = FIRST_RETRY_S

    def sample(self, now_s: float, at_s: float) -> Snapshot:
        """Everything about every card. `now_s` is a steady clock's time, `at_s` the time of day."""
        started_s = self._timer()
        self._last = self._sampled(now_s, at_s)
        self.cost.samples += 1
        self._charge(started_s)
        return self._last

    def glance(self, now_s: float, at_s: float) -> Snapshot | None:
        """The last snapshot with its cheap values as they are now; None if nothing in them is worth telling."""
        if not self._open:
            return None
        started_s = self._timer()
        before = {gpu.uuid: gpu for gpu in self._last.gpus}
        try:
            fresh = {uuid: self._glimpse(card, before[uuid]) for uuid, card in self._cards() if uuid in before}
        except DriverGoneError:
            self._last = self._sampled(now_s, at_s)
            return self._last
        finally:
            self.cost.glances += 1
            self._charge(started_s)
        if all(_telling(before[uuid]) == _telling(gpu) for uuid, gpu in fresh.items()):
            return None
        gpus = (fresh.get(gpu.uuid) or _under(gpu, fresh.get(gpu.parent_uuid or "")) for gpu in self._last.gpus)
        self._last = replace(self._last, at_s=at_s, gpus=tuple(gpus))
        return self._last

    def close(self) -> None:
        """Let go of the driver."""
        if self._open:
            self._nvml.close()
            self._open = False

    def _charge(self, started_s: float) -> None:
        self.cost.calls = self._nvml.calls
        self.cost.seconds += self._timer() - started_s

    def _sampled(self, now_s: float, at_s: float) -> Snapshot:
        try:
            gpus = tuple(self._read_through_resets(now_s))
        except NoDriverError as error:
            self._why = str(error)
            gone = tuple(_lost(gpu) for gpu in self._last.gpus)
            return replace(self._last, at_s=at_s, driver=None, gpus=gone, problem=f"no NVIDIA driver: {error}")
        return replace(self._last, at_s=at_s, driver=self._nvml.driver, gpus=gpus, problem=None)

    def _read_through_resets(self, now_s: float) -> list[Gpu]:
        """All cards; where the handles are dead, with new ones. Raises: NoDriverError."""
        lost = any(gpu.lost for gpu in self._last.gpus)
        if (lost or not self._open) and now_s >= self._retry_at_s:
            self._reopen(now_s)
        if not self._open:
            raise NoDriverError(self._why)
        try:
            return self._read_all(now_s)
        except DriverGoneError:
            self._reopen(now_s)
        try:
            return self._read_all(now_s)
        except DriverGoneError as error:
            self.close()
            raise NoDriverError(str(error)) from error

    def _reopen(self, now_s: float) -> None:
        """Open the driver, closed or not, and say when to try that next. Raises: NoDriverError."""
        self.close()
        self._put_off(now_s)
        self._nvml.open()
        self._open = True
        self._counted.clear()

    def _put_off(self, now_s: float) -> None:
        self._retry_at_s = now_s + self._retry_s
        self._retry_s = min(LAST_RETRY_S, self._retry_s * 2)

    def _read_all(self, now_s: float) -> list[Gpu]:
        gpus: list[Gpu] = []
        for uuid, card in self._cards():
            gpus += self._read_card(uuid, card, now_s)
        found = {gpu.uuid for gpu in gpus}
        gpus += [_lost(gpu) for uuid, gpu in self._known().items() if uuid not in found]
        if not any(gpu.lost for gpu in gpus):
            self._retry_at_s, self._retry_s = 0.0, FIRST_RETRY_S
        return gpus

    def _known(self) -> dict[str, Gpu]:
        """Whole cards seen before."""
        gpus = (gpu for gpu in self._last.gpus if gpu.parent_uuid is None)
        return {gpu.uuid: gpu for gpu in gpus if not gpu.uuid.startswith(UNNAMED)}

    def _cards(self) -> list[tuple[str, Card]]:
        """The driver's cards with their names; one that was lost when it was opened is known by its place."""
        places = {gpu.index: uuid for uuid, gpu in self._known().items()}
        return [(card.uuid or places.get(card.index, f"{UNNAMED}{card.index}"), card) for card in self._nvml.cards]

    def _read_card(self, uuid: str, card: Card, now_s: float) -> list[Gpu]:
        """A card and its MIG instances."""
        before = self._known().get(uuid, Gpu(card.index, uuid, card.name, lost=True))
        try:
            said = self._nvml.read(card) if card.handle is not None else {}
            if not said:
                # A card always knows its memory: one that is mute has a dead handle.
                raise CardLostError
            gpu = self._gpu(card, said | self._rates(uuid, said, now_s), now_s)
            return [gpu, *(self._instance(each, gpu) for each in self._nvml.instances(card))]
        except CardLostError:
            return [_lost(before), *(_lost(gpu) for gpu in self._last.gpus if gpu.parent_uuid == uuid)]

    def _gpu(self, card: Card, said: Mapping[str, object], now_s: float) -> Gpu:
        gpu = _gpu(card, said)
        still = self._still.get(gpu.uuid, Stillness()).sampled(gpu, now_s)
        self._still[gpu.uuid] = still
        return without_suspects(gpu) if still.doubts(gpu, now_s) else gpu

    def _instance(self, card: Card, parent: Gpu) -> Gpu:
        shared = {name: getattr(parent, name) for name in FROM_PARENT}
        return _gpu(card, shared | self._nvml.read(card, OF_AN_INSTANCE))

    def _glimpse(self, card: Card, before: Gpu) -> Gpu:
        """A card with its cheap values as they are now. A lost one stays lost: only a whole sample finds it again."""
        if before.lost or card.handle is None:
            return _lost(before)
        try:
            fresh = _updated(before, self._nvml.read(card, AT_A_GLANCE))
            if fresh.is_throttled or before.is_throttled:
                fresh = _updated(fresh, self._nvml.read(card, OF_A_THROTTLE))
            return fresh
        except CardLostError:
            return _lost(before)

    def _rates(self, uuid: str, said: Mapping[str, object], now_s: float) -> dict[str, object]:
        """Bytes per second of each counter since the sample before; a counter that went back says nothing."""
        before_s, before = self._counted.get(uuid, (now_s, {}))
        self._counted[uuid] = (now_s, {name: said[name] for name in COUNTERS if name in said})
        passed_s = now_s - before_s
        return {
            f"{name}_bytes_per_s": (value - earlier) / passed_s
            for name, value in self._counted[uuid][1].items()
            if isinstance(value, int | float) and isinstance(earlier := before.get(name), int | float) and passed_s > 0
        }


def _gpu(card: Card, said: Mapping[str, object]) -> Gpu:
    """What a card said, range-checked, with its name."""
    own = {
        "index": card.index,
        "uuid": card.uuid,
        "name": card.name,
        "mig": card.mig,
        "parent_uuid": card.parent.uuid if card.parent else None,
    }
    return gpu_of({**said, **own}) or Gpu(card.index, card.uuid)


def _updated(gpu: Gpu, said: Mapping[str, object]) -> Gpu:
    """A card with a few values as it has just said them. A gauge that is doubted stays absent."""
    kept: dict[str, Any] = {name: RANGES[name].keep(said[name]) for name in said if name in RANGES}
    if isinstance(said.get("throttle_reasons"), tuple):
        kept["throttle_reasons"] = said["throttle_reasons"]
    return replace(gpu, **kept | dict.fromkeys(gpu.suspect))


def _lost(gpu: Gpu) -> Gpu:
    return Gpu(gpu.index, gpu.uuid, gpu.name, gpu.mig, gpu.parent_uuid, lost=True)


def _under(gpu: Gpu, parent: Gpu | None) -> Gpu:
    """A MIG instance, with what its parent has just shown."""
    if parent is None:
        return gpu
    if parent.lost:
        return _lost(gpu)
    return replace(gpu, throttle_reasons=parent.throttle_reasons, sm_clock_mhz=parent.sm_clock_mhz)


def is_full(gpu: Gpu) -> bool:
    """Its memory is all but used up."""
    return (gpu.memory_fraction or 0.0) >= FULL_FRACTION


def _telling(gpu: Gpu) -> tuple[object, ...]:
    return gpu.lost, THROTTLES.intersection(gpu.throttle_reasons), is_full(gpu)
