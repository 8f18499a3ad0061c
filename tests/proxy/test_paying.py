"""Reserved before, settled after, once, whatever happens."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_layout import SLOT_COMPLETION, SLOT_COMPLETION_RATE, SLOT_PROMPT_RATE, SLOT_SENT, Slot
from gpubalancer.board.budgets import Till
from gpubalancer.brain.price import Rates
from gpubalancer.domain.budget import NOTHING, Spending
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.outcome import Outcome
from gpubalancer.domain.work import Work
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.generation import build_generation
from gpubalancer.proxy.local_store import LocalStore
from gpubalancer.proxy.paying import Cashier, Payment
from gpubalancer.wire.sweep import Sweeper
from tests.proxy.notebook import Notebook
from tests.wire.fakes import Clock


class Desk:
    """One cashier on a real file, and the plan of a tenant with these budgets."""

    def __init__(self, folder: Path, *budgets: dict[str, Any], patience: str = "0.001s", **sections: Any) -> None:
        price = {"usd_per_million_tokens": {"prompt": 1.0, "completion": 10.0}}
        backends = [{"name": "e", "url": "http://127.0.0.1:9", "models": ["m"], "price": price}]
        sections.setdefault("routing", {"queue": {"timeout": patience}})
        tenants = [{"name": "acme", "budgets": list(budgets)}, {"name": "free"}]
        policy = Policy.model_validate({"backends": backends, "tenants": tenants, **sections})
        clock = Clock()
        self.generation = build_generation(1, policy, {"e": 0, "f": 1}, {}, None, clock, Sweeper(clock))
        self.plan = self.generation.plan
        self.file = BudgetFile.create(folder / "budgets")
        self.till = Till(BudgetFile.attach(folder / "budgets"), 0)
        self.notebook = Notebook()
        self.cashier = Cashier(LocalStore(self.till), self.notebook)

    def close(self) -> None:
        """Let the file go."""
        self.cashier.close()
        self.file.close()

    def reserve(self, output: int = 90, tenant: str = "acme", outcome: Outcome | None = None) -> Payment:
        """Reserve for a request."""
        work = self.work(tenant)
        work.prompt_tokens, work.output_tokens_high = 10, output
        return asyncio.run(self.cashier.reserve(self.generation, work, None, outcome or Outcome("r", 0.0), {}))

    def work(self, tenant: str) -> Work:
        """A request of nothing yet."""
        return Work("chat", "m", 0, streamed=False, deadline_s=float("inf"), tenant=tenant)

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
    assert (desk.left(), desk.cashier.outstanding) == (900, 1)
    desk.cashier.end(payment, ended(prompt_tokens=12, completion_tokens=30))
    assert (desk.left(), desk.cashier.outstanding) == (958, 0)
    assert desk.notebook.spendings == [Spending(12, 0, 30, 1)]


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
    desk.cashier.end(payment, outcome)
    assert (desk.left(), desk.cashier.outstanding) == (1000, 0)


def test_a_client_that_left_pays_for_what_came(desk: Desk) -> None:
    """The prompt, and what had been streamed."""
    payment = desk.reserve()
    desk.cashier.end(payment, ended(reason="client_left", prompt_tokens=10, completion_tokens=7))
    assert desk.left() == 983


def test_more_than_there_is_becomes_debt(desk: Desk) -> None:
    """The next request is refused, and told not to come back this month."""
    payment = desk.reserve(output=900)
    desk.cashier.end(payment, ended(prompt_tokens=10, completion_tokens=2000))
    with pytest.raises(RequestError) as caught:
        desk.reserve()
    assert (caught.value.code, caught.value.status) == ("insufficient_quota", 429)
    assert b"x-ratelimit-remaining-tokens: 0\r\n" in caught.value.lines
    assert b"x-should-retry: false\r\n" in caught.value.lines


def test_a_tenant_without_budgets_is_recorded_all_the_same(desk: Desk) -> None:
    """It holds a slot, so that it is known if this process dies, and no reservation."""
    payment = desk.reserve(tenant="free")
    assert (payment.lines, desk.cashier.outstanding, desk.till.outstanding) == (b"", 0, 1)
    desk.cashier.end(payment, ended(prompt_tokens=12, completion_tokens=30))
    assert desk.till.outstanding == 0
    assert desk.notebook.spendings == [Spending(12, 0, 30, 1)]


def test_the_record_is_made_after_the_charge_and_before_the_slot_is_freed(desk: Desk) -> None:
    """So that whoever finds the slot of a dead worker knows what was charged, and looks whether it is on record."""
    seen: list[tuple[int, float]] = []

    class Looking(Notebook):
        def write(self, outcome: Outcome, spending: Spending, at_ns: int) -> bool:
            seen.append((desk.till.slots.state(0), desk.left()))
            return super().write(outcome, spending, at_ns)

    cashier = Cashier(LocalStore(desk.till), Looking())
    work = desk.work("acme")
    payment = asyncio.run(cashier.reserve(desk.generation, work, None, Outcome("r", 0.0), {}))
    cashier.end(payment, ended(prompt_tokens=12))
    assert seen == [(Slot.SETTLED, 988)]
    assert desk.till.slots.state(0) == Slot.FREE


def test_what_came_no_further_is_recorded_too(desk: Desk) -> None:
    """A request that was refused before it could reserve anything has a record, and no charge."""
    desk.cashier.end(None, ended(status=404, reason="model_not_found", sent_s=0.0))
    assert desk.notebook.spendings == [NOTHING]


def test_while_there_is_no_room_nothing_new_is_begun(desk: Desk) -> None:
    """What was in flight keeps its slot until its record is written; what is new is refused, unless told otherwise."""
    payment, other = desk.reserve(), desk.reserve()
    desk.notebook.has_room = False
    desk.cashier.end(payment, ended(prompt_tokens=12))
    assert (desk.left(), desk.till.outstanding) == (888, 2)
    with pytest.raises(RequestError) as caught:
        desk.reserve()
    assert (caught.value.code, caught.value.status) == ("journal_full", 503)
    serving = Cashier(LocalStore(desk.till), desk.notebook, refuses_unrecorded=False)
    asyncio.run(serving.reserve(desk.generation, desk.work("free"), None, Outcome("r", 0.0), {})).reservation.release(1)

    desk.cashier.note_progress()
    assert desk.till.outstanding == 2
    desk.notebook.has_room = True
    desk.cashier.note_progress()
    assert (desk.till.outstanding, desk.notebook.spendings) == (1, [Spending(12, 0, 0, 1)])
    desk.cashier.end(other, ended())
    assert desk.till.outstanding == 0


def test_a_record_that_another_took_along_frees_its_slot(desk: Desk) -> None:
    """There is room again before anybody looks whether there is."""
    payment, other = desk.reserve(), desk.reserve()
    desk.notebook.has_room = False
    desk.cashier.end(payment, ended(prompt_tokens=12))
    desk.notebook.has_room = True
    desk.cashier.end(other, ended(prompt_tokens=13))
    assert (desk.notebook.is_full, desk.till.outstanding) == (False, 1)
    desk.cashier.note_progress()
    assert desk.till.outstanding == 0


def test_headers_tell_the_tightest_budget(desk: Desk) -> None:
    """With the reservation taken off."""
    payment = desk.reserve()
    assert b"x-ratelimit-limit-tokens: 1000\r\nx-ratelimit-remaining-tokens: 900\r\n" in payment.lines
    desk.cashier.end(payment, ended())


def test_progress_is_written_for_who_would_settle_after_us(desk: Desk) -> None:
    """A worker that dies is charged for what it had streamed, as of its last note."""
    payment = desk.reserve()
    payment.reservation.sent(10, b"e")
    payment.streamed_tokens = lambda: 25
    desk.cashier.note_progress()

    assert desk.till.slots.cells[SLOT_COMPLETION] == 25
    desk.cashier.end(payment, ended())


def test_a_budget_that_waits_is_tried_again_within_the_clients_patience(tmp_path: Path) -> None:
    """Beyond it the request is refused at once, with the time that it would take."""
    queueing = {"unit": "requests", "limit": 1, "per": "100ms", "when_spent": "queue"}
    for patience, patient in (("1ms", False), ("5s", True)):
        folder = tmp_path / patience
        folder.mkdir()
        desk = Desk(folder, queueing, patience=patience)
        try:
            desk.reserve()
            if patient:
                desk.reserve()
            else:
                with pytest.raises(RequestError) as caught:
                    desk.reserve()
                assert caught.value.code == "rate_limit_exceeded"
        finally:
            desk.close()


def test_what_waited_is_told_its_place(tmp_path: Path) -> None:
    """In a header and in the record; one that is not held is told too, and when to come back."""
    desk = Desk(tmp_path, {"unit": "requests", "limit": 1, "per": "50ms", "when_spent": "queue"}, patience="5s")
    try:
        desk.reserve()
        outcome = Outcome("r", 0.0)
        payment = desk.reserve(outcome=outcome)
        assert payment is not None
        assert b"x-gpubalancer-queue-position: 1\r\n" in payment.lines
        assert outcome.budget_actions == (("acme", "requests", "50ms", "queued"),)
    finally:
        desk.close()
    (tmp_path / "slow").mkdir()
    desk = Desk(tmp_path / "slow", {"unit": "requests", "limit": 1, "per": "30s", "when_spent": "queue"}, patience="5s")
    try:
        desk.reserve()
        with pytest.raises(RequestError) as caught:
            desk.reserve()
        assert b"x-gpubalancer-queue-position: 1\r\n" in caught.value.lines
        assert caught.value.retry_after_s == pytest.approx(30, abs=1)
        assert desk.cashier.queue.waiting == 0
    finally:
        desk.close()


def test_a_shadow_budget_says_what_it_would_have_refused(tmp_path: Path) -> None:
    """The request is served, and the record says so."""
    desk = Desk(tmp_path, {"unit": "tokens", "limit": 50, "per": "month", "shadow": True})
    try:
        outcome = Outcome("r", 0.0)
        assert desk.reserve(outcome=outcome) is not None
        assert outcome.budget_actions == (("acme", "tokens", "month", "would_refuse"),)
    finally:
        desk.close()


TWO_KINDS = [
    {"name": "e", "url": "http://127.0.0.1:9", "models": ["m"], "kind": "gpu", "price": {"usd_per_hour": 3}},
    {"name": "f", "url": "http://127.0.0.1:8", "models": ["m"], "kind": "cpu", "price": {"usd_per_hour": 0.01}},
]


@pytest.mark.parametrize(("per", "left"), [("month", -100), ("1h", 0)])
def test_a_request_that_is_not_paid_for_becomes_a_cheaper_one(tmp_path: Path, per: str, left: float) -> None:
    """A window counts it and is not owed for it; a bucket, which has to refill, leaves it out."""
    desk = Desk(tmp_path, {"unit": "tokens", "limit": 100, "per": per, "when_spent": "downgrade"}, backends=TWO_KINDS)
    try:
        outcome = Outcome("r", 0.0)
        assert desk.reserve(outcome=outcome) is not None
        assert outcome.downgraded == ""
        payment = desk.reserve(outcome=outcome)
        assert outcome.downgraded == "kind=cpu"
        assert outcome.budget_actions == (("acme", "tokens", per, "downgraded"),)
        assert bool(payment.reservation.claims.terms) == (per != "1h")
        assert desk.left() == pytest.approx(left, abs=1)
    finally:
        desk.close()


def test_a_cheaper_model_is_on_record_with_what_the_rules_make_of_it(tmp_path: Path) -> None:
    """Its tier and the rule, which looks at the request's head again, are also what a dead worker's slot would tell."""
    home = {"name": "f", "url": "http://127.0.0.1:8", "models": ["small"], "clearance": "internal"}
    cloud = {"name": "e", "url": "http://127.0.0.1:9", "models": ["m", "small"], "clearance": "public"}
    rule = {"name": "home", "when": {"model": "small", "header": {"x-team": "red"}}, "set": {"tier": "internal"}}
    desk = Desk(
        tmp_path,
        {"unit": "requests", "limit": 1, "per": "month", "when_spent": "downgrade"},
        models={"m": {"downgrade_to": "small"}},
        backends=[cloud, home],
        routing={"rules": [rule]},
    )
    try:
        desk.reserve()
        work, outcome = desk.work("acme"), Outcome("r", 0.0)
        asyncio.run(desk.cashier.reserve(desk.generation, work, None, outcome, {b"x-team": b"red"}))
        assert (outcome.downgraded, outcome.model, outcome.tier, outcome.rules) == (
            "model=small", "small", "internal", ("home",),
        )  # fmt: skip
        label = desk.till.slots.label(1)
        assert label.split(b"\n")[4:6] == [b"internal", b"rule:home"]
        assert desk.generation.fleet.eligible(work).tolist() == [False, True]
    finally:
        desk.close()


def test_other_budgets_hold_for_the_cheaper_request_too(tmp_path: Path) -> None:
    """And where nothing is cheaper, the budget refuses."""
    spent = {"unit": "tokens", "limit": 1, "per": "month", "when_spent": "downgrade"}
    for number, (others, backends) in enumerate(
        [([{"unit": "requests", "limit": 1, "per": "month"}], TWO_KINDS), ([], TWO_KINDS[:1])]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        desk = Desk(folder, spent, *others, backends=backends)
        try:
            if others:
                assert desk.reserve() is not None
            with pytest.raises(RequestError) as caught:
                desk.reserve()
            assert caught.value.code == "insufficient_quota"
        finally:
            desk.close()


def test_money_is_reserved_by_the_dearest_price(tmp_path: Path) -> None:
    """So that requests at one time can't spend the same dollar."""
    desk = Desk(tmp_path, {"unit": "usd", "limit": 0.0015, "per": "month"})
    try:
        payment = desk.reserve()
        assert desk.left() == pytest.approx(0.0015 - 10e-6 - 90 * 10e-6)
        with pytest.raises(RequestError):
            desk.reserve()
        desk.cashier.end(payment, ended(prompt_tokens=10, completion_tokens=9, usd=0.0001))
        assert desk.left() == pytest.approx(0.0014)
    finally:
        desk.close()


def test_a_dead_workers_money_is_known_beforehand(tmp_path: Path) -> None:
    """What a backend charges is written beside the reservation before it gets the request."""
    desk = Desk(tmp_path, {"unit": "usd", "limit": 1, "per": "month"})
    try:
        payment = desk.reserve()
        rates = Rates(desk.generation.policy.backends[0].price, 0.0, 0.0, 0.0)
        payment.begin(10, Outcome("r", 0.0, backend="e", kind="gpu"), rates)
        cells = desk.till.slots.cells
        assert desk.till.slots.server(0) == b"e\ngpu"
        assert (cells[SLOT_SENT], cells[SLOT_PROMPT_RATE], cells[SLOT_COMPLETION_RATE]) == (1, 10**9, 10**10)
    finally:
        desk.close()
