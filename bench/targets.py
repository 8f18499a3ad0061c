"""What the balancer must cost at most, beside which peer; the table that the report's verdicts are read from."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.figures import Spread, ratio_by_round, spread
from bench.peers import OURS
from bench.workloads import Point


@dataclass(frozen=True)
class Target:
    """One limit: on a ratio ours / peer of CPU, or, without a peer, on our kilobytes per open stream."""

    what: str
    workload: str
    limit: float
    peer: str = ""
    below: bool = False  # strictly below the limit, not at most


@dataclass(frozen=True)
class Verdict:
    """A target with what was measured; `met` is None where ours or the peer was not."""

    target: Target
    measured: Spread | None
    met: bool | None


UNARY = "CPU per unary request"
EVENT = "CPU per streamed chunk"

TARGETS = (
    *(
        Target(f"{UNARY}, {size}", workload, limit, peer)
        for size, workload in (("1 KB", "unary_1k"), ("16 KB", "unary_16k"))
        for peer, limit in (("envoy", 0.6), ("vllm-router", 0.6), ("litellm", 0.02))
    ),
    *(
        Target(f"{EVENT}, {streams} streams", workload, limit, peer, below)
        for streams, workload in (("200", "stream_200"), ("1,000", "stream_1000"))
        for peer, limit, below in (
            ("nginx", 1.3, False),
            ("envoy", 1.0, True),
            ("vllm-router", 1.0, True),
            ("sglang-router", 1.0, True),
        )
    ),
    Target("memory per open stream, KB", "stream_1000", 40.0),
)


def values_by_round(points: Sequence[Point], contestant: str, workload: str, figure: str) -> dict[int, float]:
    """One figure (a field of Point) of one contestant, by round; rounds without it are left out."""
    found = {
        point.round: getattr(point, figure)
        for point in points
        if point.contestant == contestant and point.workload == workload
    }
    return {number: value for number, value in found.items() if value is not None}


def judge(points: Sequence[Point]) -> list[Verdict]:
    """Every target with its verdict; the median of the rounds decides."""
    verdicts = []
    for target in TARGETS:
        if target.peer:
            ours = values_by_round(points, OURS, target.workload, "cpu_us")
            measured = ratio_by_round(ours, values_by_round(points, target.peer, target.workload, "cpu_us"))
        else:
            measured = spread(list(values_by_round(points, OURS, target.workload, "stream_kb").values()))
        met = None
        if measured is not None:
            met = measured.median < target.limit if target.below else measured.median <= target.limit
        verdicts.append(Verdict(target, measured, met))
    return verdicts
