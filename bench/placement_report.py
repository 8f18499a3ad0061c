"""The report of bench/placement.py: Markdown out of cells. Nothing is measured here."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.peers import OURS
from bench.placement_cells import TPOT_S, TTFT_S, Cell

T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26, 11: 2.23, 12: 2.20}
"""Student's t for a two-sided interval of 95 %, by the number of values."""

HOW = f"""\
Each request is a streamed chat whose lengths are the trace's; the engines are told the length of the answer in a field
that no balancer reads. A request is *good* if its first text came within {TTFT_S:g} s of when it was due and its
further tokens within {TPOT_S * 1000:g} ms each on average; refused ones are not good. *Goodput* is the share of good
ones among all. Cells are the mean over seeds (windows of the trace) and half the 95 % interval of that mean.

* Loads are named by the rate at which they would be 100 %. `least`: the highest rate at which least in flight, by share
  of slots, is good for 95 % of all requests. `fleet`: the highest at which the oracle is. Both are found in the
  step-level simulation (`bench/steps.py`), in windows that are not played here; the first is confirmed by its own row.
* Engines are `gpubalancer engine` processes with the classes' own times, in real time. One event of a stream carries 16
  tokens (but the first one, which leaves at once), as vLLM's `--stream-interval` does, so that this machine can play
  the whole fleet. The cloud serves the account 16 requests at once.
* The contestant is started anew for each cell and has learned nothing; the first seconds of a window are not judged.
* Several cells run at the same time on the same cores. What that costs in milliseconds is small beside the SLO.
* Of each router the setting was taken that was good most often at 100 % and 150 % of `fleet`, in a window of its own.
"""


class Target(NamedTuple):
    """What is wanted: so many times the best other's goodput, and at least so large a share of all requests."""

    ratio: float
    share: float = 0.0


TARGETS = {
    ("mixed fleet, chats", "80%"): Target(1.0, 0.98),
    ("mixed fleet, chats", "100%"): Target(1.15),
    ("mixed fleet, chats", "150%"): Target(2.0),
    ("four identical engines, chats", "80%"): Target(0.98),
    ("four identical engines, chats", "150%"): Target(1.5),
}
"""By scenario and share of the rate."""


@dataclass(frozen=True)
class Findings:
    """Everything that one run found.

    Attributes:
        command, taken_at, machine: of the run.
        notes: what a reader must know beside the tables.
        capacities: requests per second by scenario and name.
        rates: of each load, by scenario.
        settings: in words, by contestant; of routers by fleet.
        tried: cells of the search for routers' settings.
        cells: all others.
        steps: goodputs of the step-level simulation, by scenario, load and policy.
    """

    command: str
    taken_at: str
    machine: Mapping[str, str]
    notes: Sequence[str]
    capacities: Mapping[str, Mapping[str, float]]
    rates: Mapping[str, Mapping[str, float]]
    settings: Mapping[str, str]
    tried: Sequence[Cell]
    cells: Sequence[Cell]
    steps: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]


@dataclass(frozen=True)
class Interval:
    """A mean and half its 95 % interval."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half:.3f}"


def interval(values: Sequence[float]) -> Interval:
    """Of at least two values; of one there is no interval."""
    if len(values) < 2:
        return Interval(statistics.mean(values), 0.0)
    t = T_95.get(len(values), 2.0)
    return Interval(statistics.mean(values), t * statistics.stdev(values) / len(values) ** 0.5)


def markdown(found: Findings) -> str:
    """The whole page."""
    machine = [f"| {name} | {value} |" for name, value in found.machine.items()]
    lines = [
        "# How many requests keep their SLO",
        "",
        f"Taken {found.taken_at} by one command:",
        "",
        f"    {found.command}",
        "",
        "| machine | |",
        "|---|---|",
        *machine,
        "",
        HOW,
        *(f"* {note}" for note in found.notes),
    ]
    for scenario, capacities in found.capacities.items():
        rates = ", ".join(f"`{name}` is {rate:g} requests per second" for name, rate in capacities.items())
        lines += ["", f"## {scenario}", "", f"{rates}.", "", *_table(found, scenario)]
    lines += ["", "## Settings", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in found.settings.items()]
    lines += ["", "Tried of the routers, goodput at 100 % and 150 % of `fleet`:", "", *_tried(found.tried)]
    return "\n".join(lines) + "\n"


def _table(found: Findings, scenario: str) -> list[str]:
    rates = found.rates[scenario]
    loads = " | ".join(f"{load}: {rate:.1f}/s" for load, rate in rates.items())
    dashes = f"|---|{'---|' * len(rates)}"
    lines = []
    if cells := [cell for cell in found.cells if cell.scenario == scenario]:
        names = list(dict.fromkeys(cell.contestant for cell in cells))
        lines += [f"| on sockets | {loads} |", dashes]
        for name in names:
            row = [_mean(goodputs(cells, load, name)) for load in rates]
            lines.append(f"| {name} | {' | '.join(row)} |")
        verdicts = [_verdict(cells, load, names, TARGETS.get((scenario, load.split()[0]))) for load in rates]
        lines += [
            f"| **ours / best other** | {' | '.join(_against_best(cells, load, names) for load in rates)} |",
            f"| wanted | {' | '.join(verdicts)} |",
            "",
        ]
    if steps := found.steps.get(scenario):
        lines += [f"| step by step | {loads} |", dashes]
        for policy in next(iter(steps.values())):
            row = [str(interval(steps[load][policy])) if load in steps else "-" for load in rates]
            lines.append(f"| {policy} | {' | '.join(row)} |")
    return lines


def _mean(by_seed: Mapping[int, float]) -> str:
    return str(interval(list(by_seed.values()))) if by_seed else "-"


def goodputs(cells: Sequence[Cell], load: str, contestant: str) -> dict[int, float]:
    """By seed."""
    return {
        cell.seed: cell.told.goodput
        for cell in cells
        if cell.load == load and cell.contestant == contestant and cell.told is not None
    }


def _best_other(cells: Sequence[Cell], load: str, names: Sequence[str]) -> tuple[str, dict[int, float]] | None:
    """Who of the others has the highest mean, and its goodputs; None where one of them, or ours, has none."""
    found = {name: goodputs(cells, load, name) for name in names}
    if not all(found.values()):
        return None
    best = max((name for name in names if name != OURS), key=lambda name: statistics.mean(found[name].values()))
    return best, found[best]


def _against_best(cells: Sequence[Cell], load: str, names: Sequence[str]) -> str:
    """Ours over the best other's, as the ratio of means, with the least and the greatest ratio of a seed."""
    best = _best_other(cells, load, names)
    if best is None:
        return "-"
    ours, (name, theirs) = goodputs(cells, load, OURS), best
    ratios = [ours[seed] / theirs[seed] for seed in ours if theirs.get(seed)]
    ratio = statistics.mean(ours.values()) / max(statistics.mean(theirs.values()), 1e-9)
    spread = f" [{min(ratios):.2f} to {max(ratios):.2f}]" if ratios else ""
    return f"**{ratio:.2f}**{spread} ({name})"


def _verdict(cells: Sequence[Cell], load: str, names: Sequence[str], target: Target | None) -> str:
    """Whether the target is met; where nobody could meet it, what would be possible."""
    best = _best_other(cells, load, names)
    if best is None or target is None:
        return "-"
    ours, theirs = (statistics.mean(each.values()) for each in (goodputs(cells, load, OURS), best[1]))
    wanted = f"at least {target.ratio:g} x" + (f" and {target.share:g}" if target.share else "")
    if ours >= target.ratio * theirs and ours >= target.share:
        return f"{wanted}: met"
    possible = f", {1 / theirs:.2f} x is possible" if target.ratio * theirs > 1 else ""
    return f"{wanted}: **missed**{possible}"


def _tried(cells: Sequence[Cell]) -> list[str]:
    lines = ["| fleet | router | settings | 100 % | 150 % |", "|---|---|---|---|---|"]
    rows = sorted({(cell.scenario, cell.contestant, cell.variant) for cell in cells})
    for scenario, name, variant in rows:
        of_row = [cell for cell in cells if (cell.scenario, cell.contestant, cell.variant) == (scenario, name, variant)]
        by_load = {cell.load: f"{cell.told.goodput:.3f}" for cell in of_row if cell.told is not None}
        values = [by_load.get(load, "-") for load in sorted({cell.load for cell in cells})]
        lines.append(f"| {scenario} | {name} | `{variant}` | {' | '.join(values)} |")
    return lines
