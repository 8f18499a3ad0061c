"""What the report says about the machine."""

from pathlib import Path

from bench.machine import cpu_model, describe, revision


def test_cpu_model_is_read_from_cpuinfo() -> None:
    """The first processor's model name."""
    assert cpu_model("processor\t: 0\nmodel name\t: A CPU: fast\nmodel name\t: B\n") == "A CPU: fast"


def test_cpu_model_has_a_fallback() -> None:
    """Some architectures have no such line."""
    assert cpu_model("processor\t: 0\n")


def test_revision_outside_git_is_unknown(tmp_path: Path) -> None:
    """A copy without its history is still measured."""
    assert revision(tmp_path) == "unknown"


def test_every_row_has_a_text() -> None:
    """The table has no empty cells."""
    rows = describe(Path(__file__).parents[2])
    assert list(rows) == ["processor", "cores", "memory", "kernel", "Python", "commit"]
    assert all(rows.values())
