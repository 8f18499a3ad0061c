"""Usage for readers: plain values for JSON, and the same as a table and as CSV.

    {"rows": [{the keys asked for, "requests", "prompt_tokens", "cached_tokens", "completion_tokens", "usd", "joules"}],
     "total": {the same without the keys}}

Requests are those that were charged as one; one that was refused is none. A row in which nothing was spent is left
out. Money is exact inside: usd has nine digits behind the point, joules three.
"""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from typing import Any

from gpubalancer.ledger.store import BYS, By, Query, Store
from gpubalancer.ledger.sums import Sums, total

AMOUNTS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "usd", "joules")
NANO = 1_000_000_000
MILLI = 1000


class QueryError(ValueError):
    """A question that can't be asked; the message says what was expected."""


async def usage(store: Store, query: Query) -> dict[str, Any]:
    """What was spent, as the docstring above shows it, rows in the order of their keys.

    Errors:
        StoreError: the database can't be used now.
    """
    found = [(keys, sums) for keys, sums in await store.usage(query) if any(_spent(sums))]
    rows = [dict(zip(query.by, keys, strict=True)) | amounts(sums) for keys, sums in sorted(found)] if query.by else []
    return {"rows": rows, "total": amounts(total(sums for _, sums in found))}


def amounts(sums: Sums) -> dict[str, Any]:
    """Sums in the units that people use."""
    return {
        "requests": sums.requests,
        "prompt_tokens": sums.prompt_tokens,
        "cached_tokens": sums.cached_tokens,
        "completion_tokens": sums.completion_tokens,
        "usd": sums.nano_usd / NANO,
        "joules": sums.millijoules / MILLI,
    }


def query_of(by: str, tenant: str | None, since: str | None, today: date | None = None) -> Query:
    """A question as people and URLs write it.

    Arguments:
        by: names with commas between, such as `model,day`.
        tenant: this one only.
        since: a day such as `2026-11-01`, `7d` for the last seven with today, `today`, or `month` for this one.
        today: in UTC; the clock's if not given.

    Raises:
        QueryError: a name or a day that is none.
    """
    names = [name.strip() for name in by.split(",") if name.strip()]
    if unknown := [name for name in names if name not in BYS]:
        raise QueryError(f"{', '.join(unknown)}: expected some of {', '.join(BYS)}")
    keys: tuple[By, ...] = tuple(each for name in dict.fromkeys(names) for each in BYS if each == name)
    return Query(keys, tenant, _day(since, today or datetime.now(UTC).date()) if since else None)


def as_table(report: dict[str, Any], by: tuple[By, ...]) -> str:
    """Aligned columns, the total last."""
    heads = [*by, *AMOUNTS]
    last = dict.fromkeys(by, "") | report["total"]
    if by:
        last[by[0]] = "total"
    lines = [heads, *([_cell(name, row[name]) for name in heads] for row in [*report["rows"], last])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at < len(by) else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def as_csv(report: dict[str, Any], by: tuple[By, ...]) -> str:
    """One line of names, then the rows; without keys, the total."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [*by, *AMOUNTS], lineterminator="\n")
    writer.writeheader()
    for row in report["rows"] if by else [report["total"]]:
        writer.writerow({name: _harmless(value) for name, value in row.items()})
    return out.getvalue()


def _spent(sums: Sums) -> tuple[int, ...]:
    return (sums.requests, *sums[2:])


def _cell(name: str, value: Any) -> str:
    if name == "usd":
        return f"{value:,.6f}"
    if name == "joules":
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _harmless(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula gets an apostrophe, as OWASP advises against CSV injection."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") and value != "-" else value


def _day(text: str, today: date) -> date:
    if text == "today":
        return today
    if text == "month":
        return today.replace(day=1)
    if text.endswith("d") and text[:-1].isdecimal() and 1 <= int(text[:-1]) <= 36_500:
        return today - timedelta(days=int(text[:-1]) - 1)
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise QueryError(f"{text!r} is no day: expected 2026-11-01, 7d, today or month") from None
