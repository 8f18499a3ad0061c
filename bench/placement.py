"""How many requests keep their SLO behind each balancer: traces replayed against simulated fleets, over real sockets.

1. Two rates are found in the step-level simulation (`placement_steps`): `least`, the highest at which least in flight
   keeps the SLO for 95 % of all requests, and `fleet`, the highest at which the oracle does. A fleet as mixed as this
   one is far from full where least in flight fails, so loads are counted in both.
2. Of each router several settings are tried in a window of its own; the best takes part.
3. Every contestant is measured at every load in the same windows (`placement_cells`).
4. The step-level simulation adds the lines of an oracle and of chance, in other and more windows.

    python -m bench.placement --traces FOLDER
"""

import shlex
import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import click
import orjson

from bench import machine
from bench.openloop import Told
from bench.peers import OURS
from bench.placement_cells import Cell, Lanes, cores, row_of
from bench.placement_peers import LEAST, ROBIN, VARIANTS
from bench.placement_report import Findings, markdown
from bench.placement_steps import StepRun, highest_rate, lines
from bench.running import CHECKOUT, end_processes_on_sigterm, raise_file_limit

RESULTS = CHECKOUT / "bench" / "results" / "placement.md"
CONTESTANTS = (OURS, LEAST, ROBIN, *VARIANTS)
TUNING_SEED = 1000
TUNING_FRACTIONS = (1.0, 1.5)


@dataclass(frozen=True)
class Scenario:
    """A fleet, a trace, and the loads to measure, in shares of both rates; `in_steps`: not on sockets."""

    name: str
    fleet: str
    trace: str
    fractions: tuple[float, ...]
    in_steps: bool = False


SCENARIOS = (
    Scenario("mixed fleet, chats", "mixed", "azure2023_conv.csv", (0.8, 1.0, 1.5)),
    Scenario("four identical engines, chats", "identical", "azure2023_conv.csv", (0.8, 1.5)),
    Scenario("mixed fleet, code", "mixed", "azure2023_code.csv", (0.8, 1.0, 1.5), in_steps=True),
)


@dataclass(frozen=True)
class Load:
    """One rate of a scenario, by its name."""

    scenario: Scenario
    name: str
    rate_per_s: float

    def cell(self, contestant: str, variant: str, seed: int) -> Cell:
        """To be measured."""
        scenario = self.scenario
        return Cell(
            *(scenario.name, self.name, scenario.fleet, scenario.trace, contestant, variant, self.rate_per_s, seed)
        )


@dataclass(frozen=True)
class Bench:
    """One run of everything: lanes for sockets, a pool for the steps."""

    lanes: Lanes
    pool: Executor
    seeds: int

    def run(self, scenarios: Sequence[Scenario]) -> Findings:
        """Measure all. Raises StartError."""
        capacities = {scenario.name: self.capacities(scenario) for scenario in scenarios}
        _say(f"capacities: {capacities}")
        rates: dict[str, dict[str, float]] = {}
        loads = [load for scenario in scenarios for load in loads_of(scenario, capacities[scenario.name])]
        for load in loads:
            rates.setdefault(load.scenario.name, {})[load.name] = load.rate_per_s
        on_sockets = [scenario for scenario in scenarios if not scenario.in_steps]
        tried = self.lanes.play(tuning(on_sockets, capacities))
        best = best_variants(tried)
        cells = self.lanes.play(
            load.cell(contestant, best.get((load.scenario.name, contestant), ""), seed)
            for load in loads
            if not load.scenario.in_steps
            for contestant in CONTESTANTS
            for seed in range(self.seeds)
        )
        order = [load.name for load in loads]
        cells.sort(key=lambda cell: (order.index(cell.load), CONTESTANTS.index(cell.contestant), cell.seed))
        steps: dict[str, dict[str, dict[str, list[float]]]] = {}
        for load in loads:
            steps.setdefault(load.scenario.name, {})[load.name] = lines(self.step_run(load), self.pool)
            _say(f"steps: {load.scenario.name} {load.name}")
        return Findings(
            command=shlex.join(["python", "-m", "bench.placement", *sys.argv[1:]]),
            taken_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            machine=machine.describe(CHECKOUT),
            notes=[f"{self.seeds} seeds, windows of {self.lanes.seconds:g} s of which {self.lanes.warm_s:g} s warm up"],
            capacities=capacities,
            rates=rates,
            settings=settings_of(cells),
            tried=tried,
            cells=cells,
            steps=steps,
        )

    def capacities(self, scenario: Scenario) -> dict[str, float]:
        """The two rates that loads are named after."""
        run = self.step_run(Load(scenario, "", 0.0))
        oracle = replace(run, policy="oracle")
        return {"least": highest_rate(run, self.pool), "fleet": highest_rate(oracle, self.pool)}

    def step_run(self, load: Load) -> StepRun:
        """The same load in the step-level simulation."""
        trace = self.lanes.traces / load.scenario.trace
        timing = load.rate_per_s, self.lanes.seconds, self.lanes.warm_s
        return StepRun(trace, load.scenario.fleet, "least in flight", *timing)


def loads_of(scenario: Scenario, capacities: dict[str, float]) -> list[Load]:
    """All loads of a scenario, by rate."""
    loads = [
        Load(scenario, f"{fraction:.0%} of {name}", fraction * rate)
        for name, rate in capacities.items()
        for fraction in scenario.fractions
    ]
    return sorted(loads, key=lambda load: load.rate_per_s)


def tuning(scenarios: Sequence[Scenario], capacities: dict[str, dict[str, float]]) -> list[Cell]:
    """Every setting of every router, at and above what the fleet bears."""
    return [
        Load(scenario, f"{fraction:.0%}", fraction * capacities[scenario.name]["fleet"]).cell(
            name, variant, TUNING_SEED
        )
        for scenario in scenarios
        for fraction in TUNING_FRACTIONS
        for name, variants in VARIANTS.items()
        for variant in variants
    ]


def best_variants(tried: Sequence[Cell]) -> dict[tuple[str, str], str]:
    """The setting that was good most often, by scenario and router."""
    scores: dict[tuple[str, str], dict[str, list[float]]] = {}
    for cell in tried:
        told = cell.told or Told()
        scores.setdefault((cell.scenario, cell.contestant), {}).setdefault(cell.variant, []).append(told.goodput)
    return {
        key: max(by_variant, key=lambda variant: statistics.mean(by_variant[variant]))
        for key, by_variant in scores.items()
    }


def settings_of(cells: Sequence[Cell]) -> dict[str, str]:
    """How each contestant was set, in words; routers may differ from scenario to scenario."""
    rows = dict.fromkeys((cell.scenario, cell.contestant, cell.variant) for cell in cells)
    return {
        f"{contestant}, {scenario}" if variant else contestant: f"`{variant}`" if variant else _words(cells, contestant)
        for scenario, contestant, variant in rows
    }


def _words(cells: Sequence[Cell], contestant: str) -> str:
    return row_of(next(cell for cell in cells if cell.contestant == contestant), ()).settings


def read_findings(path: Path) -> Findings:
    """What an earlier run wrote."""
    found = orjson.loads(path.read_bytes())
    for name in ("tried", "cells"):
        found[name] = [
            Cell(**cell | {"told": None if cell["told"] is None else Told(**cell["told"])}) for cell in found[name]
        ]
    return Findings(**found)


def _say(text: object) -> None:
    click.echo(f"{datetime.now(UTC):%H:%M:%S} {text}", err=True)


def _tell(cell: Cell) -> None:
    _say(f"{cell} {cell.failure}" if cell.told is None else f"{cell} {cell.told.goodput:.3f} {cell.told.faults}")


@click.command()
@click.option("--traces", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seconds", type=click.FloatRange(2), default=30.0, show_default=True, help="Length of each window.")
@click.option("--warm", "warm_s", type=click.FloatRange(0), default=8.0, show_default=True, help="Of it, not judged.")
@click.option("--lanes", type=click.IntRange(1), default=5, show_default=True, help="Cells at the same time.")
@click.option("--only", default="", help="Part of a scenario's name.")
@click.option(
    "--peers", type=click.Path(path_type=Path), default=CHECKOUT / ".venvs", help="Where install_peers.sh put them."
)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--again", is_flag=True, help="Measure nothing: write the report from the JSON beside it.")
def main(
    traces: Path, seeds: int, seconds: float, warm_s: float, lanes: int, only: str, peers: Path, out: Path, again: bool
) -> None:
    """Measure, then write the report and, beside it, everything as JSON."""
    if again:
        out.write_text(markdown(read_findings(out.with_suffix(".json"))))
        return
    raise_file_limit()
    end_processes_on_sigterm()
    scenarios = [scenario for scenario in SCENARIOS if only in scenario.name]
    with tempfile.TemporaryDirectory(prefix="placement-") as folder, ProcessPoolExecutor(len(cores())) as pool:
        places = Lanes(traces.absolute(), peers, Path(folder), seconds, warm_s, lanes, _tell)
        found = Bench(places, pool, seeds).run(scenarios)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(markdown(found))
    out.with_suffix(".json").write_bytes(orjson.dumps(asdict(found), option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
