"""Plans within a contestant's limits, and what a result means per unit."""

from dataclasses import replace

import pytest

from bench.peers import CONTESTANTS
from bench.plan import Plan, Result
from bench.workloads import CONNECTIONS, WORKLOADS, Idle, point

BY_NAME = {workload.name: workload for workload in WORKLOADS}
ROWS = {row.name: row for row in CONTESTANTS}
PLAN = Plan("unary", (1,), "k", 1024, 4.0, CONNECTIONS, rate_per_s=1500, watch_pid=7)


def plan(workload: str, contestant: str | None) -> Plan:
    """The plan for a contestant at 1,500 requests a second."""
    row = ROWS[contestant] if contestant else None
    return BY_NAME[workload].plan(row, (1,), "k", 4.0, 1500, 0, 7)


def test_everybody_gets_the_same_load() -> None:
    """Ours, a peer and the backends themselves are asked for the same."""
    for workload in BY_NAME:
        assert plan(workload, "gpubalancer") == plan(workload, "envoy") == plan(workload, None)
    assert (plan("unary_1k", "nginx").rate_per_s, plan("unary_1k", "nginx").connections) == (1500, CONNECTIONS)
    assert (plan("stream_1000", "nginx").kind, plan("stream_1000", "nginx").connections) == ("stream", 1000)


def test_slow_contestant_gets_its_own_limits() -> None:
    """Only the row that says so is asked for less."""
    slow = ROWS["litellm"]
    assert plan("unary_16k", "litellm").rate_per_s == slow.max_rate_per_s
    assert plan("stream_200", "litellm").connections == slow.max_streams
    assert [row.name for row in CONTESTANTS if row.max_streams or row.max_rate_per_s] == ["litellm"]


def test_cost_is_per_right_answer() -> None:
    """Two seconds of CPU for a thousand right answers are 2,000 us each, whatever failed."""
    result = Result(done=1000, errors={"status 500": 5}, units=1000, cpu_s=2.0, window_s=4.0, p50_ms=1.0)
    found = point("x", BY_NAME["unary_1k"], 3, PLAN, result, Idle())
    assert (found.cpu_us, found.busy_fraction, found.failed, found.round) == (2000.0, 0.5, 5, 3)
    assert found.stream_kb is None


def test_memory_is_over_idle_for_each_open_stream() -> None:
    """What a thousand streams added, in kilobytes each."""
    result = Result(done=1000, units=10, cpu_s=1.0, window_s=4.0, open_streams=1000, memory_bytes=50 * 2**20)
    found = point("x", BY_NAME["stream_1000"], 0, PLAN, result, Idle(10 * 2**20, 0.02))
    assert found.stream_kb == pytest.approx(40.96)
    assert (found.idle_bytes, found.idle_cpu_fraction) == (10 * 2**20, 0.02)


@pytest.mark.parametrize(
    ("plan", "result"),
    [
        (PLAN, Result(cpu_s=1.0, window_s=1.0)),
        (PLAN, Result(done=5, units=5, cpu_s=-1.0, window_s=1.0)),
        (replace(PLAN, watch_pid=0), Result(done=5, units=5, cpu_s=0.0, window_s=1.0)),
    ],
    ids=["nothing right", "it died inside the window", "the backends themselves"],
)
def test_no_cost_where_there_is_none(plan: Plan, result: Result) -> None:
    """None, and never zero, which would be the best of all."""
    assert point("x", BY_NAME["unary_1k"], 0, plan, result, Idle()).cpu_us is None
