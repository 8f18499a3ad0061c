"""The benchmark of the choice: that it measures the choice, and says what it found."""

from random import Random

import pytest
from click.testing import CliRunner

from bench import decision
from gpubalancer.brain.choose import choose


@pytest.mark.parametrize("count", [1, 4, 40])
def test_the_scene_is_one_in_which_somebody_is_chosen(count: int) -> None:
    """In fleets of every size the choice finds a backend, in rows as in columns."""
    scene = decision.make_scene(count)
    for each in (scene, scene.rows(), scene.columns()):
        assert choose(each.fleet, each.work, each.live, None, Random(1), each.method).index is not None


def test_a_timing_is_of_the_act() -> None:
    """The act is run in every burst, and the figures are in order."""
    calls = []
    found = decision.timing(lambda: calls.append(1), 5)
    assert len(calls) > 7
    assert 0 < found.low_us <= found.median_us <= found.p90_us


def test_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each size, with its target and whether it was met."""
    monkeypatch.setattr(decision, "TARGETS_US", {2: 1e9, 3: 1e-9})
    monkeypatch.setattr(decision, "SMALL", (1, 2))
    monkeypatch.setattr(decision, "BURST_S", 1e-4)
    ended = CliRunner().invoke(decision.main, ["--bursts", "2"])
    assert ended.exit_code == 0
    assert "| met |" in ended.output
    assert "| **missed** |" in ended.output
    assert "one by one" in ended.output
