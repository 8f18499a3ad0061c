"""The report as people read it and as programs do."""

from dataclasses import replace

import orjson
import pytest

from bench.figures import Spread
from bench.peers import OURS
from bench.report import DIRECT, Findings, as_json, cell, markdown, number, table
from bench.workloads import WORKLOADS, Point

COSTS_US = {OURS: 60.0, "envoy": 120.0, DIRECT: None}


def made(contestant: str, workload: str, round_number: int) -> Point:
    """One point of a run in which the machine is twice as slow in every second round."""
    slow = 1 + round_number % 2
    cost_us = COSTS_US[contestant]
    latency_ms = (0.2 if contestant == DIRECT else 0.5) * slow
    return Point(
        contestant=contestant,
        workload=workload,
        round=round_number,
        cpu_us=cost_us * slow if cost_us else None,
        busy_fraction=0.25,
        p50_ms=latency_ms,
        p99_ms=latency_ms * 2,
        done=1000,
        failed=0,
        errors={},
        idle_bytes=0 if contestant == DIRECT else 32 * 2**20,
        idle_cpu_fraction=0.005,
        stream_kb=20.0 if cost_us and workload.startswith("stream") else None,
        streams=200 if workload.startswith("stream") else 0,
        rate_per_s=0 if workload.startswith("stream") else 1500,
        late_p99_ms=1.5,
        generator_busy_fraction=0.125,
    )


FINDINGS = Findings(
    command="python -m bench.overhead",
    taken_at="2026-01-01 00:00 UTC",
    machine={"processor": "a processor"},
    versions={OURS: "0.1", "envoy": "1.40"},
    settings={OURS: "all on", "envoy": "bare"},
    absent={"nginx": "not installed"},
    notes=["a note"],
    points=[made(name, workload.name, n) for name in COSTS_US for workload in WORKLOADS for n in range(3)],
)


def row(text: str, heading: str, first: str) -> list[str]:
    """The cells of a table's row under a heading."""
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    (line,) = (line for line in section.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (4.567, "4.57"), (78.94, "78.9"), (123.4, "123"), (16400.4, "16,400")],
)
def test_numbers_have_three_figures(value: float, text: str) -> None:
    """No more digits than the measurement holds."""
    assert number(value) == text


def test_cells_show_the_range_of_several_rounds() -> None:
    """One round has no range, none is a dash."""
    assert cell(Spread(2, 1, 3, 5)) == "2 (1 to 3)"
    assert cell(Spread(2, 2, 2, 1)) == "2"
    assert cell(None) == "-"


def test_table_is_markdown() -> None:
    """Heads, a rule, rows."""
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_report_shows_cost_ratio_and_added_latency() -> None:
    """Ours has the ratio 1, Envoy ours / it, the latency is over direct, and direct's own is said."""
    text = markdown(FINDINGS)
    assert row(text, "Unary, 1 KB prompt", "envoy") == [
        *("envoy", "1,500", "120 (120 to 240)", "0.5 (0.5 to 0.5)"),
        *("0.3 (0.3 to 0.6)", "0.6 (0.6 to 1.2)", "25%", "0"),
    ]
    assert row(text, "Unary, 1 KB prompt", OURS)[2:4] == ["60 (60 to 120)", "1"]
    assert row(text, "Unary, 1 KB prompt", DIRECT)[4] == "(is 0.2 (0.2 to 0.4))"
    assert row(text, "200 concurrent streams", OURS)[7] == "20 (20 to 20)"


def test_report_says_what_was_left_out_and_how_it_was_taken() -> None:
    """Machine, command, versions, idle use, absent peers, notes and the generator's own state are there."""
    text = markdown(FINDINGS)
    for expected in (
        *("a processor", "    python -m bench.overhead\n", "**nginx**: not installed", "* a note"),
        *("at most 12% of a core", "in ms: 1.5 (1.5 to 1.5)"),
    ):
        assert expected in text
    assert row(text, "Contestants", "envoy") == ["envoy", "1.40", "bare", "32 (32 to 32)", "0.5 (0.5 to 0.5)"]


def test_targets_stand_with_their_verdicts() -> None:
    """Met, missed and not measured are told apart."""
    costly = [replace(point, cpu_us=119.0) if point.contestant == OURS else point for point in FINDINGS.points]
    name = "CPU per unary request, 1 KB"
    lines = [line for line in markdown(replace(FINDINGS, points=costly)).splitlines() if name in line]
    assert [line.split("|")[-2].strip() for line in lines] == ["**missed**", "not measured", "not measured"]
    lines = [line for line in markdown(FINDINGS).splitlines() if name in line]
    assert lines[0] == f"| {name} | <= 0.6 x envoy | 0.5 (0.5 to 0.5) | met |"


@pytest.mark.parametrize(
    ("failed", "shown"), [(1, "1 of 3001 (status 500: 1)"), (30, "**flagged:** 30 of 3030 (status 500: 30)")]
)
def test_failures_are_shown_and_flagged_when_many(failed: int, shown: str) -> None:
    """A few are counted; above a tenth of a percent the contestant is flagged."""
    points = [
        replace(point, failed=failed, errors={"status 500": failed})
        if (point.contestant, point.workload, point.round) == ("envoy", "unary_1k", 0)
        else point
        for point in FINDINGS.points
    ]
    assert row(markdown(replace(FINDINGS, points=points)), "Unary, 1 KB prompt", "envoy")[-1] == shown


def test_report_of_nothing_is_still_a_report() -> None:
    """If nobody could be started, it says so."""
    text = markdown(replace(FINDINGS, versions={}, points=[]))
    assert "not measured" in text
    assert "left out: **nginx**" in text


def test_json_holds_every_point_and_verdict() -> None:
    """A program finds the same figures."""
    found = orjson.loads(as_json(FINDINGS))
    assert len(found["points"]) == len(FINDINGS.points)
    (verdict,) = (
        v for v in found["verdicts"] if (v["target"]["workload"], v["target"]["peer"]) == ("unary_1k", "envoy")
    )
    assert (verdict["measured"]["median"], verdict["met"]) == (0.5, True)
