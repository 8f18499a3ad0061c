"""What is asked of a store: the local till's reservations are what the protocol says."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budgets import Till
from gpubalancer.brain.budget_store import Held, Store
from gpubalancer.domain.budget import Claims, Refusal, Spending
from tests.board.budget_terms import claims, till, window


class Local:
    """A till behind the protocol."""

    def __init__(self, own: Till) -> None:
        self.own = own

    def now_ns(self) -> int:
        return self.own.now_ns()

    def reserve(self, asked: Claims, expected: Spending, now_ns: int, label: bytes = b"") -> Awaitable[Held | Refusal]:
        async def answer() -> Held | Refusal:
            return self.own.reserve(asked, expected, now_ns, label)

        return answer()


def test_a_till_serves_as_a_store(tmp_path: Path) -> None:
    """Reserve, settle, and be refused."""
    file = BudgetFile.create(tmp_path / "budgets")
    store: Store = Local(till(file.path))
    asked = claims(window("w", 10))

    async def talk() -> None:
        held = await store.reserve(asked, Spending(5, 0, 5, 1), store.now_ns())
        assert not isinstance(held, Refusal)
        assert isinstance(await store.reserve(asked, Spending(5, 0, 5, 1), store.now_ns()), Refusal)
        held.release(store.now_ns())
        assert not isinstance(await store.reserve(asked, Spending(5, 0, 5, 1), store.now_ns()), Refusal)

    asyncio.run(talk())
