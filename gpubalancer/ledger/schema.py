"""The tables, and the statements that both databases understand.

`migrations` holds one step for each version, and the table `version` says how many were made: a change is a new step,
never another word in an old one. Statements are written with `?`; `numbered` makes PostgreSQL's `$1` of them.
"""

# ruff: noqa: S608  # statements are put together from the names of columns in this file, and values are never in them

from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import count
from types import MappingProxyType
from typing import Any

from gpubalancer.ledger.records import Entry
from gpubalancer.ledger.segments import Part
from gpubalancer.ledger.store import By, Query, SegmentState, Taken
from gpubalancer.ledger.sums import NOTHING, Group, Sums, roll_up, sums_of, total

ENTRY_COLUMNS = tuple(each.name for each in fields(Entry))
GROUP_COLUMNS: Mapping[By, str] = MappingProxyType(
    {"day": "day", "tenant": "tenant", "key": "key_id", "model": "model", "backend": "backend", "tier": "tier"}
)
SUM_COLUMNS = Sums._fields

_SQL_TYPES = {str: "TEXT", int: "BIGINT", float: "DOUBLE PRECISION"}
_ENTRY = ", ".join(f"{each.name} {_SQL_TYPES[each.type]} NOT NULL" for each in fields(Entry))  # type: ignore[index]  # classes, as there is no `from __future__`
_SUMS = ", ".join(f"{name} BIGINT NOT NULL DEFAULT 0" for name in SUM_COLUMNS)
_GROUP = ", ".join(f"{name} TEXT NOT NULL" for name in GROUP_COLUMNS.values())
_GROUP_NAMES = ", ".join(GROUP_COLUMNS.values())
_ADDED = ", ".join(f"CAST(COALESCE(SUM({name}), 0) AS BIGINT)" for name in SUM_COLUMNS)


def migrations(identity: str, clustered: str) -> tuple[tuple[str, ...], ...]:
    """The statements of each version.

    Arguments:
        identity: type of a column that numbers its rows.
        clustered: what follows a table that is to be kept in the order of its key.
    """
    return (
        (
            (
                f"CREATE TABLE segments (id {identity}, name TEXT NOT NULL UNIQUE, at_bytes BIGINT NOT NULL DEFAULT 0, "
                "last_us BIGINT NOT NULL DEFAULT 0, torn BIGINT NOT NULL DEFAULT 0, damaged BIGINT NOT NULL DEFAULT 0, "
                f"is_forgotten BIGINT NOT NULL DEFAULT 0, {_SUMS})"
            ),
            (
                f"CREATE TABLE entries (segment BIGINT NOT NULL, at_bytes BIGINT NOT NULL, {_ENTRY}, "
                f"PRIMARY KEY (segment, at_bytes)){clustered}"
            ),
            f"CREATE TABLE rollups ({_GROUP}, {_SUMS}, PRIMARY KEY ({_GROUP_NAMES})){clustered}",
            f"CREATE TABLE forgotten ({_SUMS})",
            "INSERT INTO forgotten DEFAULT VALUES",
        ),
    )


VERSION = len(migrations("", ""))

CREATE_VERSION = "CREATE TABLE IF NOT EXISTS version (number BIGINT NOT NULL)"
READ_VERSION = "SELECT COALESCE(MAX(number), 0) FROM version"
WRITE_VERSION = "INSERT INTO version (number) VALUES (?)"

BEGIN_SEGMENT = "INSERT INTO segments (name) VALUES (?) ON CONFLICT (name) DO NOTHING"
MOVE_SEGMENT = (
    "UPDATE segments SET at_bytes = ?, last_us = CASE WHEN last_us < ? THEN ? ELSE last_us END, torn = torn + ?, "
    f"damaged = damaged + ?, {', '.join(f'{name} = {name} + ?' for name in SUM_COLUMNS)} "
    "WHERE name = ? AND at_bytes = ? RETURNING id"
)
ADD_ENTRY = (
    f"INSERT INTO entries (segment, at_bytes, {', '.join(ENTRY_COLUMNS)}) "
    f"VALUES ({', '.join('?' * (len(ENTRY_COLUMNS) + 2))})"
)
ADD_ROLLUP = (
    f"INSERT INTO rollups ({_GROUP_NAMES}, {', '.join(SUM_COLUMNS)}) "
    f"VALUES ({', '.join('?' * (len(GROUP_COLUMNS) + len(SUM_COLUMNS)))}) ON CONFLICT ({_GROUP_NAMES}) DO UPDATE SET "
    + ", ".join(f"{name} = rollups.{name} + excluded.{name}" for name in SUM_COLUMNS)
)
READ_SEGMENT = (
    f"SELECT name, at_bytes, last_us, torn, damaged, is_forgotten, {', '.join(SUM_COLUMNS)} "
    "FROM segments WHERE name = ?"
)
_COUNTED = "CAST(COALESCE(SUM(requests), 0) AS BIGINT), COUNT(CASE WHEN requests = 0 THEN 1 END)"
_ENTRIES_ADDED = ", ".join(f"CAST(COALESCE(SUM({name}), 0) AS BIGINT)" for name in SUM_COLUMNS[2:])
TOTALS = (
    f"SELECT {_ADDED} FROM segments",
    f"SELECT {_ADDED} FROM segments WHERE is_forgotten = 0",
    f"SELECT {_ADDED} FROM rollups",
    f"SELECT {_ADDED} FROM forgotten",
    f"SELECT {_COUNTED}, {_ENTRIES_ADDED} FROM entries",
)
"""In the order of the fields of `Totals`."""
TAKEN = (
    f"SELECT tenant, key_id, model, {_COUNTED}, {_ENTRIES_ADDED}, "
    "CAST(COALESCE(SUM(cached_tokens * CAST(? AS BIGINT) / 1000000), 0) AS BIGINT) "
    "FROM entries WHERE at_us >= ? AND at_us < ? GROUP BY tenant, key_id, model"
)
FORGET_ENTRIES = "DELETE FROM entries WHERE segment = (SELECT id FROM segments WHERE name = ?)"
FORGET_SEGMENT = "UPDATE segments SET is_forgotten = 1 WHERE name = ?"
OLD_ROLLUPS = f"SELECT {_ADDED} FROM rollups WHERE day < ?"
KEEP_FORGOTTEN = f"UPDATE forgotten SET {', '.join(f'{name} = {name} + ?' for name in SUM_COLUMNS)}"
FORGET_ROLLUPS = "DELETE FROM rollups WHERE day < ?"


def usage_statement(query: Query) -> tuple[str, list[str]]:
    """The statement for some usage, and its values."""
    tests = (
        ("day >= ?", query.since.isoformat() if query.since else None),
        ("day < ?", query.until.isoformat() if query.until else None),
        ("tenant = ?", query.tenant),
    )
    given = [(test, value) for test, value in tests if value is not None]
    names = ", ".join(GROUP_COLUMNS[by] for by in query.by)
    where = f" WHERE {' AND '.join(test for test, _ in given)}" if given else ""
    group = f" GROUP BY {names}" if names else ""
    return f"SELECT {names}{', ' if names else ''}{_ADDED} FROM rollups{where}{group}", [value for _, value in given]


def usage_row(query: Query, row: Sequence[Any]) -> tuple[tuple[str, ...], Sums]:
    """A row that the statement gave."""
    width = len(query.by)
    return tuple(row[:width]), Sums(*row[width:])


def taken_row(row: Sequence[Any]) -> Taken:
    """A row of `TAKEN`."""
    return Taken(row[0], row[1], row[2], Sums(*row[3:-1]), row[-1])


def segment_state(row: Sequence[Any]) -> SegmentState:
    """A row of `READ_SEGMENT`."""
    return SegmentState(row[1], row[2], row[3], row[4], bool(row[5]), Sums(*row[6:]))


def move_values(part: Part) -> list[Any]:
    """The values of `MOVE_SEGMENT`."""
    last_us = max((entry.at_us for _, entry in part.entries), default=0)
    sums = total(sums_of(entry) for _, entry in part.entries) if part.entries else NOTHING
    torn = int(part.torn is not None)
    return [part.to_bytes, last_us, last_us, torn, len(part.damaged), *sums, part.segment, part.from_bytes]


def entry_values(segment: int, part: Part) -> list[tuple[Any, ...]]:
    """The rows of `entries`."""
    return [(segment, at_bytes, *[getattr(entry, name) for name in ENTRY_COLUMNS]) for at_bytes, entry in part.entries]


def rollup_values(part: Part) -> list[tuple[Any, ...]]:
    """The rows of `rollups`, in one order everywhere: two who add at once never wait for each other in a circle."""
    groups: dict[Group, Sums] = roll_up(entry for _, entry in part.entries)
    return [(*group, *sums) for group, sums in sorted(groups.items())]


def numbered(statement: str) -> str:
    """The same statement with `$1`, `$2` in place of the question marks."""
    numbers = count(1)
    return "".join(f"${next(numbers)}" if each == "?" else each for each in statement)
