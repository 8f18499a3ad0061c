"""What can't wait for the next snapshot: a decision over samples and XIDs, without clock, thread or driver.

`sampled` takes each new snapshot and returns what in it somebody must hear of now; `told` does the same for an XID. In
between this remembers the XIDs, which the driver tells once, and puts them into the snapshot: those that mean broken
hardware until the card has been reset (it was lost and is back, or its energy counter begins anew), all others for
`REMEMBER_S`, so that a log can explain why an engine died.

A throttle is told when it comes and when a reason is added; its end only after `CALM_S` without any, so that a card on
the edge of its temperature is one alarm and not twenty a second. Memory is told at `FULL_FRACTION`, and again only
after it was below `ROOM_FRACTION`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gpubalancer.telemetry.gpus import THROTTLES, XIDS, Alarm, AlarmKind, Gpu, Snapshot
from gpubalancer.telemetry.sampler import is_full

REMEMBER_S = 600.0
XIDS_LIMIT = 32
CALM_S = 1.0
ROOM_FRACTION = 0.95

ERROR_COUNTS = ("ecc_volatile", "retired_pages")


@dataclass(slots=True)
class _Throttle:
    reasons: frozenset[str]
    seen_s: float


class AlarmWatch:
    """Compares what comes with what was. Times are those of the snapshots and XIDs.

    Arguments:
        snapshot: what is known before the first sample.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._xids: dict[str, tuple[tuple[int, float], ...]] = {}
        self._throttles: dict[str, _Throttle] = {}
        self._full: set[str] = set()

    def sampled(self, snapshot: Snapshot) -> tuple[Alarm, ...]:
        """After a new snapshot; `self.snapshot` is then it, with the XIDs."""
        before = {gpu.uuid: gpu for gpu in self.snapshot.gpus}
        for gpu in snapshot.gpus:
            if gpu.uuid in before and _was_reset(before[gpu.uuid], gpu):
                self._xids.pop(gpu.uuid, None)
        self.snapshot = self._with_xids(snapshot)
        told = (self._changes(before.get(gpu.uuid), gpu, snapshot.at_s) for gpu in self.snapshot.gpus)
        return tuple(alarm for alarms in told for alarm in alarms)

    def told(self, uuid: str, xid: int, at_s: float) -> tuple[Alarm, ...]:
        """After the driver told an XID."""
        self._xids[uuid] = (*self._xids.get(uuid, ()), (xid, at_s))[-XIDS_LIMIT:]
        self.snapshot = self._with_xids(self.snapshot)
        return (Alarm(AlarmKind.XID, uuid, str(xid), at_s),)

    def _with_xids(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with each card's XIDs; a MIG instance shares its card's."""
        for uuid, told in self._xids.items():
            kept = (each for each in told if each[0] in XIDS or each[1] > snapshot.at_s - REMEMBER_S)
            self._xids[uuid] = tuple(kept)
        gpus = (replace(gpu, xids=self._xids.get(gpu.parent_uuid or gpu.uuid, ())) for gpu in snapshot.gpus)
        return replace(snapshot, gpus=tuple(gpus))

    def _changes(self, before: Gpu | None, gpu: Gpu, at_s: float) -> Iterator[Alarm]:
        if gpu.lost != (before is not None and before.lost):
            yield Alarm(AlarmKind.LOST if gpu.lost else AlarmKind.FOUND, gpu.uuid, gpu.name, at_s)
        if gpu.lost:
            return
        # A MIG instance's clocks and errors are its card's, told once.
        if gpu.parent_uuid is None:
            yield from self._throttled(gpu, at_s)
            if before is not None:
                yield from _errors(before, gpu, at_s)
        yield from self._filled(gpu, at_s)

    def _throttled(self, gpu: Gpu, at_s: float) -> Iterator[Alarm]:
        reasons = THROTTLES.intersection(gpu.throttle_reasons)
        known = self._throttles.get(gpu.uuid)
        if reasons:
            told = known.reasons if known else frozenset()
            self._throttles[gpu.uuid] = _Throttle(told | reasons, at_s)
            if reasons - told:
                yield Alarm(AlarmKind.THROTTLE, gpu.uuid, ",".join(sorted(reasons)), at_s)
        elif known and at_s - known.seen_s >= CALM_S:
            del self._throttles[gpu.uuid]
            yield Alarm(AlarmKind.RELEASED, gpu.uuid, ",".join(sorted(known.reasons)), at_s)

    def _filled(self, gpu: Gpu, at_s: float) -> Iterator[Alarm]:
        fraction = gpu.memory_fraction
        if fraction is None:
            return
        if fraction < ROOM_FRACTION:
            self._full.discard(gpu.uuid)
        elif is_full(gpu) and gpu.uuid not in self._full:
            self._full.add(gpu.uuid)
            yield Alarm(AlarmKind.MEMORY, gpu.uuid, f"{fraction:.3f}", at_s)


def _was_reset(before: Gpu, gpu: Gpu) -> bool:
    if before.lost:
        return not gpu.lost
    return (gpu.energy_joules or 0.0) < (before.energy_joules or 0.0) and gpu.energy_joules is not None


def _errors(before: Gpu, gpu: Gpu, at_s: float) -> Iterator[Alarm]:
    for name in ERROR_COUNTS:
        earlier, count = getattr(before, name), getattr(gpu, name)
        if earlier is not None and count is not None and count > earlier:
            yield Alarm(AlarmKind.ECC, gpu.uuid, f"{name} {count}", at_s)
