"""From the GPUs of a host to the state of one backend that runs on some of them.

The slowest GPU sets the pace, because engines wait for all of them at every layer; one that is broken breaks the
backend. Clocks count only while a reason of `gpus.THROTTLES` holds: an idle GPU has low clocks for no bad reason, and
what a power cap costs is in every measured time already.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpubalancer.board.layout import Hardware
from gpubalancer.telemetry.gpus import Gpu, Snapshot


@dataclass(frozen=True, slots=True)
class State:
    """One backend's hardware.

    Attributes:
        speed_fraction: of its slowest GPU; 1 while nothing is known to hold any back.
        power_watts: of all its GPUs; None if one does not tell.
    """

    hardware: Hardware = Hardware.UNKNOWN
    speed_fraction: float = 1.0
    power_watts: float | None = None


def chosen(snapshot: Snapshot, indices: Sequence[int]) -> Snapshot:
    """The same, with only the GPUs of these indices and their MIG instances; no index means all."""
    if not indices:
        return snapshot
    whole = {gpu.uuid for gpu in snapshot.gpus if gpu.parent_uuid is None and gpu.index in indices}
    kept = tuple(gpu for gpu in snapshot.gpus if (gpu.parent_uuid or gpu.uuid) in whole)
    return replace(snapshot, gpus=kept)


def state_of(gpus: Sequence[Gpu]) -> State:
    """The state of a backend on these GPUs."""
    if not gpus:
        return State()
    watts = [gpu.power_watts for gpu in gpus if gpu.parent_uuid is None]
    return State(
        _worst(gpus),
        min(gpu.speed_fraction or 1.0 if gpu.is_throttled else 1.0 for gpu in gpus),
        None if not watts or None in watts else sum(each or 0.0 for each in watts),
    )


def _worst(gpus: Sequence[Gpu]) -> Hardware:
    if any(gpu.is_faulty for gpu in gpus):
        return Hardware.FAULTY
    return Hardware.THROTTLED if any(gpu.is_throttled for gpu in gpus) else Hardware.WELL
