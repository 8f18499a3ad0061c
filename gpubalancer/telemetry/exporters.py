"""GPUs as the pages of DCGM's, AMD's and Intel's exporters show them, as a `gpus.Snapshot` like the agent's.

One table per exporter, from a field of `gpus.Gpu` to the series behind it, with the factor to our unit. Series are
told apart by the labels that name a GPU; what several tiles, XCDs or MIG instances of a GPU repeat is folded into one.
Ranges are checked by `gpus.gpu_of`, as everything that sensors say.

What an exporter does not tell by default stays unknown: DCGM's has neither throttle reasons nor the highest clock
unless its list of counters is extended (docs/telemetry.md). Its XID is the *last* one and never clears by itself; those
that are the application's fault mean nothing (`gpus.XIDS`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gpubalancer.telemetry import pages
from gpubalancer.telemetry.dialects import Fold, Series
from gpubalancer.telemetry.gpus import REASONS, Gpu, Snapshot, gpu_of

_MIB = float(1 << 20)
RESIDENCY_FRACTION = 0.1
"""Share of the time from which on a limit counts as a throttle: less costs less than predictions are off anyway."""


@dataclass(frozen=True, slots=True)
class Exporter:
    """One exporter's words.

    Attributes:
        signs: beginnings of lines that only its page has.
        identity: labels that name a GPU, the first that is there.
        index: labels with its number on the host; without one it is the place among the sorted identities.
        fields: numbers of a Gpu.
        reasons: throttle reasons (`gpus.REASONS`), each with the share of time that it held, from 0 to 1.
        texts: texts of a Gpu by the label that has them.
        finish: what is left to work out, from the page's numbers by the names of `extra`.
    """

    signs: tuple[bytes, ...]
    identity: tuple[str, ...]
    index: tuple[str, ...]
    fields: Mapping[str, tuple[Series, ...]]
    reasons: Mapping[str, tuple[Series, ...]] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, tuple[Series, ...]] = field(default_factory=dict)
    finish: Callable[[Gpu, Mapping[str, float], float], Gpu] = lambda gpu, extra, at_s: gpu


def snapshot_of(text: bytes, at_s: float) -> Snapshot:
    """The GPUs of a page. None of them, and a problem, if no exporter's page is like this.

    Arguments:
        text: the page.
        at_s: when it came, Unix time.
    """
    page = pages.Page(text)
    exporter = next((each for each in EXPORTERS.values() if any(map(page.has, each.signs))), None)
    if exporter is None:
        return Snapshot(at_s, host="", problem="a page of no GPU exporter that is known")
    cards: dict[str, dict[str, Any]] = {}
    for part in (exporter.fields, exporter.reasons, exporter.extra):
        for name, alternatives in part.items():
            for identity, labels, number in _first_told(exporter, page, alternatives):
                cards.setdefault(identity, {"labels": labels})[name] = number
    found = (_gpu(exporter, identity, place, cards[identity], at_s) for place, identity in enumerate(sorted(cards)))
    return Snapshot(at_s, host="", gpus=tuple(sorted(filter(None, found), key=lambda gpu: gpu.index)))


def _first_told(
    exporter: Exporter, page: pages.Page, alternatives: Sequence[Series]
) -> list[tuple[str, pages.Labels, float]]:
    for series in alternatives:
        numbers: dict[str, list[float]] = {}
        labels_of: dict[str, pages.Labels] = {}
        for labels, value in page.samples(series.name):
            identity = next((labels[key] for key in exporter.identity if labels.get(key)), None)
            if identity is not None and series.matches(labels):
                numbers.setdefault(identity, []).append(value)
                labels_of.setdefault(identity, labels)
        if numbers:
            return [(card, labels_of[card], series.folded(values)) for card, values in numbers.items()]
    return []


def _gpu(exporter: Exporter, identity: str, place: int, said: Mapping[str, Any], at_s: float) -> Gpu | None:
    labels: pages.Labels = said["labels"]
    index = next((int(labels[key]) for key in exporter.index if labels.get(key, "").isdecimal()), place)
    reasons = [name for name in exporter.reasons if said.get(name, 0.0) >= RESIDENCY_FRACTION]
    texts = {name: labels.get(label) for name, label in exporter.texts.items()}
    numbers = {name: said[name] for name in exporter.fields if name in said}
    gpu = gpu_of({**numbers, **texts, "index": index, "uuid": identity, "throttle_reasons": reasons})
    extra = {name: said[name] for name in exporter.extra if name in said}
    return exporter.finish(gpu, extra, at_s) if gpu else None


def _with_dcgm_codes(gpu: Gpu, extra: Mapping[str, float], at_s: float) -> Gpu:
    xid, mask = extra.get("xid", 0.0), extra.get("reasons", 0.0)
    bits = int(mask) if 0 <= mask < 1 << 32 else 0
    reasons = tuple(name for bit, name in REASONS.items() if bits & bit)
    return replace(gpu, xids=((int(xid), at_s),) if 0 < xid < 1 << 16 else (), throttle_reasons=reasons)


def _with_amd_health(gpu: Gpu, extra: Mapping[str, float], at_s: float) -> Gpu:
    return replace(gpu, recovery_action={0.0: "drain", 1.0: "none"}.get(extra.get("health", -1.0)))


def _max(*names: str, scale: float = 1.0) -> tuple[Series, ...]:
    return tuple(Series(name, scale=scale, fold=Fold.MAX) for name in names)


def _amd(name: str, scale: float = 1.0) -> tuple[Series, ...]:
    return _max(f"gpu_{name}", f"amd_gpu_{name}", scale=scale)


def _amd_clock(name: str, kind: str) -> tuple[Series, ...]:
    kinds = (kind, f"GPU_CLOCK_TYPE_{kind.upper()}")
    every = ((prefix, each) for prefix in ("gpu_", "amd_gpu_") for each in kinds)
    return tuple(Series(prefix + name, (("clock_type", each),), fold=Fold.MEAN) for prefix, each in every)


EXPORTERS: Mapping[str, Exporter] = {
    # https://github.com/NVIDIA/dcgm-exporter, etc/default-counters.csv, and the names of DCGM's fields
    "dcgm": Exporter(
        signs=(b"DCGM_FI_",),
        identity=("UUID", "uuid", "gpu"),
        index=("gpu",),
        texts={"name": "modelName"},
        fields={
            "utilization_fraction": _max("DCGM_FI_DEV_GPU_UTIL", scale=0.01),
            "memory_used_bytes": _max("DCGM_FI_DEV_FB_USED", scale=_MIB),
            "memory_total_bytes": _max("DCGM_FI_DEV_FB_TOTAL", scale=_MIB),
            "power_watts": _max("DCGM_FI_DEV_POWER_USAGE"),
            "power_limit_watts": _max("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "DCGM_FI_DEV_POWER_MGMT_LIMIT"),
            "energy_joules": _max("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", scale=1e-3),
            "temperature_celsius": _max("DCGM_FI_DEV_GPU_TEMP"),
            "sm_clock_mhz": _max("DCGM_FI_DEV_SM_CLOCK"),
            "expected_sm_clock_mhz": _max("DCGM_FI_DEV_MAX_SM_CLOCK"),
            "memory_clock_mhz": _max("DCGM_FI_DEV_MEM_CLOCK"),
            "ecc_volatile": _max("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"),
            "ecc_aggregate": _max("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL"),
            "retired_pages": _max("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "DCGM_FI_DEV_RETIRED_DBE"),
        },
        extra={
            "xid": _max("DCGM_FI_DEV_XID_ERRORS"),
            "reasons": _max("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS"),
        },
        finish=_with_dcgm_codes,
    ),
    # https://github.com/ROCm/device-metrics-exporter, docs/configuration/metricslist.md
    "amd": Exporter(
        signs=(b"gpu_package_power", b"gpu_average_package_power", b"gpu_gfx_activity", b"amd_gpu_"),
        identity=("serial_number", "gpu_uuid", "gpu_id"),
        index=("gpu_id",),
        texts={"name": "card_model"},
        fields={
            "utilization_fraction": _amd("gfx_activity", scale=0.01),
            "memory_used_bytes": _amd("used_vram", scale=_MIB),
            "memory_total_bytes": _amd("total_vram", scale=_MIB),
            "power_watts": _amd("package_power") + _amd("average_package_power") + _amd("power_usage"),
            "energy_joules": _amd("energy_consumed", scale=1e-6),
            "temperature_celsius": _amd("junction_temperature") + _amd("edge_temperature"),
            "sm_clock_mhz": _amd_clock("clock", "system"),
            "expected_sm_clock_mhz": _amd_clock("max_clock", "system"),
            "memory_clock_mhz": _amd_clock("clock", "memory"),
            "ecc_volatile": _amd("ecc_uncorrect_total"),
        },
        reasons={
            "sw_power_cap": _amd("violation_ppt_residency_percentage", scale=0.01),
            "hw_slowdown": _amd("violation_processor_hot_residency_percentage", scale=0.01),
            "hw_thermal": _amd("violation_socket_thermal_residency_percentage", scale=0.01),
            "sw_thermal": _amd("violation_hbm_thermal_residency_percentage", scale=0.01),
            "hw_power_brake": _amd("violation_vr_thermal_residency_percentage", scale=0.01),
        },
        extra={"health": _amd("health")},
        finish=_with_amd_health,
    ),
    # https://github.com/intel/xpumanager, rest/prometheus_exporter.py
    "intel": Exporter(
        signs=(b"xpum_",),
        identity=("uuid", "pci_bdf", "dev_file"),
        index=(),
        texts={"name": "dev_name"},
        fields={
            "utilization_fraction": _max("xpum_engine_ratio"),
            "memory_used_bytes": (Series("xpum_memory_used_bytes"),),
            "power_watts": _max("xpum_power_watts"),
            "energy_joules": _max("xpum_energy_joules", "xpum_energy_joules_total"),
            "temperature_celsius": (Series("xpum_temperature_celsius", (("location", "gpu"),), fold=Fold.MAX),),
            "sm_clock_mhz": (Series("xpum_frequency_mhz", (("type", "actual"),), fold=Fold.MEAN),),
            "expected_sm_clock_mhz": (Series("xpum_frequency_mhz", (("type", "request"),), fold=Fold.MEAN),),
        },
        reasons={"hw_slowdown": _max("xpum_frequency_throttling_ratio")},
    ),
}
