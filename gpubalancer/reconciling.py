"""Budgets and the ledger, each made from the other's side: held against it, and made again from it.

Both add up what the ledger has, by the claims that the policy makes on each request. Calendar windows come out to the
token. What was charged to a bucket at some time says nothing, as it refills, so buckets are not compared; one that is
made again begins with all that may still be missing from it.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpubalancer.board.board import BoardError
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_recovery import counts_since_ns
from gpubalancer.brain.budget import BudgetPlan
from gpubalancer.domain.budget import MILLION, SCALE, SECOND_NS, Spending, Terms, Window
from gpubalancer.ledger.ingest import Ledger
from gpubalancer.ledger.store import Store, Taken
from gpubalancer.ledger.verify import BudgetCheck
from gpubalancer.policy.schema import Policy

BUDGETS = "budgets"
"""The file's name in the state directory."""
APART_NS = SECOND_NS
"""What ends within this around a look at budgets in use may be in them or not."""


async def charged(store: Store, plan: BudgetPlan, since_ns: Mapping[Terms, int], until_ns: int) -> dict[bytes, int]:
    """What some budgets were charged, by id, as far as the ledger has it.

    Arguments:
        store: the ledger's.
        plan: which requests count in which budget.
        since_ns: for each budget, from when on.
        until_ns: before when.

    Errors:
        StoreError: the database can't be used now.
    """
    sums = {terms.id: 0 for terms in since_ns}
    questions: dict[tuple[int, int], set[bytes]] = {}
    for terms, from_ns in since_ns.items():
        questions.setdefault((from_ns // 1000, MILLION - terms.cached_millionths), set()).add(terms.id)
    for (from_us, spared), asked in questions.items():
        for taken in await store.taken(from_us, until_ns // 1000, spared):
            claims = plan.claims_of_record(taken.tenant, taken.model, taken.key_id)
            for terms in claims.terms if claims is not None else ():
                if terms.id in asked:
                    sums[terms.id] += terms.charge(_spending(taken))
    return sums


async def spent_of(ledger: Ledger, plan: BudgetPlan, now_ns: int) -> dict[bytes, int]:
    """What of each budget's spending still counts, to make budgets again that were lost.

    Errors:
        StoreError: the database can't be used now.
    """
    await ledger.catch_up()
    since_ns = {terms: counts_since_ns(terms, now_ns) for terms in plan.every() if terms.unit != "concurrent"}
    return await charged(ledger.store, plan, since_ns, now_ns + APART_NS)


@dataclass(frozen=True, slots=True)
class _Stand:
    """What one window has been charged, and since when."""

    terms: Terms
    amount: int
    since_ns: int


def budget_check(policy: Policy) -> BudgetCheck:
    """What holds a policy's budgets, as they are now, against a ledger that has taken in all that the journal has now.

    A window is compared from when it was first used under its present terms on: an earlier part of it is not known to
    the budget. Budgets that another server counts are left out.
    """
    path, plan, now_ns = policy.state.directory / BUDGETS, BudgetPlan(policy), time.time_ns()
    stands: list[_Stand] = []
    trouble: list[str] = []
    if policy.state.budgets_url is None and path.exists():
        try:
            stands = _look(path, plan, now_ns)
        except (BoardError, OSError) as error:
            trouble.append(f"the budgets can't be read: {error}")

    async def check(store: Store) -> list[str]:
        since_ns = {stand.terms: stand.since_ns for stand in stands}
        least = await charged(store, plan, since_ns, now_ns - APART_NS)
        most = await charged(store, plan, since_ns, now_ns + APART_NS)
        return trouble + [
            _difference(stand, most[stand.terms.id])
            for stand in stands
            if not least[stand.terms.id] <= stand.amount <= most[stand.terms.id]
        ]

    return check


def _look(path: Path, plan: BudgetPlan, now_ns: int) -> list[_Stand]:
    file = BudgetFile.attach(path)
    stands = []
    try:
        for terms in plan.every():
            row = file.find(terms.id)
            if row is None or not isinstance(terms, Window):
                continue
            used, reserved, began_ns, _, _ = terms.at(file.state(row), now_ns)
            stands.append(_Stand(terms, used - reserved, max(began_ns, file.born_ns(row))))
    finally:
        file.close()
    return stands


def _difference(stand: _Stand, ledger: int) -> str:
    terms, scale = stand.terms, SCALE[stand.terms.unit]
    what = f"the budget of {terms.owner}, {terms.unit.replace('_', ' ')} per {terms.per}"
    return f"{what}, was charged {stand.amount / scale:,.9g}, the ledger has {ledger / scale:,.9g}"


def _spending(taken: Taken) -> Spending:
    """The sums as one request's; what cached tokens spare has been taken off, for each request on its own."""
    sums = taken.sums
    prompt_tokens = sums.prompt_tokens - taken.spared_tokens
    return Spending(prompt_tokens, 0, sums.completion_tokens, sums.requests, sums.nano_usd, sums.millijoules)
