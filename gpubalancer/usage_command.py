"""`gpubalancer usage`: what was spent, from the ledger.

It takes in what the journal has first, so the answer is as new as the last request, whether the balancer runs or not;
both may do that at once, and no line is counted twice. Exit codes: 2 for a question that can't be asked, 1 for a ledger
that can't be read or, with `--verify`, that does not agree.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson

from gpubalancer.ledger.ingest import JOURNAL, Ledger, ledger_of
from gpubalancer.ledger.report import QueryError, as_csv, as_table, query_of
from gpubalancer.ledger.store import BYS, Query, StoreError
from gpubalancer.ledger.verify import BudgetCheck, Verdict, verify
from gpubalancer.policy.schema import Policy
from gpubalancer.reconciling import budget_check

LoadPolicy = Callable[[Path], Policy]
"""Reads a policy file or ends the program."""


@dataclass(frozen=True, slots=True)
class _Asked:
    query: Query
    format: str
    verifies: bool


def usage_command(load: LoadPolicy, budgets: Callable[[Policy], BudgetCheck] = budget_check) -> click.Command:
    """The command.

    Arguments:
        load: reads the policy file.
        budgets: for `--verify`, what holds a policy's budgets against the ledger.
    """

    @click.command("usage")
    @click.option("--config", "path", required=True, type=click.Path(path_type=Path), help="The policy file.")
    @click.option("--tenant", help="Only this tenant's.")
    @click.option("--since", metavar="DAY", help="From this day on: 2026-11-01, 7d, today or month. In UTC.")
    @click.option("--by", default="tenant", show_default=True, metavar="NAMES", help=f"Some of {', '.join(BYS)}.")
    @click.option("--json", "format_", flag_value="json", help="As JSON.")
    @click.option("--csv", "format_", flag_value="csv", help="As CSV.")
    @click.option("--verify", "verifies", is_flag=True, help="Say whether journal, ledger and budgets agree.")
    def usage(path: Path, tenant: str | None, since: str | None, by: str, format_: str | None, verifies: bool) -> None:
        """What was spent: requests, tokens, money and energy."""
        try:
            asked = _Asked(query_of(by, tenant, since), format_ or "table", verifies)
        except QueryError as error:
            raise click.UsageError(str(error)) from None
        policy = load(path)
        directory, url = policy.state.directory, policy.state.ledger_url
        if url is None and not directory.is_dir():
            raise click.ClickException(f"there is no state directory {directory}: nothing was ever served from here")
        try:
            ledger = ledger_of(directory, url, _tell)
            # The budgets are looked at before the journal is taken in: what they have been charged is then in it.
            check = budgets(policy) if verifies else None
            report, verdict = asyncio.run(_answer(ledger, directory, asked, check))
        except (StoreError, OSError) as error:
            raise click.ClickException(str(error)) from None
        click.echo(_written(report, asked, verdict))
        if verdict is not None and not verdict.agrees:
            raise click.exceptions.Exit(1)

    return usage


async def _answer(
    ledger: Ledger, directory: Path, asked: _Asked, check: BudgetCheck | None
) -> tuple[dict[str, Any], Verdict | None]:
    await ledger.open()
    try:
        await ledger.catch_up()
        report = await ledger.usage(asked.query)
        verdict = await verify(directory / JOURNAL, ledger.store, check) if asked.verifies else None
    finally:
        await ledger.close()
    return report, verdict


def _written(report: dict[str, Any], asked: _Asked, verdict: Verdict | None) -> str:
    if asked.format == "json":
        told = {"verify": {"agrees": verdict.agrees, "faults": verdict.faults}} if verdict else {}
        return orjson.dumps(report | told, option=orjson.OPT_INDENT_2).decode()
    if verdict is not None:
        click.echo(_sentence(verdict), err=True)
    if asked.format == "csv":
        return as_csv(report, asked.query.by).rstrip("\n")
    return as_table(report, asked.query.by)


def _sentence(verdict: Verdict) -> str:
    if not verdict.agrees:
        return "\n".join(("the records do not agree:", *(f"  {fault}" for fault in verdict.faults)))
    sums = verdict.ledger
    tokens = sums.prompt_tokens + sums.completion_tokens
    return f"the records agree: {sums.requests:,} requests, {tokens:,} tokens"


def _tell(event: str, /, **details: object) -> None:
    click.echo(f"{event}: {', '.join(f'{name} {value}' for name, value in details.items())}", err=True)
