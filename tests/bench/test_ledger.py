"""The benchmark of the ledger: that its pieces work and its report says what was measured."""

import asyncio
from pathlib import Path

import pytest

from bench.ledger import (
    MONTH_REQUESTS,
    Appending,
    Asking,
    Command,
    Taking,
    append_cost,
    ask,
    command_s,
    make_month,
    report,
    sqlite_cost,
    write,
)
from gpubalancer.ledger.ingest import DATABASE
from gpubalancer.ledger.segments import list_segments, read_part


def test_writers_write_what_is_timed(tmp_path: Path) -> None:
    """Each of them has its lines in a segment of its own."""
    found = append_cost(tmp_path, 2, 30)
    assert (found.writers, len(found.line_us)) == (2, 2)
    assert found.lines_per_s > 0
    assert [len(read_part(path, 0).entries) for path in list_segments(tmp_path)] == [30, 30]
    assert 300 < found.line_bytes < 1000


def test_every_line_is_taken_in(tmp_path: Path) -> None:
    """A round without lines would have no rate."""
    found = sqlite_cost(tmp_path, 50, 2)
    assert found.name == "SQLite"
    assert all(rate > 0 for rate in found.lines_per_s)
    assert min(write(tmp_path / "more", "2", 5)) > 0


def test_a_month_has_ten_million_requests(tmp_path: Path) -> None:
    """The roll-ups add up to them, and the command answers from them."""
    asyncio.run(make_month(tmp_path / DATABASE, 1))
    found = asyncio.run(ask(tmp_path / DATABASE, ("model", "day"), 1))
    assert (found.rollups, found.rows) == (30 * 50 * 5 * 8 * 2, 150)
    assert MONTH_REQUESTS == 10_000_000
    command = command_s(tmp_path, ("model",), 1)
    assert 0 < command.cpu_s[0] < 60
    assert 0 < command.wall_s[0] < 60


@pytest.mark.parametrize(("seconds", "verdict"), [(1.99, "met"), (2.01, "missed")])
def test_the_report_judges_the_slowest_run(seconds: float, verdict: str) -> None:
    """Of the whole command, which is what somebody waits for."""
    asking = Asking(("model", "day"), 240_000, 150, (0.1, 0.2, 0.3))
    text = report(
        "x",
        {"cores": "2"},
        [Appending(2, (9.0, 11.0), (7.0, 8.0), 200_000.0, 560)],
        [Taking("SQLite", (20_000.0,), 300.4), Taking("PostgreSQL", (30_000.0,), None)],
        [(asking, Command((0.5, seconds, 0.6), (0.3, 0.4, 0.5)))],
        4.25,
    )
    assert f"**{verdict}**" in text
    assert "| 2 | 7.5 (7.0 to 8.0) | 10.0 (9.0 to 11.0) | 200,000 | 560 |" in text
    assert "4.2 us of a processor" in text
    assert "| SQLite | 20,000 (20,000 to 20,000) | 300 |" in text
    assert "| PostgreSQL | 30,000 (30,000 to 30,000) | not measured |" in text
    assert (
        f"| 240,000 | model,day | 150 | 0.20 (0.10 to 0.30) | 0.60 (0.50 to {seconds}) | 0.40 (0.30 to 0.50) |" in text
    )
