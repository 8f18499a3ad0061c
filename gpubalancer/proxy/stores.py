"""Where budgets are kept, as `state.budgets` says: on this machine's board, or on a server that balancers share."""

import os
from collections.abc import Callable
from pathlib import Path

from gpubalancer.board import locks
from gpubalancer.board.board import BoardError
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_slots import slots_path
from gpubalancer.board.budgets import Till
from gpubalancer.brain.budget_store import Store
from gpubalancer.policy.schema import Policy
from gpubalancer.policy.valkey_url import read_address
from gpubalancer.proxy.local_store import LocalStore
from gpubalancer.proxy.shared_budgets import SHARED
from gpubalancer.valkey.store import ValkeyStore


def open_store(budgets: Path, worker: int, policy: Callable[[], Policy]) -> Store:
    """One worker's way to the budgets.

    Arguments:
        budgets: the local file of budgets; on it each worker's row is locked, wherever budgets are counted.
        worker: the worker row.
        policy: the one in force.

    Errors:
        BoardError: a living process uses this worker row.
    """
    file, url = BudgetFile.attach(budgets), policy().state.budgets_url
    if url is None:
        return LocalStore(Till(file, worker))
    if not locks.try_lock(file.fd, locks.WORKER_BYTE + worker):
        raise BoardError(f"worker row {worker} of {budgets.name} is in use by another process")
    return ValkeyStore(
        read_address(url),
        os.urandom(8).hex(),
        slots_path(budgets.with_name(SHARED), worker),
        goes_on=lambda: policy().state.budgets_outage == "share",
        lock=file,
    )
