"""What a card can be asked: the table `READINGS`.

Each of its rows has one or more ways to ask, newest first, for drivers and cards that don't know the newest. A way
takes a handle and returns values by the names of Gpu's fields, in their units; `gpu_of` checks their ranges.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pynvml  # type: ignore[import-untyped]  # ships no types

from gpubalancer.telemetry.gpus import NOT_AVAILABLE, REASONS
from gpubalancer.telemetry.nvml.calls import ask

ALL_LINKS = 0xFFFFFFFF
"""The scope of a field that is summed over all NVLinks."""

Way = Callable[[Any], Mapping[str, object]]


def _number(name: str, call: Callable[..., Any], *arguments: object, scale: float = 1.0) -> Way:
    """A way that returns one number: what the call says, times `scale`."""

    def way(handle: Any) -> Mapping[str, object]:
        value = ask(call, handle, *arguments)
        return {} if value in NOT_AVAILABLE else {name: value * scale if scale != 1.0 else value}

    return way


def _memory(*version: object) -> Way:
    def way(handle: Any) -> Mapping[str, object]:
        memory = ask(pynvml.nvmlDeviceGetMemoryInfo, handle, *version)
        return {"memory_used_bytes": memory.used, "memory_total_bytes": memory.total}

    return way


def _reasons(call: Callable[..., Any]) -> Way:
    def way(handle: Any) -> Mapping[str, object]:
        bits = ask(call, handle)
        if bits in NOT_AVAILABLE:
            return {}
        return {"throttle_reasons": tuple(name for bit, name in REASONS.items() if bits & bit)}

    return way


def _processes(call: Callable[..., Any]) -> Way:
    def way(handle: Any) -> Mapping[str, object]:
        return {"processes": [(process.pid, process.usedGpuMemory) for process in ask(call, handle)]}

    return way


def _utilization(handle: Any) -> Mapping[str, object]:
    return {"utilization_fraction": ask(pynvml.nvmlDeviceGetUtilizationRates, handle).gpu / 100}


def _remapped_rows(handle: Any) -> Mapping[str, object]:
    corrected, uncorrected, pending, failed = ask(pynvml.nvmlDeviceGetRemappedRows, handle)
    rows: dict[str, object] = {"retired_pages": corrected + uncorrected}
    if pending or failed:
        rows["recovery_action"] = "reset" if failed else "drain"
    return rows


def _retired_pages(handle: Any) -> Mapping[str, object]:
    causes = range(pynvml.NVML_PAGE_RETIREMENT_CAUSE_COUNT)
    return {"retired_pages": sum(len(ask(pynvml.nvmlDeviceGetRetiredPages, handle, cause)) for cause in causes)}


RECOVERY_ACTIONS = (
    "none",
    "reset",
    "reboot",
    "drain_p2p",
    "drain_and_reset",
    "recover_imex_domain",
    "bus_reset",
    "reboot",
)
"""Words for NVML_GPU_RECOVERY_ACTION_*, by their number."""

COUNTERS: Mapping[str, tuple[int, int, int]] = {
    "pcie_tx": (pynvml.NVML_FI_DEV_PCIE_COUNT_TX_BYTES, 0, 1),
    "pcie_rx": (pynvml.NVML_FI_DEV_PCIE_COUNT_RX_BYTES, 0, 1),
    "nvlink_tx": (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, ALL_LINKS, 1024),
    "nvlink_rx": (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, ALL_LINKS, 1024),
}
"""Counters of bytes that are cheap to read: field, scope, bytes per unit. `nvmlDeviceGetPcieThroughput` takes 20 ms."""

_UNION_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Members of a field's value, by NVML_VALUE_TYPE_*."""


def _fields(handle: Any) -> Mapping[str, object]:
    """Recovery action and byte counters, in one call; the counters by their own names, not Gpu's."""
    wanted = [(pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, 0)] + [(one, scope) for one, scope, _ in COUNTERS.values()]
    action, *counts = (_field(value) for value in ask(pynvml.nvmlDeviceGetFieldValues, handle, wanted))
    said: dict[str, object] = {
        name: count * unit for (name, (_, _, unit)), count in zip(COUNTERS.items(), counts, strict=True) if count
    }
    if action is not None and 0 <= action < len(RECOVERY_ACTIONS):
        said["recovery_action"] = RECOVERY_ACTIONS[int(action)]
    return said


def _field(value: Any) -> int | None:
    if value.nvmlReturn != pynvml.NVML_SUCCESS or not 0 <= value.valueType < len(_UNION_MEMBERS):
        return None
    number = getattr(value.value, _UNION_MEMBERS[value.valueType])
    return None if number in NOT_AVAILABLE else number


_ECC = (pynvml.nvmlDeviceGetTotalEccErrors, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)

READINGS: Mapping[str, tuple[Way, ...]] = {
    "memory": (_memory(pynvml.nvmlMemory_v2), _memory()),
    "processes": (
        _processes(pynvml.nvmlDeviceGetComputeRunningProcesses_v3),
        _processes(pynvml.nvmlDeviceGetComputeRunningProcesses_v2),
    ),
    "utilization": (_utilization,),
    "power": (_number("power_watts", pynvml.nvmlDeviceGetPowerUsage, scale=1e-3),),
    "power_limit": (_number("power_limit_watts", pynvml.nvmlDeviceGetEnforcedPowerLimit, scale=1e-3),),
    "energy": (_number("energy_joules", pynvml.nvmlDeviceGetTotalEnergyConsumption, scale=1e-3),),
    "temperature": (_number("temperature_celsius", pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),),
    "sm_clock": (_number("sm_clock_mhz", pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM),),
    "expected_clock": (_number("expected_sm_clock_mhz", pynvml.nvmlDeviceGetMaxClockInfo, pynvml.NVML_CLOCK_SM),),
    "memory_clock": (_number("memory_clock_mhz", pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_MEM),),
    "reasons": (
        _reasons(pynvml.nvmlDeviceGetCurrentClocksEventReasons),
        _reasons(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons),
    ),
    "ecc_volatile": (_number("ecc_volatile", *_ECC, pynvml.NVML_VOLATILE_ECC),),
    "ecc_aggregate": (_number("ecc_aggregate", *_ECC, pynvml.NVML_AGGREGATE_ECC),),
    "fields": (_fields,),
    # After `fields`: rows that wait for a reset outweigh an action of none.
    "retired": (_remapped_rows, _retired_pages),
}
"""What a card can be asked, in the order in which later answers replace earlier ones."""

OF_A_CARD = tuple(READINGS)
AT_A_GLANCE = ("reasons", "memory")
"""Cheap, and what an alarm may hang on."""
OF_A_THROTTLE = ("sm_clock",)
"""What else is asked when a card is throttled."""
OF_AN_INSTANCE = ("memory", "processes")
"""What a MIG instance has of its own."""
