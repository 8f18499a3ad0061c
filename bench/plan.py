"""What the load generator is asked (`Plan`), what it saw (`Result`), and the tally that both kinds of load share."""

import time
from collections import Counter
from dataclasses import dataclass, field

from bench import accounting
from bench.figures import percentile
from bench.prompts import chat_bodies, http_request

PATIENCE_S = 10.0  # for answers that are still out when the plan has ended


@dataclass(frozen=True)
class Plan:
    """What to send, to which ports (a connection keeps to one), and whose CPU to watch meanwhile (0: nobody's)."""

    kind: str  # unary | stream
    ports: tuple[int, ...]
    key: str
    prompt_bytes: int
    seconds: float
    connections: int  # of a stream plan: open streams
    rate_per_s: float = 0.0  # unary only
    interval_s: float = 0.1  # between two events of the stub server; stream only
    seed: int = 0
    watch_pid: int = 0


@dataclass
class Result:
    """What came. Latency is until the whole answer, or of a stream until its first event (TTFT)."""

    done: int = 0  # status 200 and the right body
    errors: dict[str, int] = field(default_factory=dict)
    units: int = 0  # what the CPU is divided by: right answers, or events inside the window
    cpu_s: float = 0.0  # of the watched tree, inside the window
    window_s: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None
    open_streams: int = 0  # at the window's end, when memory is read
    memory_bytes: int = 0
    late_p99_ms: float | None = None  # how far the generator ran behind its own plan
    generator_busy_fraction: float = 0.0  # its CPU over the window

    @property
    def failed(self) -> int:
        """How many requests had no right answer."""
        return sum(self.errors.values())


class Run:
    """One plan under way: the tally of answers, and the window between two readings of the watched tree's CPU."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.result = Result()
        self.faults: Counter[str] = Counter()
        self.latencies_s: list[float] = []
        self.late_s: list[float] = []

    def requests(self, stream_events: int = 0) -> list[list[bytes]]:
        """The request bytes to choose from, for each port in turn."""
        bodies = chat_bodies(self.plan.prompt_bytes, stream_events)
        return [[http_request(port, self.plan.key, body) for body in bodies] for port in self.plan.ports]

    def tally(self, fault: str) -> None:
        """Count one answer; an empty fault is a right one."""
        if fault:
            self.faults[fault] += 1
        else:
            self.result.done += 1

    @property
    def ended(self) -> int:
        """Requests that have ended, well or not."""
        return self.result.done + self.faults.total()

    def open_window(self) -> None:
        """Start counting CPU."""
        self._watched_s = self._watched_cpu_s()
        self._own_s = time.process_time()
        self._opened_s = time.perf_counter()

    def close_window(self) -> None:
        """Stop counting CPU."""
        window_s = time.perf_counter() - self._opened_s
        self.result.window_s = window_s
        self.result.generator_busy_fraction = (time.process_time() - self._own_s) / window_s
        self.result.cpu_s = self._watched_cpu_s() - self._watched_s

    def finish(self) -> Result:
        """The result with its percentiles; latencies are of right answers and of first events only."""
        if self.latencies_s:
            self.result.p50_ms = percentile(self.latencies_s, 0.5) * 1e3
            self.result.p99_ms = percentile(self.latencies_s, 0.99) * 1e3
        if self.late_s:
            self.result.late_p99_ms = percentile(self.late_s, 0.99) * 1e3
        self.result.errors = dict(self.faults)
        return self.result

    def _watched_cpu_s(self) -> float:
        return accounting.cpu_s(self.plan.watch_pid) if self.plan.watch_pid else 0.0
