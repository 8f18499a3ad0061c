"""What is asked of a store: the local one is what the protocol says."""

import asyncio
from pathlib import Path

from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.brain.budget_store import Store
from gpubalancer.domain.budget import Refusal, Spending
from gpubalancer.proxy.local_store import LocalStore
from tests.board.budget_terms import claims, till, window


def test_a_till_serves_as_a_store(tmp_path: Path) -> None:
    """Reserve, settle, and be refused."""
    file = BudgetFile.create(tmp_path / "budgets")
    store: Store = LocalStore(till(file.path))
    asked = claims(window("w", 10))

    async def talk() -> None:
        held = await store.reserve(asked, Spending(5, 0, 5, 1))
        assert not isinstance(held, Refusal)
        assert isinstance(await store.reserve(asked, Spending(5, 0, 5, 1)), Refusal)
        assert store.late == 0
        held.release(store.now_ns())
        assert not isinstance(await store.reserve(asked, Spending(5, 0, 5, 1)), Refusal)

    asyncio.run(talk())
    store.close()
    file.close()
