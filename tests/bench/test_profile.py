"""Folded stacks as shares."""

from pathlib import Path

import click
import pytest

from bench.profile import find_py_spy, shares, top

FOLDED = [
    "process 7:python;main (a.py);read (b.py) 30",
    "process 7:python;main (a.py);write (b.py);read (b.py) 10",
    "process 8:python;thread (0x1);main (a.py) 60",
    "",
]


def test_own_share_is_the_innermost_frame() -> None:
    """Samples count for the function that was running."""
    own, _, total = shares(FOLDED)
    assert (own["read (b.py)"], own["main (a.py)"], own["write (b.py)"], total) == (40, 60, 0, 100)


def test_whole_share_counts_a_stack_once() -> None:
    """A function that calls itself is not counted twice, and the process is no function."""
    _, whole, _ = shares([*FOLDED, "f;g;f 5"])
    assert (whole["main (a.py)"], whole["read (b.py)"], whole["f"]) == (100, 40, 5)
    assert not [name for name in whole if name.startswith("process")]


def test_top_prints_the_greatest_first() -> None:
    """Share and name, no more rows than asked for."""
    own, _, total = shares(FOLDED)
    assert top("own", own, total, 1) == "own (100 samples)\n 60.0%  main (a.py)"


def test_nothing_sampled_prints_nothing() -> None:
    """An idle process is no division by zero."""
    assert top("own", *shares([])[1:], 5) == "own (0 samples)"


def test_missing_profiler_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the installer."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(click.ClickException, match=r"install_peers\.sh"):
        find_py_spy(tmp_path)
