"""What is known of the GPUs of one host at one moment, and its JSON, as the agent sends and the balancer reads it.

Sensors lie: a driver answers 4294967295 for "not available", a ratio above 1, a NaN from an exporter's division. So
every number comes in by `RANGES`, whoever tells it, and what is outside its range is None: absent, never zero. A
reader needs no further check. Unknown fields of the JSON are ignored, missing ones are None, so that an agent and a
balancer of different versions understand each other.

Which fault means what is the table `XIDS`: numbers that are not in it are the application's own fault (13 a fault of
a kernel, 31 an illegal address, 43 and 45 a process that was stopped), as NVIDIA's device plugin has it, and say
nothing of the card. Utilisation and memory are no load signals: an engine that decodes is 100 % busy at any batch, and
takes its memory at start.

The JSON: `{"at_s", "host", "driver", "age_s", "problem", "gpus": [{a field of Gpu: its value, ...}, ...]}`; `processes`
are `[pid, memory_bytes]` and `xids` are `[xid, at_s]`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

import orjson

GPUS_LIMIT = 1024
ROWS_LIMIT = 1024
TEXT_LIMIT = 256


class Remedy(StrEnum):
    """What a hardware fault asks for."""

    EJECT = "eject"
    """No new work at once; what runs there is most likely dead."""
    DRAIN = "drain"
    """Let what runs end, send nothing new; the card wants a reset."""


XIDS: Mapping[int, Remedy] = {
    46: Remedy.EJECT,  # the GPU stopped processing
    48: Remedy.EJECT,  # double-bit ECC error
    63: Remedy.DRAIN,  # a row remap or page retirement is recorded and waits for a reset
    64: Remedy.EJECT,  # recording it failed
    74: Remedy.EJECT,  # NVLink error
    79: Remedy.EJECT,  # fallen off the bus
    94: Remedy.DRAIN,  # contained ECC error
    95: Remedy.EJECT,  # uncontained ECC error
    119: Remedy.EJECT,  # the GPU's system processor timed out
    120: Remedy.EJECT,  # the GPU's system processor failed
    140: Remedy.EJECT,  # unrecovered ECC error
}
"""XID errors that mean broken hardware (NVIDIA, "XID Errors"); all others are the application's."""

REASONS: Mapping[int, str] = {
    0x1: "gpu_idle",
    0x2: "applications_clocks",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "hw_power_brake",
    0x100: "display_clocks",
}
"""Bits of `nvmlDeviceGetCurrentClocksEventReasons` (nvml.h), and their names here."""

THROTTLES = frozenset(("hw_slowdown", "sw_thermal", "hw_thermal", "hw_power_brake"))
"""Reasons that mean trouble. A power cap alone is how a busy GPU runs, and settings of the operator are as expected."""

NO_ACTION = "none"
"""`recovery_action` of a sound card."""

RECOVERY: Mapping[str, Remedy | None] = {
    NO_ACTION: None,
    "recover_imex_domain": None,  # a service beside the card
    "drain": Remedy.DRAIN,
    "drain_p2p": Remedy.DRAIN,
    "drain_and_reset": Remedy.DRAIN,
    "reset": Remedy.EJECT,
    "bus_reset": Remedy.EJECT,
    "reboot": Remedy.EJECT,
}
"""What `recovery_action` asks for; a word that is not here asks to drain."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU or MIG instance. None: the card, its driver or the agent does not say.

    Attributes:
        index: its place on the host, of a MIG instance its place in its GPU. May change with a reboot; `uuid` does not.
        uuid: NVML's name of it, `GPU-...` or `MIG-...`.
        name: the product.
        mig: profile of a MIG instance (`3g.40gb`); None for a whole GPU.
        parent_uuid: the GPU that a MIG instance is a part of. It shares its clocks, heat and faults; power and energy
            stand at the parent only, so that sums are right.
        utilization_fraction: share of the last sampling window in which any kernel ran. Finds idle cards, nothing else.
        memory_used_bytes, memory_total_bytes: device memory.
        power_watts, power_limit_watts: draw, and the limit enforced.
        energy_joules: since the driver was loaded. Goes back to zero when it is loaded anew.
        temperature_celsius: of the chip.
        sm_clock_mhz, expected_sm_clock_mhz: now, and what it runs at under load when nothing holds it back.
        memory_clock_mhz: now.
        throttle_reasons: values of `REASONS` that hold the clock now.
        ecc_volatile, ecc_aggregate: uncorrected errors since the last reset, and ever.
        retired_pages: pages retired or rows remapped because of errors.
        recovery_action: what the driver says that the card needs, a word of `RECOVERY`.
        pcie_tx_bytes_per_s, pcie_rx_bytes_per_s: traffic of the bus since the sample before.
        nvlink_tx_bytes_per_s, nvlink_rx_bytes_per_s: the same of all its NVLinks.
        processes: pid and device memory of each compute process; empty inside containers.
        xids: errors that the driver told, with their time, those of the last minutes and all that are in `XIDS`.
        lost: it no longer answers.
        suspect: names of gauges that stood still while the card worked, and are None for that.
    """

    index: int
    uuid: str
    name: str = ""
    mig: str | None = None
    parent_uuid: str | None = None
    utilization_fraction: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    energy_joules: float | None = None
    temperature_celsius: float | None = None
    sm_clock_mhz: float | None = None
    expected_sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    ecc_volatile: int | None = None
    ecc_aggregate: int | None = None
    retired_pages: int | None = None
    recovery_action: str | None = None
    pcie_tx_bytes_per_s: float | None = None
    pcie_rx_bytes_per_s: float | None = None
    nvlink_tx_bytes_per_s: float | None = None
    nvlink_rx_bytes_per_s: float | None = None
    processes: tuple[tuple[int, int | None], ...] = ()
    xids: tuple[tuple[int, float], ...] = ()
    lost: bool = False
    suspect: tuple[str, ...] = ()

    @property
    def is_idle(self) -> bool:
        """Nothing runs on it, so its clocks are low for no bad reason."""
        return "gpu_idle" in self.throttle_reasons or self.utilization_fraction == 0

    @property
    def speed_fraction(self) -> float | None:
        """SM clock by the expected one, above 0 and at most 1; None when unknown or idle.

        A power cap lowers it too, on every busy card: a measured time already holds that. So take it for a change of
        speed only while `is_throttled`.
        """
        if self.is_idle or not self.sm_clock_mhz or not self.expected_sm_clock_mhz:
            return None
        return min(1.0, self.sm_clock_mhz / self.expected_sm_clock_mhz)

    @property
    def memory_fraction(self) -> float | None:
        """Memory in use by all there is; None where the card does not say, or says more than there is."""
        used, total = self.memory_used_bytes, self.memory_total_bytes
        if used is None or total is None or not 0 <= used <= total:
            return None
        return used / total

    @property
    def is_throttled(self) -> bool:
        """Heat or power supply holds the clock down."""
        return not THROTTLES.isdisjoint(self.throttle_reasons)

    @property
    def remedy(self) -> Remedy | None:
        """What its faults ask for; the hardest of them, None for a sound card."""
        asked: set[Remedy | None] = {XIDS.get(xid) for xid, _ in self.xids}
        if self.recovery_action is not None:
            asked.add(RECOVERY.get(self.recovery_action, Remedy.DRAIN))
        if self.lost or Remedy.EJECT in asked:
            return Remedy.EJECT
        return Remedy.DRAIN if Remedy.DRAIN in asked else None

    @property
    def is_faulty(self) -> bool:
        """Its hardware is broken: nothing new should be sent to it."""
        return self.remedy is not None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All GPUs of a host.

    Attributes:
        at_s: when it was taken, by the host's clock (Unix time).
        host: the host's name.
        driver: the driver's version; None without one.
        gpus: in the order of their index, MIG instances after their GPU.
        age_s: how old it was when it was sent, by the sender's clock: right even where two hosts' clocks differ. Grows
            while the driver does not answer.
        problem: one line on why there is nothing newer or nothing at all; None when all is well.
    """

    at_s: float
    host: str
    driver: str | None = None
    gpus: tuple[Gpu, ...] = ()
    age_s: float = 0.0
    problem: str | None = None

    def json(self) -> bytes:
        """Its JSON."""
        return orjson.dumps(self)


class AlarmKind(StrEnum):
    """Why the agent speaks up before its time."""

    THROTTLE = "throttle"
    """A reason of `THROTTLES` came; `detail` names all that hold now."""
    RELEASED = "released"
    """The last of them went."""
    XID = "xid"
    """The driver told an error; `detail` is its number."""
    LOST = "lost"
    """The GPU no longer answers."""
    FOUND = "found"
    """It answers again."""
    MEMORY = "memory"
    """Device memory is all but full; `detail` is the fraction in use."""
    ECC = "ecc"
    """New uncorrected errors or retired pages; `detail` says which and how many there are now."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that can't wait for the next snapshot: what, of which GPU, seen when (the host's clock)."""

    kind: AlarmKind
    uuid: str
    detail: str
    at_s: float


def alarm_json(alarms: Sequence[Alarm], snapshot: Snapshot) -> bytes:
    """The data of an `alarm` event: `{"alarms": [{"kind", "uuid", "detail", "at_s"}], "snapshot": {...}}`."""
    return orjson.dumps({"alarms": alarms, "snapshot": snapshot})


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that a field can truly have, both ends included."""

    low: float
    high: float
    whole: bool = False

    def keep(self, value: object) -> float | int | None:
        """The number, or None if it is none or can't be true."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return None
        if value in NOT_AVAILABLE or (self.whole and value != math.floor(value)):
            return None
        return int(value) if self.whole else float(value)


NOT_AVAILABLE = frozenset((0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF))
"""What NVML says where it does not know (NVML_VALUE_NOT_AVAILABLE), in 32 and 64 bits."""

_BYTES = Range(0, 1 << 50, whole=True)
_COUNT = Range(0, (1 << 63) - 1, whole=True)
_TIME_S = Range(0, 1e11)
_PER_S = Range(0, 1e13)

RANGES: Mapping[str, Range] = {
    "utilization_fraction": Range(0, 1),
    "memory_used_bytes": _BYTES,
    "memory_total_bytes": Range(1, 1 << 50, whole=True),
    "power_watts": Range(0, 20_000),
    "power_limit_watts": Range(1, 20_000),
    "energy_joules": Range(0, 1e15),
    "temperature_celsius": Range(-40, 200),
    "sm_clock_mhz": Range(0, 20_000),
    "expected_sm_clock_mhz": Range(1, 20_000),
    "memory_clock_mhz": Range(0, 100_000),
    "ecc_volatile": _COUNT,
    "ecc_aggregate": _COUNT,
    "retired_pages": _COUNT,
    "pcie_tx_bytes_per_s": _PER_S,
    "pcie_rx_bytes_per_s": _PER_S,
    "nvlink_tx_bytes_per_s": _PER_S,
    "nvlink_rx_bytes_per_s": _PER_S,
}
"""Bounds of each number: generous for any card that is sold, too narrow for what a broken sensor says."""

_INDEX = Range(0, 65_535, whole=True)
_PID = Range(1, (1 << 31) - 1, whole=True)
_XID = Range(1, 65_535, whole=True)


def gpu_of(said: Mapping[str, object]) -> Gpu | None:
    """A GPU from what a driver or a JSON object says, by the names of Gpu's fields; None without index and uuid."""
    index, uuid = _INDEX.keep(said.get("index")), text(said.get("uuid"))
    if index is None or not uuid:
        return None
    kept: dict[str, Any] = {name: bounds.keep(said.get(name)) for name, bounds in RANGES.items()}
    if kept["memory_used_bytes"] is not None and kept["memory_used_bytes"] > (kept["memory_total_bytes"] or math.inf):
        kept["memory_used_bytes"] = None
    return Gpu(
        **kept,
        index=int(index),
        uuid=uuid,
        name=text(said.get("name")) or "",
        mig=text(said.get("mig")),
        parent_uuid=text(said.get("parent_uuid")),
        throttle_reasons=tuple(filter(None, map(text, rows(said.get("throttle_reasons"))))),
        recovery_action=text(said.get("recovery_action")),
        processes=tuple(_pairs(said.get("processes"), _PID, _BYTES.keep)),
        xids=tuple((xid, at_s) for xid, at_s in _pairs(said.get("xids"), _XID, _TIME_S.keep) if at_s is not None),
        lost=said.get("lost") is True,
        suspect=tuple(filter(None, map(text, rows(said.get("suspect"))))),
    )


def snapshot_of(data: bytes) -> Snapshot:
    """A snapshot from its JSON. Raises ValueError where it is no JSON object with a list of `gpus`."""
    return _snapshot(orjson.loads(data))


def alarms_of(data: bytes) -> tuple[tuple[Alarm, ...], Snapshot]:
    """What `alarm_json` wrote; alarms of unknown kinds are left out. Raises ValueError as `snapshot_of` does."""
    said = orjson.loads(data)
    told = said if isinstance(said, dict) else {}
    alarms = (_alarm(each) for each in rows(told.get("alarms")) if isinstance(each, dict))
    return tuple(alarm for alarm in alarms if alarm), _snapshot(told.get("snapshot"))


def text(value: object) -> str | None:
    """A printable text of bearable length, or None."""
    fit = isinstance(value, str) and 0 < len(value) <= TEXT_LIMIT and value.isprintable()
    return str(value) if fit else None


def rows(value: object) -> list[object]:
    """The entries of a list, not more than anyone needs; empty for anything else."""
    return list(value[:ROWS_LIMIT]) if isinstance(value, list | tuple) else []


def _snapshot(said: Any) -> Snapshot:
    entries = said.get("gpus") if isinstance(said, dict) else None
    listed = entries if isinstance(entries, list) else None
    if listed is None:
        raise ValueError("a snapshot is a JSON object with a list of gpus")
    gpus = (gpu_of(entry) for entry in listed[:GPUS_LIMIT] if isinstance(entry, dict))
    return Snapshot(
        at_s=_TIME_S.keep(said.get("at_s")) or 0.0,
        host=text(said.get("host")) or "",
        driver=text(said.get("driver")),
        gpus=tuple(gpu for gpu in gpus if gpu),
        age_s=_TIME_S.keep(said.get("age_s")) or 0.0,
        problem=text(said.get("problem")),
    )


def _alarm(said: Mapping[str, object]) -> Alarm | None:
    kind, uuid, at_s = said.get("kind"), text(said.get("uuid")), _TIME_S.keep(said.get("at_s"))
    if kind not in set(AlarmKind) or uuid is None or at_s is None:
        return None
    return Alarm(AlarmKind(str(kind)), uuid, text(said.get("detail")) or "", at_s)


def _pairs(value: object, first: Range, second: Callable[[object], float | int | None]) -> list[tuple[int, Any]]:
    pairs = [row for row in rows(value) if isinstance(row, list | tuple) and len(row) == 2]
    kept = ((first.keep(left), second(right)) for left, right in pairs)
    return [(int(left), right) for left, right in kept if left is not None]


FIELDS = tuple(field.name for field in fields(Gpu))
"""Names of all fields, as they stand in the JSON."""
