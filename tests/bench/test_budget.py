"""The benchmark of budgets runs, and its report says what was found."""

from bench.budget import Cost, Row, claims_of, measure, report, without


def test_a_small_run_finds_something() -> None:
    """Two workers, three tenants, a few pairs."""
    row = measure(3, 2, 20)
    assert (row.tenants, len(row.workers)) == (3, 2)
    assert all(len(cost.cpu_us) == 5 and len(cost.wall_us) == 100 and min(cost.wall_us) > 0 for cost in row.workers)
    assert row.pairs_per_s > 0
    assert row.file_bytes > 0


def test_tenants_differ() -> None:
    """Each has budgets of its own."""
    assert len({terms.id for claims in claims_of(3) for terms in claims.terms}) == 9


def test_the_report_gives_its_verdict() -> None:
    """By the dearest worker's median."""
    cost = Cost((20.0, 24.0, 22.0), (21.0, 90.0), 150.0, 1500.0)
    dear = Cost((20.0, 44.0, 52.0), (21.0, 90.0), 150.0, 1500.0)
    row, worse = Row(100_000, [cost], 40_000.0, 40_000_000), Row(1, [dear], 9.0, 1)
    text = report("run", {"cores": "2"}, [row], row, 0.05)
    assert "The dearest takes 22.0 us: **met**." in text
    assert "| 100,000 | 1 | 22.0 (20.0 to 24.0) | 55.5 | 90 | 40,000 |" in text
    assert "| 100,000 | 400 | 1,500 | 150 |" in text
    assert "**missed**" in report("run", {}, [worse], worse, 0.05)


def test_no_budgets_cost_next_to_nothing() -> None:
    """Less than a microsecond, whatever machine this is."""
    assert without(1000) < 10
