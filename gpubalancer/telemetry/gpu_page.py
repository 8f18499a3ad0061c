"""A snapshot as Prometheus text: every metric is one row of `METRICS`.

The label `gpu` is the UUID, as DCGM's exporter has it. What a card does not say has no sample, rather than a zero.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gpubalancer.telemetry.gpus import Gpu, Snapshot
from gpubalancer.telemetry.sampler import Cost

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of each GPU; `value` is None where there is nothing to say."""

    name: str
    help: str
    value: Callable[[Gpu], float | None]
    kind: str = "gauge"


METRICS = (
    Metric(
        "gpubalancer_gpu_utilization_ratio",
        "Share of the last window in which any kernel ran.",
        lambda gpu: gpu.utilization_fraction,
    ),
    Metric("gpubalancer_gpu_memory_used_bytes", "Device memory in use.", lambda gpu: gpu.memory_used_bytes),
    Metric("gpubalancer_gpu_memory_total_bytes", "Device memory.", lambda gpu: gpu.memory_total_bytes),
    Metric("gpubalancer_gpu_power_watts", "Power draw.", lambda gpu: gpu.power_watts),
    Metric("gpubalancer_gpu_power_limit_watts", "Power limit enforced.", lambda gpu: gpu.power_limit_watts),
    Metric(
        "gpubalancer_gpu_energy_joules_total",
        "Energy since the driver was loaded.",
        lambda gpu: gpu.energy_joules,
        "counter",
    ),
    Metric("gpubalancer_gpu_temperature_celsius", "Temperature of the chip.", lambda gpu: gpu.temperature_celsius),
    Metric("gpubalancer_gpu_sm_clock_mhz", "SM clock.", lambda gpu: gpu.sm_clock_mhz),
    Metric("gpubalancer_gpu_memory_clock_mhz", "Memory clock.", lambda gpu: gpu.memory_clock_mhz),
    Metric("gpubalancer_gpu_speed_ratio", "SM clock by the expected one, while busy.", lambda gpu: gpu.speed_fraction),
    Metric(
        "gpubalancer_gpu_ecc_errors_total", "Uncorrected ECC errors ever.", lambda gpu: gpu.ecc_aggregate, "counter"
    ),
    Metric("gpubalancer_gpu_retired_pages", "Pages retired or rows remapped.", lambda gpu: gpu.retired_pages),
    Metric("gpubalancer_gpu_faulty", "1 if its hardware is broken or it is lost, else 0.", lambda gpu: gpu.is_faulty),
)


def page(snapshot: Snapshot, cost: Cost) -> bytes:
    """All metrics of a host as they stand now."""
    return "".join(f"{line}\n" for line in _lines(snapshot, cost)).encode()


def _lines(snapshot: Snapshot, cost: Cost) -> Iterator[str]:
    for metric in METRICS:
        values = [(gpu, metric.value(gpu)) for gpu in snapshot.gpus]
        yield from _head(metric.name, metric.help, metric.kind)
        yield from (f"{metric.name}{_labels(gpu)} {float(value)!r}" for gpu, value in values if value is not None)
    name = "gpubalancer_gpu_throttled"
    yield from _head(name, "1 for each reason that holds the clock now, a normal power cap included.", "gauge")
    for gpu in snapshot.gpus:
        yield from (f"{name}{_labels(gpu, reason=reason)} 1.0" for reason in gpu.throttle_reasons)
    for name, text, kind, value in (
        ("gpubalancer_telemetry_age_seconds", "Age of the last sample.", "gauge", snapshot.age_s),
        ("gpubalancer_agent_samples_total", "Whole samples taken.", "counter", cost.samples),
        ("gpubalancer_agent_glances_total", "Looks at what an alarm may hang on.", "counter", cost.glances),
        ("gpubalancer_agent_driver_calls_total", "Readings asked of the driver.", "counter", cost.calls),
        ("gpubalancer_agent_driver_seconds_total", "Time spent in samples and glances.", "counter", cost.seconds),
    ):
        yield from _head(name, text, kind)
        yield f"{name} {float(value)!r}"


def _head(name: str, text: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _labels(gpu: Gpu, **more: str) -> str:
    labels = {"gpu": gpu.uuid, "index": str(gpu.index), **({"mig": gpu.mig} if gpu.mig else {}), **more}
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
