"""Tables and statements that two databases share."""

import sqlite3
from datetime import date

from gpubalancer.ledger import schema
from gpubalancer.ledger.sqlite import MIGRATIONS
from gpubalancer.ledger.store import BYS, Query
from gpubalancer.ledger.sums import Group, Sums


def test_statements_are_numbered_for_postgresql() -> None:
    """Question marks become numbers in their order."""
    assert schema.numbered("a = ? AND b < ?") == "a = $1 AND b < $2"


def test_every_key_of_a_report_is_a_column() -> None:
    """What usage is told apart by, and the fields of a group, are the same in the same order."""
    assert tuple(schema.GROUP_COLUMNS) == BYS == Group._fields


def test_usage_asks_for_what_the_query_says() -> None:
    """Each condition is there only when given, and its value never stands in the statement."""
    query = Query(("model", "key"), "o'neill", date(2026, 11, 1), date(2026, 12, 1))
    statement, values = schema.usage_statement(query)
    assert values == ["2026-11-01", "2026-12-01", "o'neill"]
    assert statement.endswith(" WHERE day >= ? AND day < ? AND tenant = ? GROUP BY model, key_id")
    statement, values = schema.usage_statement(Query(()))
    assert values == []
    assert "WHERE" not in statement
    assert "GROUP" not in statement
    assert schema.usage_row(query, ["llama", "0a", *range(7)]) == (("llama", "0a"), Sums(*range(7)))


def test_the_migrations_make_what_the_statements_need() -> None:
    """On an empty database the steps run one after the other, and every statement can be prepared."""
    connection = sqlite3.connect(":memory:")
    connection.execute(schema.CREATE_VERSION)
    for statements in MIGRATIONS:
        for statement in statements:
            connection.execute(statement)
    constants = [
        value for name, value in vars(schema).items() if name.isupper() and name[0] != "_" and isinstance(value, str)
    ]
    for statement in (*constants, *schema.TOTALS):
        if statement != schema.CREATE_VERSION:
            connection.execute(f"EXPLAIN {statement}", [0] * statement.count("?"))
    assert len(constants) > 10
    connection.close()
