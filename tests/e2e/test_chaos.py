"""Some seconds of chaos; `make chaos` has ten minutes of it."""

from pathlib import Path

from tests.e2e.chaos import Chaos

SECONDS = 8.0


def test_chaos_breaks_no_promise(tmp_path: Path) -> None:
    """Backends die, slow down, fill up and are relabelled: no clearance, no splice, no outcome goes wrong."""
    chaos = Chaos(tmp_path, SECONDS, seed=3).run()
    assert chaos.seen.wrong == []
    assert chaos.seen.of("whole") > 20
    assert chaos.troubles["relabel"] > 0
    assert chaos.count == sum(chaos.seen.ends.values())
