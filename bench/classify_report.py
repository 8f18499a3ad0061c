"""The report of `bench.classify`: what was measured, beside what was to be reached."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from bench.figures import Spread
from bench.loop_hold import Held
from bench.report import cell, table

TOKENIZER = "cl100k_base"


@dataclass(frozen=True)
class Cost:
    """Microseconds per request of one API and size, over the rounds."""

    name: str
    size: str
    read: Spread
    """Parsing and reading the body, on the loop."""
    loop: Spread
    cpu: Spread
    tiktoken: Spread


@dataclass(frozen=True)
class Hold:
    """One worst text: how long the loop stood still, and the CPU of all."""

    tokenizer: str
    text: str
    step_ms: float
    """Longest time that the loop's thread computed without giving way, of its own CPU."""
    gap_ms: float
    """Longest that a heartbeat on the loop had to wait, by the clock."""
    cpu_ms: float
    tokens: int


WORST = """\
Each as one message, as its first 256 KB, and as messages of 4,000 letters. A step is what the loop's own thread
computes without giving way. The gap is the longest that a heartbeat on the same loop had to wait by the clock, of the
best of three runs: other programs on the machine and the interpreter's lock are in it too, as the row "nothing" shows.
"""

WORST_SHOWN = 12
HELD = """\
Through a real balancer with one worker, every detector on, a model that is renamed on the way and a backend that takes
everything: bodies of 32 MB, read in the worker's reader process; the largest of the same kinds that the worker still
reads itself; and heads and framings. *Computed* is the longest that the loop's thread computed between two beats of
half a millisecond, *late* the longest that a beat was late while this process computed, another thread included. The
least of two rounds, of 32 MB the only one; the worst of each kind. `python -m bench.loop_hold` prints all of them.
"""
TARGETS = (("1 KB", "cpu", 60.0), ("100 KB", "cpu", 3000.0), ("100 KB", "loop", 1000.0))
"""Size of a cold chat, what of it, and the most microseconds that it may take."""
LOOP_TARGET_MS = 5.0


def verdicts(costs: Sequence[Cost], holds: Sequence[Hold], held: Sequence[Held] = ()) -> list[list[str]]:
    """Rows of the table of targets."""
    rows = []
    for size, figure, limit_us in TARGETS:
        for cost in costs:
            if (cost.size, cost.name) == (size, "chat"):
                value: Spread = getattr(cost, figure)
                met = "met" if value.median <= limit_us else "**missed**"
                rows.append([f"{figure} of a cold chat of {size}, us", f"<= {limit_us:g}", cell(value), met])
    if holds:
        longest = max(hold.step_ms for hold in holds)
        met = "met" if longest <= LOOP_TARGET_MS else "**missed**"
        rows.append(["longest hold of the loop, worst texts, ms", f"<= {LOOP_TARGET_MS:g}", f"{longest:.2f}", met])
    if held:
        longest = max(max(each.cpu_ms, each.late_ms) for each in held)
        met = "met" if longest <= LOOP_TARGET_MS else "**missed**"
        rows.append(["longest hold of a worker's loop, any input, ms", f"<= {LOOP_TARGET_MS:g}", f"{longest:.2f}", met])
    return rows


def _held_table(held: Sequence[Held]) -> str:
    """The inputs that held the loop longest of each kind, and how many were sent."""
    rows = []
    for kind in dict.fromkeys(each.kind for each in held):
        of_kind = sorted((each for each in held if each.kind == kind), key=lambda each: -max(each.cpu_ms, each.late_ms))
        for each in of_kind[:WORST_SHOWN]:
            size = f"{each.size_bytes:,}"
            rows.append([kind, each.name, size, str(each.status or "-"), f"{each.cpu_ms:.2f}", f"{each.late_ms:.2f}"])
        rows.append([kind, f"all {len(of_kind)}, median", "", "", *_medians(of_kind)])
    return table(["", "input", "bytes", "answer", "computed, ms", "late, ms"], rows)


def _medians(held: Sequence[Held]) -> list[str]:
    return [f"{statistics.median(values):.2f}" for values in zip(*[(e.cpu_ms, e.late_ms) for e in held], strict=True)]


def request_us(overhead: bytes | None) -> float | None:
    """CPU of a whole unary request of 1 KB, out of the overhead benchmark's findings."""
    points = orjson.loads(overhead)["points"] if overhead else []
    values = [p["cpu_us"] for p in points if (p["contestant"], p["workload"]) == ("gpubalancer", "unary_1k")]
    return statistics.median(values) if values else None


def markdown(
    command: str,
    machine: dict[str, str],
    costs: Sequence[Cost],
    holds: Sequence[Hold],
    held: Sequence[Held],
    whole_us: float | None,
) -> str:
    """The report."""
    rows = [
        [cost.name, cost.size, cell(cost.read), cell(cost.loop), cell(cost.cpu), cell(cost.tiktoken)] for cost in costs
    ]
    share = ""
    small = [cost for cost in costs if (cost.size, cost.name) == ("1 KB", "chat")]
    if whole_us and small:
        share = (
            f"A cold chat of 1 KB takes {small[0].cpu.median / whole_us:.0%} of the {whole_us:.0f} us of CPU that a "
        )
        share += "whole request has in overhead.md.\n"
    worst = [
        [
            hold.tokenizer,
            hold.text,
            f"{hold.step_ms:.2f}",
            f"{hold.gap_ms:.1f}",
            f"{hold.cpu_ms:.1f}",
            f"{hold.tokens:,}",
        ]
        for hold in holds
    ]
    parts = [
        "# What it costs to know a request's tokens\n",
        f"Taken {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by one command:\n\n    {command}\n",
        table(["machine", ""], [[key, value] for key, value in machine.items()]),
        "## Targets\n",
        table(["what", "limit", "measured", ""], verdicts(costs, holds, held)),
        f"## By API and size, microseconds per request, {TOKENIZER}\n",
        table(["API", "text", "read the body", "on the loop", "all CPU", "tiktoken, the texts alone"], rows),
        "Loop and all CPU hold the reading and the counting; what is in all and not on the loop ran in a thread.\n",
        share,
        "## A megabyte of the worst texts\n",
        WORST,
        table(["tokenizer", "text", "longest step, ms", "gap, ms", "all CPU, ms", "tokens"], worst),
        "## The worst inputs of any kind\n" if held else "",
        HELD if held else "",
        _held_table(held) if held else "",
    ]  # fmt: skip
    return "\n".join(part for part in parts if part)
