"""The supervisor's end of shared budgets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gpubalancer.board import locks
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_recovery import Left
from gpubalancer.board.budget_slots import SlotFile, slots_path
from gpubalancer.brain.budget import BudgetPlan
from gpubalancer.domain.outcome import Outcome
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.label import label_of, payer_in
from gpubalancer.proxy.shared_budgets import SHARED, SharedBudgets
from tests.valkey.fake_server import Fake, bulk, play, serving, until

POLICY = Policy.model_validate(
    {
        "backends": [{"url": "http://127.0.0.1:9", "models": ["m"]}],
        "tenants": [{"name": "acme", "budgets": [{"unit": "tokens", "limit": 1000, "per": "1h"}]}],
    }
)
STATE = bulk(b"1 1700000000000000 0 400 0 1700000000000000 0 0")


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Fake, BudgetFile, SharedBudgets]]:
    """Shared budgets of which 400 are spent."""
    file = BudgetFile.create(folder / "budgets")
    plan = BudgetPlan(POLICY)
    async with serving(lambda step: STATE if step[1] == b"read" else bulk(b"1 5 0")) as fake:
        shared = SharedBudgets(f"valkey://127.0.0.1:{fake.port}", file, lambda: plan)
        try:
            yield fake, file, shared
        finally:
            shared.close()
            file.close()


def leave(file: BudgetFile, worker: int) -> None:
    """The slots of a worker that had one request in flight."""
    slots = SlotFile(slots_path(file.path.with_name(SHARED), worker))
    outcome = Outcome("r", 0.0, tenant="acme", model="m")
    slots.begin(slots.take(), 1, 7, (1,), (0,), b"session\n" + label_of(outcome))
    slots.close()


def test_what_is_left_is_what_the_server_says(tmp_path: Path) -> None:
    """Asked again and again; nothing before it has answered."""

    async def scene() -> None:
        async with opened(tmp_path) as (_, _, shared):
            assert list(shared.remaining()) == []
            await until(lambda: list(shared.remaining()))
            assert [(terms.owner, left) for terms, left in shared.remaining()] == [("acme", 600)]

    play(scene)


def test_only_what_dead_workers_left_is_taken_over(tmp_path: Path) -> None:
    """A row that is locked is a living worker's."""

    async def scene() -> None:
        async with opened(tmp_path) as (fake, file, shared):
            living = BudgetFile.attach(file.path)
            assert locks.try_lock(living.fd, locks.WORKER_BYTE + 1)
            for worker in (0, 1):
                leave(file, worker)
            found: list[Left] = []
            shared.recover(found.append)
            assert [each.label for each in found] == [label_of(Outcome("r", 0.0, tenant="acme", model="m"))]
            await until(lambda: not shared.settling)
            assert [step[1] for step in fake.steps if step[1] != b"read"] == [b"settle"]
            living.close()

    play(scene)


def test_a_label_names_its_payer() -> None:
    """The tenant, and the model if there was one."""
    assert payer_in(label_of(Outcome("r", 0.0, tenant="acme", model="m"))) == ("acme", "m")
    assert payer_in(label_of(Outcome("r", 0.0, tenant="acme"))) == ("acme", None)
    assert payer_in(b"") == ("", None)
