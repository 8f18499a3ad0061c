"""The benchmark of telemetry: that its pieces work and its report says what was measured."""

from pathlib import Path

import click
import pytest

from bench.telemetry import SIMULATED, Parsing, Way, pages_of, parse_cost, report, way_cost


def test_without_a_folder_the_simulated_engine_is_read() -> None:
    """Anybody can run it: the page has vLLM's names, and a reading takes time."""
    pages = pages_of(None)
    cost = parse_cost(SIMULATED, pages[SIMULATED], 3)
    assert (cost.engine, cost.size_bytes) == ("vllm", len(pages[SIMULATED]))
    assert all(each > 0 for each in cost.cpu_us)


def test_a_folder_of_pages_is_read(tmp_path: Path) -> None:
    """Captured pages are named by their files; an empty folder is an error."""
    with pytest.raises(click.ClickException, match="has no"):
        pages_of(tmp_path)
    (tmp_path / "tgi-3.metrics.txt").write_bytes(b"tgi_queue_size 1\n")
    assert pages_of(tmp_path) == {"tgi-3": b"tgi_queue_size 1\n"}


@pytest.mark.parametrize(("cpu_us", "verdict"), [(100.0, "met"), (1001.0, "missed")])
def test_the_report_judges_the_dearest_page(cpu_us: float, verdict: str) -> None:
    """200 readings of 1 ms are a fifth of a core, which is the limit."""
    text = report(
        "x", {"cores": "2"}, [Parsing("a", "vllm", 50_000, (cpu_us, 1.0, 9999.0))], [Way("a", True, 0.123, 199.6)]
    )
    assert f"**{verdict}**" in text
    assert f"| a | vllm | 50,000 | {cpu_us:.0f} (1 to 9999) | {cpu_us * 0.0002:.1%} |" in text
    assert "| a | gzip | 200 | 12.3% |" in text


@pytest.mark.soak
def test_the_whole_way_reads_each_second() -> None:
    """Two hundred backends are read about once a second each."""
    way = way_cost(SIMULATED, pages_of(None)[SIMULATED], compressed=True, seconds=3.0)
    assert 150 < way.readings_per_s < 250
