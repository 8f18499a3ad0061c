"""What one choice costs: microseconds at fleets of 4 to 16,384 backends, with and without keeping the evidence.

The fleet is the worst case: every backend is of one of four classes, up, serves the model and has work of ours and of
others, and an SLO, prices and cached prefixes are in force, so that nothing is skipped. Each figure is the median over
bursts. A burst is short (a few milliseconds), so that the scheduler seldom interrupts it; its time is divided by its
decisions. "explained" keeps what the decision was made from, as a running balancer does for `/admin/v1/decisions`;
"table" is the work that is left for whoever reads it.

    python -m bench.decision --write
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import click
import numpy as np

from bench.machine import describe
from gpubalancer.brain.choose import choose
from gpubalancer.brain.columns import Economy, columns_of, parts_of, rows_of
from gpubalancer.brain.explain import Evidence, explain
from gpubalancer.brain.fleet import Fleet
from gpubalancer.brain.live import Live
from gpubalancer.brain.method import BLOCK, FEW, Method, method_of
from gpubalancer.brain.priors import prior_of
from gpubalancer.brain.reckon import reckon_others
from gpubalancer.domain.work import Work
from gpubalancer.policy.routing import Routing

CHECKOUT = Path(__file__).parent.parent
RESULTS = CHECKOUT / "bench" / "results" / "decision.md"
TARGETS_US = {4: 60.0, 64: 80.0, 1_024: 150.0, 16_384: 500.0}
SMALL = (1, 2, 4, 8, 12, 16, 20, 24, 32)
CLASSES = ("h100", "a100", "l40s", "cpu")
ROUTING = {"slo": {"ttft": "2s", "tpot": "100ms"}}
BURST_S = 0.003


@dataclass(frozen=True)
class Scene:
    """One fleet in one state, and a request."""

    fleet: Fleet
    live: Live
    method: Method
    work: Work

    def columns(self) -> "Scene":
        """The same, weighed in columns whatever its size."""
        return replace(self, method=replace(self.method, rows=(), blocks=parts_of(self.method.economy, BLOCK)))

    def rows(self) -> "Scene":
        """The same, weighed one by one whatever its size."""
        return replace(self, method=replace(self.method, rows=rows_of(self.method.economy), blocks=()))


@dataclass(frozen=True)
class Timing:
    """Microseconds over the bursts."""

    median_us: float
    low_us: float
    p90_us: float


def make_fleet(count: int) -> Fleet:
    """Backends of four classes in turn, all serving one model."""
    return Fleet(
        names=tuple(f"{CLASSES[index % 4]}-{index}" for index in range(count)),
        rows=np.arange(count),
        slots=np.full(count, 64, np.int32),
        clearance=np.zeros(count, np.int32),
        served=({"m": "m"},) * count,
        apis=(frozenset({"chat"}),) * count,
        kinds=("gpu",) * count,
        engines=("vllm",) * count,
        hardware=tuple(CLASSES[index % 4] for index in range(count)),
        labels=(frozenset(),) * count,
        claims=((),) * count,
        upgrades=((),) * count,
        aliases={},
        contexts={},
    )


def make_scene(count: int, seed: int = 1) -> Scene:
    """A fleet of `count` backends under load."""
    chance = np.random.default_rng(seed)
    fleet = make_fleet(count)
    rows = [
        Economy(*prior.curves, prior.net_s, 0.0, 0.0, 0.0, price / 3600, prior.watts, 64.0, 1.0, 1.0)
        for prior, price in ((prior_of(name, None), chance.uniform(0.4, 4.0)) for name in fleet.hardware)
    ]
    in_flight = chance.integers(0, 20, count).astype(np.int32)
    ours = in_flight.astype(np.float64)
    others = reckon_others(
        ours + chance.integers(0, 3, count).astype(np.float64),
        np.zeros(count),
        ours,
        np.full(count, 0.5),
        5.0,
    )
    live = Live(
        up=np.ones(count, np.bool_),
        draining=np.zeros(count, np.bool_),
        in_flight=in_flight,
        prefill_tokens=chance.integers(0, 2000, count),
        context_tokens=in_flight.astype(np.int64) * 1000,
        others=others,
        cached_tokens=chance.integers(0, 500, count).astype(np.float64),
        speed_fraction=np.ones(count),
    )
    work = Work("chat", "m", 0, True, float("inf"), prompt_tokens=1000, output_tokens=200)
    return Scene(fleet, live, method_of(Routing.model_validate(ROUTING), columns_of(rows)), work)


def decide(scene: Scene, random: Random) -> None:
    """One choice."""
    choose(scene.fleet, scene.work, scene.live, None, random, scene.method)


def decide_explained(scene: Scene, random: Random, kept: list[Evidence]) -> None:
    """One choice whose evidence is kept."""
    choice = choose(scene.fleet, scene.work, scene.live, None, random, scene.method)
    kept[0] = Evidence(scene.fleet, scene.work, scene.live, None, scene.method, 0.0, choice)


def render(evidence: Evidence) -> None:
    """The table, made when somebody asks."""
    explain(evidence, "f00")


def timing(act: Callable[[], None], bursts: int) -> Timing:
    """Time an act over bursts of about `BURST_S`."""
    started = time.perf_counter()
    act()
    act()
    burst = max(1, round(BURST_S / max((time.perf_counter() - started) / 2, 1e-7)))
    found = []
    for _ in range(bursts):
        started = time.perf_counter()
        for _ in range(burst):
            act()
        found.append((time.perf_counter() - started) / burst * 1e6)
    return Timing(statistics.median(found), min(found), statistics.quantiles(found, n=10)[-1])


def cell(found: Timing) -> str:
    """Median, and in brackets least and 90th percentile."""
    return f"{found.median_us:.1f} [{found.low_us:.1f}-{found.p90_us:.1f}]"


def table_of_targets(bursts: int) -> list[str]:
    """The sizes that have a target, as lines of Markdown."""
    lines = ["| backends | choice | explained | table, when read | at most | |", "|---|---|---|---|---|---|"]
    for count, most_us in TARGETS_US.items():
        scene, random = make_scene(count), Random(1)
        choice = choose(scene.fleet, scene.work, scene.live, None, random, scene.method)
        evidence = Evidence(scene.fleet, scene.work, scene.live, None, scene.method, 0.0, choice)
        kept = [evidence]
        off = timing(lambda scene=scene, random=random: decide(scene, random), bursts)  # type: ignore[misc] # bound now
        on = timing(lambda s=scene, r=random, k=kept: decide_explained(s, r, k), bursts)  # type: ignore[misc] # bound now
        read = timing(lambda e=evidence: render(e), 5)  # type: ignore[misc] # bound now
        verdict = "met" if max(off.median_us, on.median_us) <= most_us else "**missed**"
        cells = (f"{count:,}", cell(off), cell(on), f"{read.median_us:,.0f}", f"{most_us:.0f}", verdict)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def table_of_forms(bursts: int) -> list[str]:
    """Rows against columns in small fleets, as lines of Markdown."""
    lines = ["| backends | one by one | in columns |", "|---|---|---|"]
    for count in SMALL:
        scene, random = make_scene(count), Random(1)
        rows, columns = scene.rows(), scene.columns()
        few = timing(lambda s=rows, r=random: decide(s, r), bursts)  # type: ignore[misc] # bound now
        many = timing(lambda s=columns, r=random: decide(s, r), bursts)  # type: ignore[misc] # bound now
        lines.append(f"| {count} | {cell(few)} | {cell(many)} |")
    return lines


def report(bursts: int) -> str:
    """The whole page."""
    machine = [f"| {name} | {value} |" for name, value in describe(CHECKOUT).items()]
    return "\n".join(
        [
            "# What one choice costs",
            "",
            "Made by `python -m bench.decision --write`. Microseconds: the median of short bursts, in brackets the",
            "least and the 90th percentile. Every backend is a candidate, with an SLO, prices, cached prefixes and",
            "others' load.",
            "",
            "| | |",
            "|---|---|",
            *machine,
            "",
            *table_of_targets(bursts),
            "",
            f"Fleets of up to {FEW} backends are weighed one by one in plain numbers, larger ones in columns. Both:",
            "",
            *table_of_forms(bursts),
            "",
        ]
    )


@click.command()
@click.option("--bursts", type=click.IntRange(2), default=300, show_default=True)
@click.option("--write", is_flag=True, help=f"Write {RESULTS.relative_to(CHECKOUT)}.")
def main(bursts: int, write: bool) -> None:
    """Measure, print, and write the page if asked to."""
    text = report(bursts)
    click.echo(text)
    if write:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
