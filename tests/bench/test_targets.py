"""Verdicts: the median of the rounds' ratios against each limit."""

from bench.peers import CONTESTANTS, OURS
from bench.targets import TARGETS, judge, values_by_round
from bench.workloads import WORKLOADS, Point


def made(contestant: str, workload: str, number: int, cpu_us: float | None, stream_kb: float | None = None) -> Point:
    """A point with these figures and nothing else of interest."""
    return Point(contestant, workload, number, cpu_us, 0.3, 1.0, 2.0, 10, 0, {}, 1, 0.0, stream_kb, 0, 1500, 1.0, 0.1)


def verdicts(points: list[Point]) -> dict[tuple[str, str], bool | None]:
    """What was judged, by workload and peer."""
    return {(verdict.target.workload, verdict.target.peer): verdict.met for verdict in judge(points)}


def test_targets_name_rows_and_workloads_that_exist() -> None:
    """A limit on something that is not measured would never be missed."""
    assert {target.peer for target in TARGETS} <= {row.name for row in CONTESTANTS} | {""}
    assert {target.workload for target in TARGETS} == {workload.name for workload in WORKLOADS}


def test_values_leave_out_rounds_without_one() -> None:
    """Only that contestant, that workload, and figures that are there."""
    points = [made("a", "unary_1k", 0, 5.0), made("a", "unary_1k", 1, None), made("a", "unary_16k", 0, 7.0)]
    points.append(made("b", "unary_1k", 2, 9.0))
    assert values_by_round(points, "a", "unary_1k", "cpu_us") == {0: 5.0}


def test_nothing_measured_is_neither_met_nor_missed() -> None:
    """Without ours, or without the peer, there is no verdict."""
    assert set(verdicts([]).values()) == {None}
    assert set(verdicts([made("envoy", "unary_1k", 0, 9.0)]).values()) == {None}
    assert verdicts([made(OURS, "unary_1k", 0, 9.0)])["unary_1k", "envoy"] is None


def test_at_most_is_met_at_the_limit_and_missed_above() -> None:
    """60 of 100 is met at 0.6; 61 is not."""
    for cost_us, met in ((60.0, True), (61.0, False)):
        points = [made(OURS, "unary_1k", 0, cost_us), made("envoy", "unary_1k", 0, 100.0)]
        assert verdicts(points)["unary_1k", "envoy"] is met


def test_below_is_missed_at_the_limit() -> None:
    """As costly as Envoy is not below Envoy."""
    for cost_us, met in ((99.0, True), (100.0, False)):
        points = [made(OURS, "stream_200", 0, cost_us), made("envoy", "stream_200", 0, 100.0)]
        assert verdicts(points)["stream_200", "envoy"] is met


def test_median_of_the_rounds_decides() -> None:
    """One bad round of three does not miss a target, two do."""
    for costs_us, met in (((50, 50, 90), True), ((50, 90, 90), False)):
        points = [made(OURS, "unary_1k", number, cost_us) for number, cost_us in enumerate(costs_us)]
        points += [made("envoy", "unary_1k", number, 100.0) for number in range(3)]
        assert verdicts(points)["unary_1k", "envoy"] is met


def test_memory_is_held_against_kilobytes() -> None:
    """40 KB for each open stream, of ours alone."""
    for stream_kb, met in ((40.0, True), (40.1, False)):
        assert verdicts([made(OURS, "stream_1000", 0, 30.0, stream_kb)])["stream_1000", ""] is met
