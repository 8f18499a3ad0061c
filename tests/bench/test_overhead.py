"""The command: which contestants it takes, what it notes, and a whole small run with the backends alone."""

import subprocess
import sys
from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner

from bench.overhead import chosen, main, notes_of, watch_idle
from bench.peers import CONTESTANTS, OURS
from bench.running import divide_cores


def test_everybody_takes_part_unless_some_are_named() -> None:
    """`--only` picks rows, in the table's order, and forgives blanks."""
    assert chosen("") == list(CONTESTANTS)
    assert [row.name for row in chosen("nginx, gpubalancer")] == [OURS, "nginx"]


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    """A typing error does not quietly leave a contestant out."""
    with pytest.raises(click.BadParameter, match=r"ngingx: not among gpubalancer, haproxy, nginx"):
        chosen("ngingx,envoy")


def test_lower_load_of_a_slow_contestant_is_noted() -> None:
    """A reader learns who was asked for less, and of a machine with one core."""
    notes = notes_of(CONTESTANTS, divide_cores([0]), 1500)
    assert any("litellm would saturate" in note and "25 requests a second" in note for note in notes)
    assert any("one core" in note for note in notes)
    assert len(notes_of(chosen("envoy"), divide_cores([0, 1]), 1500)) == 1


def test_idle_process_has_memory_and_next_to_no_work() -> None:
    """A process that waits uses memory and less than a core."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as waiting:
        idle = watch_idle(waiting.pid)
        waiting.communicate(b"\n")
    assert idle.memory_bytes > 0
    assert 0 <= idle.cpu_fraction < 1


def test_missing_peer_is_said_and_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a peer that is not installed the run still measures the rest, writes both files and ends well."""
    monkeypatch.setattr("bench.overhead.WORKLOADS", ())
    monkeypatch.setattr("bench.peers.shutil.which", lambda _name: None)
    out = tmp_path / "results" / "overhead.md"
    options = ["--only", "envoy", "--quick", "--peers", str(tmp_path), "--out", str(out)]
    ended = CliRunner().invoke(main, options)
    assert ended.exit_code == 0, ended.output
    assert "left out: **envoy**: not installed" in out.read_text()
    assert orjson.loads(out.with_suffix(".json").read_bytes())["absent"] == {"envoy": "not installed"}
