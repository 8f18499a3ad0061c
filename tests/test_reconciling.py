"""Budgets held against the ledger, and made again from it."""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_recovery import rebuild
from gpubalancer.board.budget_reservation import Reservation
from gpubalancer.board.budgets import Till
from gpubalancer.brain.budget import BudgetPlan
from gpubalancer.domain.budget import Spending
from gpubalancer.ledger.ingest import JOURNAL, Ledger, Retention
from gpubalancer.ledger.journal import Journal
from gpubalancer.ledger.records import encode
from gpubalancer.ledger.sqlite import SqliteStore
from gpubalancer.policy.schema import Policy
from gpubalancer.reconciling import BUDGETS, budget_check, spent_of
from tests.ledger.conftest import Told
from tests.ledger.entries import entry

DIGEST = hashlib.sha256(b"key").digest()
EXPECTED = Spending(100, 0, 100, 1)
MONTH = {"per": "month", "limit": 1_000_000}
TENANTS: list[dict[str, Any]] = [
    {"name": "house", "budgets": [{"unit": "tokens", **MONTH}]},
    {
        "name": "acme",
        "parent": "house",
        "keys": [{"hash": f"sha256:{DIGEST.hex()}", "name": "k", "budgets": [{"unit": "requests", **MONTH}]}],
        "budgets": [
            {"unit": "tokens", "cached_weight": 0.25, **MONTH},
            {"unit": "completion_tokens", "models": ["l*"], **MONTH},
            {"unit": "tokens", "per": "1m", "limit": 1000},
            {"unit": "concurrent", "limit": 5},
        ],
    },
]


class Shop:
    """A worker, its journal, its ledger, and the policy; what it serves is charged and recorded."""

    def __init__(self, folder: Path) -> None:
        backends = [{"url": "http://127.0.0.1:9", "models": ["llama", "phi"]}]
        state = {"directory": str(folder)}
        self.policy = Policy.model_validate({"backends": backends, "tenants": TENANTS, "state": state})
        self.plan = BudgetPlan(self.policy)
        self.file = BudgetFile.create(folder / BUDGETS)
        self.till = Till(BudgetFile.attach(folder / BUDGETS), 0)
        self.journal = Journal(folder / JOURNAL, "worker0")
        self.folder = folder
        self._number = 0

    def serve(self, tenant: str, model: str, spending: Spending, key: bytes | None = None) -> Spending:
        """Reserve, settle and record one request."""
        claims = self.plan.claims(tenant, model, key)
        assert claims is not None
        held = self.till.reserve(claims, EXPECTED, self.till.now_ns())
        assert isinstance(held, Reservation)
        now_ns = self.till.now_ns()
        held.settle(spending, now_ns)
        self._number += 1
        prompt, cached, completion, *_ = spending
        tokens = {"prompt_tokens": prompt, "cached_tokens": cached, "completion_tokens": completion}
        at = {"at_us": now_ns // 1000, "key_id": key[:4].hex() if key else "-"}
        self.journal.append(encode(entry(self._number, tenant=tenant, model=model, **tokens, **at)))
        return spending

    def faults(self) -> list[str]:
        """What a check says now."""
        check = budget_check(self.policy)

        async def ask() -> list[str]:
            ledger = self.ledger()
            await ledger.catch_up()
            found = await check(ledger.store)
            await ledger.close()
            return list(found)

        return asyncio.run(ask())

    def ledger(self) -> Ledger:
        """The one of this folder."""
        return Ledger(self.folder / JOURNAL, SqliteStore(self.folder / "ledger.sqlite"), Told(), Retention())

    def used(self, file: BudgetFile) -> dict[tuple[str, str, str], int]:
        """What a file says of each budget that it has."""
        found: dict[tuple[str, str, str], int] = {}
        for terms in self.plan.every():
            row = file.find(terms.id)
            if row is not None:
                found[terms.owner, terms.unit, terms.per] = terms.at(file.state(row), file.now_ns())[0]
        return found

    def close(self) -> None:
        """Let everything go."""
        self.journal.close()
        self.till.close()
        self.file.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """One with some requests served, of two tenants, two models, with a key and without."""
    made = Shop(tmp_path)
    made.serve("acme", "llama", Spending(103, 51, 10, 1), DIGEST)
    made.serve("acme", "llama", Spending(103, 51, 10, 1))
    made.serve("acme", "phi", Spending(7, 0, 3, 1))
    made.serve("house", "phi", Spending(20, 20, 1, 1))
    yield made
    made.close()


def test_budgets_and_ledger_agree_to_the_token(shop: Shop) -> None:
    """Parents count what their children take, keys what came with them, and cached tokens weigh less, rounded up."""
    assert shop.faults() == []
    used = shop.used(shop.file)
    assert used["acme", "tokens", "month"] == 2 * (103 - 38 + 10) + 10
    assert used["house", "tokens", "month"] == 2 * 113 + 10 + 21
    assert (used["acme", "completion_tokens", "month"], used["acme", "requests", "month"]) == (20, 1)


def test_what_was_charged_and_not_recorded_is_told(shop: Shop) -> None:
    """As is what was recorded and not charged, by whom and how much."""
    claims = shop.plan.claims("acme", "llama")
    assert claims is not None
    held = shop.till.reserve(claims, EXPECTED, shop.till.now_ns())
    assert isinstance(held, Reservation)
    assert shop.faults() == []
    held.settle(Spending(completion_tokens=2), shop.till.now_ns())
    assert shop.faults() == [
        "the budget of house, tokens per month, was charged 259, the ledger has 257",
        "the budget of acme, tokens per month, was charged 162, the ledger has 160",
        "the budget of acme, completion tokens per month, was charged 22, the ledger has 20",
    ]


def test_what_ends_while_we_look_may_be_in_or_not(shop: Shop) -> None:
    """A request that is charged just after the look is no fault, nor one that is recorded just before."""
    check = budget_check(shop.policy)
    shop.serve("acme", "llama", Spending(103, 0, 10, 1))

    async def ask() -> list[str]:
        ledger = shop.ledger()
        await ledger.catch_up()
        found = await check(ledger.store)
        await ledger.close()
        return list(found)

    assert asyncio.run(ask()) == []


def test_a_budget_is_compared_from_its_beginning(tmp_path: Path) -> None:
    """One that was added in the middle of a month knows nothing of what was taken before."""
    shop = Shop(tmp_path)
    an_hour_ago_us = shop.till.now_ns() // 1000 - 3600 * 1_000_000
    shop.journal.append(encode(entry(99, tenant="acme", at_us=an_hour_ago_us)))
    shop.serve("acme", "llama", Spending(103, 0, 10, 1))
    assert shop.faults() == []
    shop.close()


def test_a_file_that_is_none_is_a_fault_and_none_at_all_is_not(tmp_path: Path) -> None:
    """Where nothing was ever served there is nothing to compare."""
    shop = Shop(tmp_path)
    shop.close()
    (tmp_path / BUDGETS).write_bytes(b"nonsense" * 1000)
    (fault,) = shop.faults()
    assert fault.startswith("the budgets can't be read: ")
    (tmp_path / BUDGETS).unlink()
    assert shop.faults() == []


def test_budgets_that_were_lost_are_made_again(shop: Shop, tmp_path: Path) -> None:
    """Windows to the token, so that they agree again; buckets with all that may be missing; places are free."""
    before = shop.used(shop.file)
    now_ns = shop.till.now_ns()

    async def ask() -> dict[bytes, int]:
        ledger = shop.ledger()
        try:
            return await spent_of(ledger, shop.plan, now_ns)
        finally:
            await ledger.close()

    fresh = BudgetFile.create(tmp_path / "fresh")
    assert rebuild(fresh, shop.plan.every(), asyncio.run(ask()), now_ns) == 5
    made = shop.used(fresh)
    windows = {where: used for where, used in before.items() if where[2] == "month"}
    assert {where: made[where] for where in windows} == windows
    assert 200 < made["acme", "tokens", "1m"] <= 236
    assert ("acme", "concurrent", "") not in made
    fresh.close()
