"""Verification: that it finds what does not agree, and nothing else."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from gpubalancer.ledger.ingest import JOURNAL, Ledger, ledger_of
from gpubalancer.ledger.records import encode
from gpubalancer.ledger.store import Query, Store
from gpubalancer.ledger.verify import verify
from tests.ledger.conftest import Told
from tests.ledger.entries import entry
from tests.ledger.test_ingest import TODAY, write


async def filled(state: Path, told: Told) -> Ledger:
    """A ledger with three segments."""
    for worker in "123":
        write(state, range(5), worker)
    ledger = ledger_of(state, None, told)
    await ledger.open()
    await ledger.catch_up()
    return ledger


async def execute(ledger: Ledger, statement: str) -> None:
    """Change the database behind the ledger's back."""
    await ledger.store._run(ledger.store._connected.execute, statement)  # type: ignore[attr-defined]  # it is SQLite


def test_records_that_agree_have_no_faults(tmp_path: Path, told: Told) -> None:
    """Journal and ledger say the same, before and after old segments went."""

    async def main() -> None:
        ledger = await filled(tmp_path, told)
        verdict = await verify(tmp_path / JOURNAL, ledger.store)
        assert verdict.agrees
        assert verdict.journal == verdict.ledger
        assert verdict.ledger.requests == 15
        await ledger.tidy(TODAY.replace(year=2040))
        verdict = await verify(tmp_path / JOURNAL, ledger.store)
        assert (verdict.faults, verdict.journal.requests, verdict.ledger.requests) == ((), 0, 15)
        await ledger.close()

    asyncio.run(main())


def test_lines_that_are_not_in_are_told(tmp_path: Path, told: Told) -> None:
    """A segment that nobody has taken in yet is no agreement."""

    async def main() -> None:
        ledger = await filled(tmp_path, told)
        name = write(tmp_path, range(2), "9").name
        verdict = await verify(tmp_path / JOURNAL, ledger.store)
        assert verdict.faults == (f"{name}: 2 lines are not in the ledger yet",)
        await ledger.close()

    asyncio.run(main())


def test_a_changed_journal_is_found(tmp_path: Path, told: Told) -> None:
    """A line that was removed or written anew after it was taken in does not go unseen."""

    async def main() -> None:
        ledger = await filled(tmp_path, told)
        path = write(tmp_path, [5], "9")
        await ledger.catch_up()
        path.write_bytes(encode(entry(5, prompt_tokens=104)))
        verdict = await verify(tmp_path / JOURNAL, ledger.store)
        assert verdict.faults == (f"{path.name}: the journal has 104 prompt tokens, the ledger 105",)
        await ledger.close()

    asyncio.run(main())


def test_changed_tables_are_found(tmp_path: Path, told: Told) -> None:
    """One token more in a roll-up, or an entry less, is told to the token."""

    async def main() -> None:
        ledger = await filled(tmp_path, told)
        await execute(ledger, "UPDATE rollups SET prompt_tokens = prompt_tokens + 1")
        await execute(ledger, "DELETE FROM entries WHERE segment = 1 AND at_bytes = 0")
        verdict = await verify(tmp_path / JOURNAL, ledger.store)
        assert verdict.faults == (
            "the ledger's segments has 1,530 prompt tokens, its roll-ups 1,531",
            "the ledger's segments has 15 requests, its entries 14",
            "the ledger's segments has 1,530 prompt tokens, its entries 1,430",
            "the ledger's segments has 150 completion tokens, its entries 140",
            "the ledger's segments has 75 nano usd, its entries 70",
            "the ledger's segments has 105 millijoules, its entries 98",
        )
        await ledger.close()

    asyncio.run(main())


def test_budgets_have_their_say(tmp_path: Path, told: Told) -> None:
    """Who knows the budgets gets the ledger's numbers, and its sentences are faults."""

    async def budgets(store: Store) -> Sequence[str]:
        ((_, sums),) = await store.usage(Query(("tenant",)))
        return [f"team: the budget has 1 token, the ledger {sums.prompt_tokens}"]

    async def main() -> None:
        ledger = await filled(tmp_path, told)
        verdict = await verify(tmp_path / JOURNAL, ledger.store, budgets)
        assert verdict.faults == ("team: the budget has 1 token, the ledger 1530",)
        await ledger.close()

    asyncio.run(main())
