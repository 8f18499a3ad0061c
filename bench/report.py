"""The report: one run as Markdown for people and as JSON for programs. Text out of values; nothing is measured."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import orjson

from bench.figures import Spread, difference_by_round, ratio_by_round, spread
from bench.peers import OURS
from bench.targets import Verdict, judge, values_by_round
from bench.workloads import CONNECTIONS, INTERVAL_S, WORKLOADS, Point, Workload

DIRECT = "direct"  # the load generator straight at the backends: what latencies are added to
FLAGGED_FAULT_FRACTION = 0.001

HOW = f"""\
Each round visits every contestant once, in an order shuffled per round. A visit starts it afresh on one core of its
own, warms it up, and plays the workloads; the load generator and two stub backends share the other cores. All get the
same bytes, with a bearer key, over loopback. Cells are the median of the rounds and, in brackets, the least and the
greatest. "ours / it" is the ratio of each round, then the median.

* **CPU** is the operating system's accounting of the whole process tree (`/proc/PID/task/*/schedstat` and
  `/proc/PID/stat`), user and system, divided by right answers (status 200 and the right content) or by the events
  received in the same window.
* **Unary** load is open-loop (Poisson arrivals, {CONNECTIONS} keep-alive connections). Latency counts from the moment
  a request is taken off the plan, and what is shown is what the contestant adds to going straight to the backends in
  the same round.
* **Streams** are all open for the whole window, one event each {INTERVAL_S * 1e3:.0f} ms. TTFT is of the ramp before
  it, until the first event.
* **Memory** is PSS of the tree; per stream it is what came on top of idle, divided by the streams open.
* A contestant with more than {FLAGGED_FAULT_FRACTION:.1%} failed requests is **flagged**: its other figures mean
  little.
"""


@dataclass(frozen=True)
class Findings:
    """Everything that one run found."""

    command: str
    taken_at: str
    machine: dict[str, str]
    versions: dict[str, str]  # of those that took part, in the table's order
    settings: dict[str, str]
    absent: dict[str, str]  # name: why
    notes: list[str]
    points: list[Point]


def number(value: float) -> str:
    """Three significant figures, thousands with commas: 0.0123, 4.56, 78.9, 123, 16,400."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value else "0"


def cell(value: Spread | None) -> str:
    """A median with its range, or a dash."""
    if value is None:
        return "-"
    if value.rounds == 1:
        return number(value.median)
    return f"{number(value.median)} ({number(value.low)} to {number(value.high)})"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _faults(points: Sequence[Point]) -> str:
    """Failed requests over all rounds, by kind, and a flag where they are too many."""
    failed, done = sum(point.failed for point in points), sum(point.done for point in points)
    if not failed:
        return "0"
    kinds: dict[str, int] = {}
    for point in points:
        for kind, count in point.errors.items():
            kinds[kind] = kinds.get(kind, 0) + count
    text = f"{failed} of {failed + done} ({', '.join(f'{kind}: {count}' for kind, count in sorted(kinds.items()))})"
    return f"**flagged:** {text}" if failed > FLAGGED_FAULT_FRACTION * (failed + done) else text


def workload_table(findings: Findings, workload: Workload) -> str:
    """One workload's figures, a row for each contestant and one for the backends alone."""
    unit, latency = ("event", "TTFT") if workload.streams else ("request", "latency")
    load = "streams" if workload.streams else "requests/s"
    heads = ["", load, f"CPU us per {unit}", "ours / it", f"{latency} added p50 ms", "p99 ms", "core busy"]
    heads += ["KB per stream"] if workload.streams else []
    rows = []
    for name in [*findings.versions, DIRECT]:
        points = [p for p in findings.points if p.contestant == name and p.workload == workload.name]
        if points:
            rows.append(_row(findings.points, name, workload, points))
    return table([*heads, "failed"], rows)


def _row(everything: Sequence[Point], name: str, workload: Workload, points: Sequence[Point]) -> list[str]:
    def values(contestant: str, figure: str) -> dict[int, float]:
        return values_by_round(everything, contestant, workload.name, figure)

    cost = values(name, "cpu_us")
    load = points[0].streams if workload.streams else points[0].rate_per_s
    if name == DIRECT:
        figures = [
            "-",
            "-",
            *(f"(is {cell(spread(list(values(DIRECT, q).values())))})" for q in ("p50_ms", "p99_ms")),
            "-",
        ]
    else:
        busy = spread([point.busy_fraction for point in points])
        figures = [
            cell(spread(list(cost.values()))),
            "1" if name == OURS else cell(ratio_by_round(values(OURS, "cpu_us"), cost)),
            *(cell(difference_by_round(values(name, q), values(DIRECT, q))) for q in ("p50_ms", "p99_ms")),
            f"{busy.median:.0%}" if busy else "-",
        ]
    if workload.streams:
        figures.append(cell(spread(list(values(name, "stream_kb").values()))))
    return [name, number(load), *figures, _faults(points)]


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """The targets: what, beside whom, the limit, what was measured, met or missed."""
    words = {True: "met", False: "**missed**", None: "not measured"}
    rows = []
    for verdict in verdicts:
        target = verdict.target
        limit = f"{'<' if target.below else '<='} {target.limit:g}" + (f" x {target.peer}" if target.peer else "")
        rows.append([target.what, limit, cell(verdict.measured), words[verdict.met]])
    return table(["target", "limit", "measured", ""], rows)


def markdown(findings: Findings) -> str:
    """The whole report."""
    visits = [point for point in findings.points if point.workload == WORKLOADS[0].name]
    contestants = []
    for name, version in findings.versions.items():
        memory_mb = spread([point.idle_bytes / 2**20 for point in visits if point.contestant == name])
        cpu_percent = spread([point.idle_cpu_fraction * 100 for point in visits if point.contestant == name])
        contestants.append([name, version, findings.settings[name], cell(memory_mb), cell(cpu_percent)])
    late = [point.late_p99_ms for point in findings.points if point.late_p99_ms is not None]
    busy = [point.generator_busy_fraction for point in findings.points]
    trust = f"The load generator used at most {max(busy, default=0):.0%} of a core; the p99 of its lateness on its "
    trust += f"own plan, in ms: {cell(spread(late))}.\n"
    parts = [
        "# Overhead beside the peers\n",
        f"Taken {findings.taken_at} by one command:\n\n    {findings.command}\n",
        table(["machine", ""], [[key, value] for key, value in findings.machine.items()]),
        "## Targets\n",
        verdict_table(judge(findings.points)),
        "## Contestants\n",
        table(["", "version", "settings", "idle memory, MB", "idle CPU, % of a core"], contestants),
        "".join(f"* left out: **{name}**: {why}\n" for name, why in findings.absent.items()),
        "".join(f"* {note}\n" for note in findings.notes),
        *(f"## {workload.title}\n\n{workload_table(findings, workload)}" for workload in WORKLOADS),
        "## How it is measured\n",
        HOW,
        trust,
    ]
    return "\n".join(part for part in parts if part)


def as_json(findings: Findings) -> bytes:
    """The same for programs: the findings, and the verdicts with their spreads."""
    verdicts = [asdict(verdict) for verdict in judge(findings.points)]
    return orjson.dumps(asdict(findings) | {"verdicts": verdicts}, option=orjson.OPT_INDENT_2)
