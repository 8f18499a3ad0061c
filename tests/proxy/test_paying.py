"""Reserved before, settled after, once, whatever happens."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_layout import SLOT_COMPLETION
from gpubalancer.board.budgets import Till
from gpubalancer.brain.budget import BudgetPlan
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.outcome import Outcome
from gpubalancer.domain.work import Work
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.paying import Cashier, Payment


class Desk:
    """One cashier on a real file, and the plan of a tenant with these budgets."""

    def __init__(self, folder: Path, *budgets: dict[str, Any]) -> None:
        backends = [{"url": "http://127.0.0.1:9", "models": ["m"]}]
        tenants = [{"name": "acme", "budgets": list(budgets)}, {"name": "free"}]
        self.plan = BudgetPlan(Policy.model_validate({"backends": backends, "tenants": tenants}))
        self.file = BudgetFile.create(folder / "budgets")
        self.till = Till(BudgetFile.attach(folder / "budgets"), 0)
        self.cashier = Cashier(self.till)

    def close(self) -> None:
        """Let the file go."""
        self.cashier.close()
        self.file.close()

    def reserve(
        self, prompt: int = 10, output: int = 90, tenant: str = "acme", patience_s: float = 0.0
    ) -> Payment | None:
        """Reserve for a request."""
        work = Work("chat", "m", 0, streamed=False, deadline_s=float("inf"), tenant=tenant)
        work.prompt_tokens, work.output_tokens_high = 10, output
        return asyncio.run(self.cashier.reserve(self.plan, work, None, Outcome("r", 0.0), patience_s))

    def left(self) -> float:
        """What is left of the first budget."""
        claims = self.plan.claims("acme", "m")
        assert claims is not None
        return self.till.standings(claims, self.till.now_ns())[0].remaining


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A month's budget of 1,000 tokens."""
    made = Desk(tmp_path, {"unit": "tokens", "limit": 1000, "per": "month"})
    yield made
    made.close()


def ended(**fields: Any) -> Outcome:
    """A request that was served, unless told otherwise."""
    outcome = Outcome("r", 0.0, sent_s=1.0, status=200)
    for name, value in fields.items():
        setattr(outcome, name, value)
    return outcome


def test_what_is_reserved_becomes_what_was_used(desk: Desk) -> None:
    """The estimate holds the budget until the fact takes its place."""
    payment = desk.reserve()
    assert payment is not None
    assert (desk.left(), desk.cashier.outstanding) == (900, 1)
    desk.cashier.settle(payment, ended(prompt_tokens=12, completion_tokens=30))
    assert (desk.left(), desk.cashier.outstanding) == (958, 0)
    desk.cashier.settle(payment, ended(prompt_tokens=500))
    assert desk.left() == 958


@pytest.mark.parametrize(
    "outcome",
    [
        ended(status=503, reason="no_backend", sent_s=0.0),
        ended(status=502, reason="backend_failed"),
        ended(status=400),
        ended(sent_s=0.0, status=0, reason="client_left"),
    ],
)
def test_what_was_not_served_costs_nothing(desk: Desk, outcome: Outcome) -> None:
    """A refusal, a failure and a client that left in the queue give all back."""
    payment = desk.reserve()
    assert payment is not None
    desk.cashier.settle(payment, outcome)
    assert (desk.left(), desk.cashier.outstanding) == (1000, 0)


def test_a_client_that_left_pays_for_what_came(desk: Desk) -> None:
    """The prompt, and what had been streamed."""
    payment = desk.reserve()
    assert payment is not None
    desk.cashier.settle(payment, ended(reason="client_left", prompt_tokens=10, completion_tokens=7))
    assert desk.left() == 983


def test_more_than_there_is_becomes_debt(desk: Desk) -> None:
    """The next request is refused, and told not to come back this month."""
    payment = desk.reserve(output=900)
    assert payment is not None
    desk.cashier.settle(payment, ended(prompt_tokens=10, completion_tokens=2000))
    with pytest.raises(RequestError) as caught:
        desk.reserve()
    assert (caught.value.code, caught.value.status) == ("insufficient_quota", 429)
    assert b"x-ratelimit-remaining-tokens: 0\r\n" in caught.value.lines
    assert b"x-should-retry: false\r\n" in caught.value.lines


def test_a_tenant_without_budgets_pays_nothing(desk: Desk) -> None:
    """No reservation is made."""
    assert desk.reserve(tenant="free") is None


def test_headers_tell_the_tightest_budget(desk: Desk) -> None:
    """With the reservation taken off."""
    payment = desk.reserve()
    assert payment is not None
    assert b"x-ratelimit-limit-tokens: 1000\r\nx-ratelimit-remaining-tokens: 900\r\n" in payment.lines
    desk.cashier.settle(payment, ended())


def test_progress_is_written_for_who_would_settle_after_us(desk: Desk) -> None:
    """A worker that dies is charged for what it had streamed, as of its last note."""
    payment = desk.reserve()
    assert payment is not None
    payment.reservation.sent(10)
    payment.streamed_tokens = lambda: 25
    desk.cashier.note_progress()

    assert desk.till.slots.cells[SLOT_COMPLETION] == 25
    desk.cashier.settle(payment, ended())


def test_a_budget_that_waits_is_tried_again_within_the_clients_patience(tmp_path: Path) -> None:
    """Beyond it the request is refused at once, with the time that it would take."""
    desk = Desk(tmp_path, {"unit": "requests", "limit": 1, "per": "100ms", "when_spent": "queue"})
    try:
        first = desk.reserve()
        assert first is not None
        with pytest.raises(RequestError) as caught:
            desk.reserve(patience_s=0.0)
        assert caught.value.code == "rate_limit_exceeded"
        assert desk.reserve(patience_s=5.0) is not None
    finally:
        desk.close()
