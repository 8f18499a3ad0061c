"""The placement benchmark: its loads, its choice among routers' settings, and one real cell."""

from dataclasses import replace
from pathlib import Path

from bench.fleets import FLEETS
from bench.openloop import Told
from bench.peers import OURS
from bench.placement import SCENARIOS, Load, best_variants, loads_of, settings_of, tuning
from bench.placement_cells import Cell, Lanes
from bench.placement_peers import LEAST, VARIANTS, fleet_values, peer

MIXED = SCENARIOS[0]


def told(good: int) -> Told:
    """Of ten."""
    return Told(judged=10, good=good)


def test_loads_are_shares_of_both_rates() -> None:
    """80, 100 and 150 % of each, by rate."""
    loads = loads_of(MIXED, {"least": 10.0, "fleet": 20.0})
    assert {load.name: round(load.rate_per_s, 6) for load in loads} == {
        "80% of least": 8.0,
        "100% of least": 10.0,
        "150% of least": 15.0,
        "80% of fleet": 16.0,
        "100% of fleet": 20.0,
        "150% of fleet": 30.0,
    }
    assert loads == sorted(loads, key=lambda load: load.rate_per_s)


def test_the_best_setting_of_each_router_takes_part() -> None:
    """By the mean over its loads, for each scenario apart."""
    cells = tuning([MIXED], {MIXED.name: {"least": 1.0, "fleet": 2.0}})
    assert {cell.variant for cell in cells} == {each for variants in VARIANTS.values() for each in variants}
    good = VARIANTS["smg"][1], VARIANTS["vllm-router"][0]
    tried = [replace(cell, told=told(9 if cell.variant in good else 3)) for cell in cells]
    assert best_variants(tried) == {
        (MIXED.name, "vllm-router"): VARIANTS["vllm-router"][0],
        (MIXED.name, "smg"): VARIANTS["smg"][1],
    }


def test_settings_are_said() -> None:
    """In words for us and nginx, as the command line for routers."""
    load = Load(MIXED, "any", 1.0)
    said = settings_of([load.cell(OURS, "", 0), load.cell(LEAST, "", 0), load.cell("smg", "--policy x", 0)])
    assert "slo" in said[OURS]
    assert "least_conn" in said[LEAST]
    assert said[f"smg, {MIXED.name}"] == "`--policy x`"


def test_routers_get_all_engines() -> None:
    """Every engine's address stands in the command line of a router and in nginx's file, there with its weight."""
    command = peer("smg", "--policy least_load", (9001, 9002)).arguments
    assert command[0] == "launch"
    assert {"http://127.0.0.1:9001", "http://127.0.0.1:9002", "least_load"} <= set(command)
    values = fleet_values(FLEETS["mixed"], range(1, 12), 2.0, 0.1)
    assert "server 127.0.0.1:9 weight=4;" in values["servers"]


def test_one_cell_on_sockets(tmp_path: Path) -> None:
    """Four engines, the balancer, the load: with next to no load everything that is judged is good."""
    trace = tmp_path / "trace.csv"
    rows = "".join(f"2023-11-16 18:15:{second:02d}.0000000,200,20\n" for second in range(30))
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    heard: list[Cell] = []
    lanes = Lanes(tmp_path, tmp_path, tmp_path, seconds=1.5, warm_s=0.5, lanes=1, on_cell=heard.append)
    cell = Cell("s", "l", "identical", "trace.csv", OURS, "", 6.0, 1)
    (found,) = lanes.play([cell])
    assert heard == [found]
    assert found.told is not None
    assert (found.told.judged, found.told.good, found.told.faults) == (6, 6, {})
    assert 0 < found.told.ttft_s[0] < 1
