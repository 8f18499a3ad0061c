"""What every contestant is asked to do, and what one visit to it gives."""

from dataclasses import dataclass

from bench.peers import Contestant
from bench.plan import Plan, Result

INTERVAL_S = 0.1  # between two events of a stream: ten tokens a second, a slow reader's pace
DEFAULT_RATE_PER_S = 1500.0  # a quarter to a third of what one core of the slowest compiled peer can do
CONNECTIONS = 64
WARM_UP_S = 1.0


@dataclass(frozen=True)
class Workload:
    """One row of what is measured; `streams` 0 means unary."""

    name: str
    title: str
    prompt_bytes: int
    streams: int = 0

    def plan(
        self,
        row: Contestant | None,
        ports: tuple[int, ...],
        key: str,
        seconds: float,
        rate_per_s: float,
        seed: int,
        pid: int,
    ) -> Plan:
        """The plan for a contestant, within its own limits; no row is the backends themselves."""
        rate_per_s = min(rate_per_s, row.max_rate_per_s or rate_per_s) if row else rate_per_s
        streams = min(self.streams, row.max_streams or self.streams) if row else self.streams
        return Plan(
            kind="stream" if self.streams else "unary",
            ports=ports,
            key=key,
            prompt_bytes=self.prompt_bytes,
            seconds=seconds,
            connections=streams or CONNECTIONS,
            rate_per_s=0.0 if self.streams else rate_per_s,
            interval_s=INTERVAL_S,
            seed=seed,
            watch_pid=pid,
        )


# Streams first: their memory is counted from idle, before long prompts have stretched anybody's heap.
WORKLOADS = (
    Workload("stream_200", "200 concurrent streams", 1024, streams=200),
    Workload("stream_1000", "1,000 concurrent streams", 1024, streams=1000),
    Workload("unary_1k", "Unary, 1 KB prompt", 1024),
    Workload("unary_16k", "Unary, 16 KB prompt", 16 * 1024),
)

WARM_UP = Workload("warm_up", "Warm-up", 1024)


@dataclass(frozen=True)
class Idle:
    """What a contestant uses after its warm-up with nobody asking anything."""

    memory_bytes: int = 0
    cpu_fraction: float = 0.0


@dataclass(frozen=True)
class Point:
    """One workload of one visit: figures per request or event, as the report shows them."""

    contestant: str
    workload: str
    round: int
    cpu_us: float | None  # per right answer, or per event
    busy_fraction: float  # of the contestant's core
    p50_ms: float | None
    p99_ms: float | None
    done: int
    failed: int
    errors: dict[str, int]
    idle_bytes: int
    idle_cpu_fraction: float  # of one core, with nobody asking anything
    stream_kb: float | None  # memory over idle for each open stream
    streams: int
    rate_per_s: float
    late_p99_ms: float | None
    generator_busy_fraction: float


def point(contestant: str, workload: Workload, number: int, plan: Plan, result: Result, idle: Idle) -> Point:
    """What a result means per unit; a contestant that did nothing right has no cost, not a cost of zero."""
    watched = plan.watch_pid > 0
    per_stream = watched and result.open_streams > 0
    return Point(
        contestant=contestant,
        workload=workload.name,
        round=number,
        cpu_us=result.cpu_s / result.units * 1e6 if watched and result.units and result.cpu_s > 0 else None,
        busy_fraction=result.cpu_s / result.window_s if result.window_s else 0.0,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        done=result.done,
        failed=result.failed,
        errors=result.errors,
        idle_bytes=idle.memory_bytes,
        idle_cpu_fraction=idle.cpu_fraction,
        stream_kb=(result.memory_bytes - idle.memory_bytes) / result.open_streams / 1024 if per_stream else None,
        streams=plan.connections if workload.streams else 0,
        rate_per_s=plan.rate_per_s,
        late_p99_ms=result.late_p99_ms,
        generator_busy_fraction=result.generator_busy_fraction,
    )
