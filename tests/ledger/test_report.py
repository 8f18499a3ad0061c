"""Reports: their shape, their units and the questions that can be asked."""

import asyncio
import csv
import io
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from gpubalancer.ledger.report import QueryError, amounts, as_csv, as_table, query_of, usage
from gpubalancer.ledger.segments import Part
from gpubalancer.ledger.sqlite import SqliteStore
from gpubalancer.ledger.store import Query
from gpubalancer.ledger.sums import Sums
from tests.ledger.entries import entry

TODAY = date(2026, 11, 23)
ENTRIES = [
    entry(0, tenant="b", nano_usd=1_500_000_000, millijoules=2500, cached_tokens=3),
    entry(1, tenant="a", model="=phi"),
    entry(2, tenant="a"),
    entry(3, tenant="-", requests=0, prompt_tokens=0, completion_tokens=0, nano_usd=0, millijoules=0),
]


def report_by(path: Path, query: Query) -> dict[str, Any]:
    """What a ledger with these entries answers."""

    async def main() -> dict[str, Any]:
        store = SqliteStore(path / "x.sqlite")
        await store.open()
        await store.add(Part("a", 0, 9, tuple(enumerate(ENTRIES))))
        report = await usage(store, query)
        await store.close()
        return report

    return asyncio.run(main())


def test_a_report_has_the_shape_that_programs_rely_on(tmp_path: Path) -> None:
    """Rows with the keys asked for and six amounts, sorted, and their total; what was refused is no request."""
    assert report_by(tmp_path, Query(("tenant", "day"))) == {
        "rows": [
            {
                "tenant": "a",
                "day": "2026-11-23",
                "requests": 2,
                "prompt_tokens": 203,
                "cached_tokens": 0,
                "completion_tokens": 20,
                "usd": 1e-8,
                "joules": 0.014,
            },
            {
                "tenant": "b",
                "day": "2026-11-23",
                "requests": 1,
                "prompt_tokens": 100,
                "cached_tokens": 3,
                "completion_tokens": 10,
                "usd": 1.5,
                "joules": 2.5,
            },
        ],
        "total": {
            "requests": 3,
            "prompt_tokens": 303,
            "cached_tokens": 3,
            "completion_tokens": 30,
            "usd": 1.50000001,
            "joules": 2.514,
        },
    }


def test_without_keys_there_is_the_total_alone(tmp_path: Path) -> None:
    """No row is made up for it."""
    report = report_by(tmp_path, Query(()))
    assert (report["rows"], report["total"]["requests"]) == ([], 3)


def test_who_spent_nothing_has_zeros(tmp_path: Path) -> None:
    """A tenant that is unknown gets a report all the same."""
    report = report_by(tmp_path, Query(("model",), tenant="nobody"))
    assert (report["rows"], report["total"]) == ([], amounts(Sums()))


@pytest.mark.parametrize(
    ("by", "since", "expected"),
    [
        ("model,day", None, Query(("model", "day"))),
        (" key , tier ,key", "today", Query(("key", "tier"), None, TODAY)),
        ("", "month", Query((), None, date(2026, 11, 1))),
        ("backend", "7d", Query(("backend",), None, date(2026, 11, 17))),
        ("tenant", "1d", Query(("tenant",), None, TODAY)),
        ("tenant", "2026-01-31", Query(("tenant",), None, date(2026, 1, 31))),
    ],
)
def test_questions_are_understood(by: str, since: str | None, expected: Query) -> None:
    """Names in the order asked for, each once; days as people say them."""
    assert query_of(by, None, since, TODAY) == expected


@pytest.mark.parametrize(
    ("by", "since", "why"),
    [
        ("model,color", None, "color: expected some of day, tenant, key, model, backend, tier"),
        ("tenant; DROP TABLE rollups", None, "expected some of"),
        ("tenant", "yesterday", "'yesterday' is no day"),
        ("tenant", "0d", "'0d' is no day"),
        ("tenant", "99999999d", "is no day"),
        ("tenant", "2026-02-30", "is no day"),
        ("tenant", "-5d", "is no day"),
    ],
)
def test_questions_that_make_no_sense_are_refused(by: str, since: str | None, why: str) -> None:
    """The sentence says what was expected."""
    with pytest.raises(QueryError, match=why):
        query_of(by, None, since, TODAY)


def test_a_table_is_aligned(tmp_path: Path) -> None:
    """Names to the left, numbers to the right, the total last."""
    assert as_table(report_by(tmp_path, Query(("tenant",))), ("tenant",)).splitlines() == [
        "tenant  requests  prompt_tokens  cached_tokens  completion_tokens       usd  joules",
        "a              2            203              0                 20  0.000000     0.0",
        "b              1            100              3                 10  1.500000     2.5",
        "total          3            303              3                 30  1.500000     2.5",
    ]


def test_csv_can_be_read_by_programs_and_spreadsheets(tmp_path: Path) -> None:
    """One line of names; a text that a spreadsheet would run is made harmless."""
    by = query_of("tenant,model", None, None).by
    rows = list(csv.DictReader(io.StringIO(as_csv(report_by(tmp_path, Query(by)), by))))
    assert [(row["tenant"], row["model"], row["requests"]) for row in rows] == [
        ("a", "'=phi", "1"),
        ("a", "llama", "1"),
        ("b", "llama", "1"),
    ]
    assert as_csv(report_by(tmp_path, Query(())), ()).splitlines()[1].startswith("3,303,3,30,1.50000001,")
