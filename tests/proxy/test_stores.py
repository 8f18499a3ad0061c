"""Where budgets are kept, as the policy says."""

import asyncio
from pathlib import Path

import pytest

from gpubalancer.board.board import BoardError
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.local_store import LocalStore
from gpubalancer.proxy.stores import open_store
from gpubalancer.valkey.store import ValkeyStore


def policy(budgets: str) -> Policy:
    """One backend, and budgets there."""
    return Policy.model_validate({"backends": [{"url": "http://127.0.0.1:9"}], "state": {"budgets": budgets}})


@pytest.mark.parametrize(("budgets", "kind"), [("local", LocalStore), ("valkey://127.0.0.1:1", ValkeyStore)])
def test_each_worker_row_is_one_workers(tmp_path: Path, budgets: str, kind: type) -> None:
    """On the board or on a server; a second process is refused, and a successor is not."""

    async def scene() -> None:
        file = BudgetFile.create(tmp_path / "budgets")
        store = open_store(file.path, 0, lambda: policy(budgets))
        assert isinstance(store, kind)
        with pytest.raises(BoardError, match="in use"):
            open_store(file.path, 0, lambda: policy(budgets))
        store.close()
        open_store(file.path, 0, lambda: policy(budgets)).close()
        file.close()

    asyncio.run(scene())
