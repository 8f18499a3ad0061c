"""Budgets against a slow, obvious model: whatever happens, what the board says is left is what the model says.

Reserve, extend, settle, release, over-run, streams, time passing, the clock going back, reload with other limits,
restart of everything, and processes that die at any store of a change.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gpubalancer.board import budget_layout as layout
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_recovery import recover
from gpubalancer.board.budget_reservation import Reservation
from gpubalancer.board.budgets import Till
from gpubalancer.domain.budget import Claims, Spending, Terms
from tests.board.budget_terms import bucket, claims, gauge, till, window

WORKERS = 2


class Killed(BaseException):
    """The process dies here."""


class Dying:
    """Cells that let so many stores through and then die."""

    def __init__(self, cells: memoryview, stores: list[int]) -> None:
        self.cells, self.stores = cells, stores

    def __getitem__(self, at: Any) -> Any:
        return self.cells[at]

    def __setitem__(self, at: int, value: int) -> None:
        if not self.stores[0]:
            raise Killed
        self.stores[0] -= 1
        self.cells[at] = value


@dataclass
class Model:
    """One budget, the obvious way."""

    kind: str
    limit: int
    period: int
    level: Fraction = Fraction(0)
    seen: int = 0
    spent: int = 0
    debt: int = 0
    owed: int = 0
    reserved: int = 0

    def pass_time(self, now: int) -> None:
        if self.kind == "bucket" and now > self.seen:
            self.level = min(Fraction(self.limit), self.level + Fraction((now - self.seen) * self.limit, self.period))
        if self.kind == "window":
            begun = self.seen - self.seen % self.period
            while begun + self.period <= now:
                self.debt = min(self.debt + self.owed, max(0, self.debt + self.spent - self.reserved - self.limit))
                self.spent, self.owed, begun = self.reserved, 0, begun + self.period
        self.seen = max(self.seen, now)

    def left(self) -> int:
        if self.kind == "bucket":
            return self.level.numerator // self.level.denominator
        return self.limit - self.reserved if self.kind == "gauge" else self.limit - self.debt - self.spent

    def take(self, need: int) -> None:
        self.level -= need
        self.spent += need
        self.reserved += need

    def settle(self, held: int, actual: int) -> None:
        self.level = min(Fraction(self.limit), self.level + held - actual)
        self.spent = max(0, self.spent + actual - held)
        self.reserved -= held
        self.owed += max(0, min(actual - held, self.debt + self.spent - self.limit))


@dataclass
class Request:
    """A reservation and what the model knows of it."""

    reservation: Reservation
    worker: int
    names: tuple[str, ...]
    held: Spending
    streamed: Spending = field(default=Spending())
    more: int = 0
    """Tokens that were reserved later, in the budgets that end an answer."""

    def held_in(self, name: str) -> int:
        """What is reserved in a budget."""
        return amount(name, self.held, reserving=True) + (self.more if name in STOPPING else 0)


STOPPING = frozenset(("key", "team"))
"""Budgets that end an answer when they are spent."""


def amount(name: str, spending: Spending, *, reserving: bool) -> int:
    """What a spending is in a budget of this machine."""
    if name == "places":
        return 1 if reserving else 0
    if name == "calls":
        return spending.requests
    return spending.prompt_tokens + spending.completion_tokens


SPENDINGS = st.builds(lambda prompt, completion: Spending(prompt, 0, completion, 1), *[st.integers(0, 30)] * 2)
PAYERS = st.sampled_from([("key", "team", "org"), ("team", "org"), ("other", "org", "calls"), ("other", "places")])


class Budgets(RuleBasedStateMachine):
    """The machine."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "budgets"
        self.now = 10_000
        self.floor = self.now
        self.limits = {"key": 40, "team": 70, "org": 120, "other": 55, "calls": 6, "places": 3}
        self.models = {
            "key": Model("bucket", 40, 1000, Fraction(40)),
            "team": Model("window", 70, 3000),
            "org": Model("bucket", 120, 777, Fraction(120)),
            "other": Model("window", 55, 500),
            "calls": Model("bucket", 6, 90, Fraction(6)),
            "places": Model("gauge", 3, 0),
        }
        self.requests: list[Request] = []
        self.reload({})
        self.start()

    def start(self) -> None:
        self.file = BudgetFile.create(self.path)
        self.tills = [till(self.path, worker) for worker in range(WORKERS)]

    def make(self, name: str) -> Terms:
        model, limit = self.models[name], self.limits[name]
        if model.kind == "gauge":
            return gauge(name, limit)
        unit = "requests" if name == "calls" else "tokens"
        made: Callable[..., Terms] = bucket if model.kind == "bucket" else window
        return made(name, limit, model.period, unit=unit, stops=name in STOPPING)

    def reload(self, limits: dict[str, int]) -> None:
        self.limits |= limits
        self.terms = {name: self.make(name) for name in self.limits}
        self.claims: dict[tuple[str, ...], Claims] = {}
        for name, limit in limits.items():
            model = self.models[name]
            # What is spent stays spent: a bucket's level moves with its limit. A window that ended before is closed by
            # the next request, with the limit of then.
            model.level += limit - model.limit
            model.limit = limit

    def paying(self, names: tuple[str, ...]) -> Claims:
        return self.claims.setdefault(names, claims(*(self.terms[name] for name in names)))

    @rule(time=st.integers(1, 4000))
    def time_passes(self, time: int) -> None:
        """Later."""
        self.now += time

    @rule(time=st.integers(1, 4000))
    def clock_goes_back(self, time: int) -> None:
        """Somebody sets the clock."""
        self.now = max(self.floor, self.now - time)

    @rule(worker=st.integers(0, WORKERS - 1), names=PAYERS, wanted=SPENDINGS)
    def reserve(self, worker: int, names: tuple[str, ...], wanted: Spending) -> None:
        """A request is admitted exactly if the model would."""
        answer = self.tills[worker].reserve(self.paying(names), wanted, self.now, b"some label")
        after = {name: _copy(self.models[name]) for name in names}
        for model in after.values():
            model.pass_time(self.now)
        needs = {name: amount(name, wanted, reserving=True) for name in names}
        fits = all(needs[name] <= model.left() for name, model in after.items())
        assert isinstance(answer, Reservation) == fits
        if isinstance(answer, Reservation):
            for name, model in after.items():
                model.take(needs[name])
            self.models |= after
            self.requests.append(Request(answer, worker, names, wanted))
        else:
            stands = answer.standing
            assert stands.remaining < max(needs.values())

    def settle_model(self, request: Request, spending: Spending) -> None:
        for name in request.names:
            model = self.models[name]
            model.pass_time(self.now)
            model.settle(request.held_in(name), amount(name, spending, reserving=False))

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), spending=SPENDINGS, keep=st.booleans())
    def settle(self, data: st.DataObject, spending: Spending, keep: bool) -> None:
        """Once, also if it is called twice, over-run included."""
        request = self.requests.pop(data.draw(st.integers(0, len(self.requests) - 1)))
        request.reservation.settle(spending, self.now, keep=keep)
        request.reservation.settle(Spending(9, 0, 9, 1), self.now)
        request.reservation.release(self.now)
        request.reservation.forget()
        self.settle_model(request, spending)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """As if it had never been."""
        request = self.requests.pop(data.draw(st.integers(0, len(self.requests) - 1)))
        request.reservation.release(self.now)
        self.settle_model(request, Spending())

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), tokens=st.integers(1, 30))
    def extend(self, data: st.DataObject, tokens: int) -> None:
        """More is reserved exactly if it fits in all budgets that would end the answer."""
        request = self.requests[data.draw(st.integers(0, len(self.requests) - 1))]
        after = {name: _copy(self.models[name]) for name in request.names}
        for model in after.values():
            model.pass_time(self.now)
        stopping = [model for name, model in after.items() if name in STOPPING]
        fits = all(tokens <= model.left() for model in stopping)
        assert request.reservation.extend(Spending(0, 0, tokens), self.now) == fits
        if fits:
            for model in stopping:
                model.take(tokens)
            self.models |= after
            request.more += tokens

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), spending=SPENDINGS)
    def stream(self, data: st.DataObject, spending: Spending) -> None:
        """So much has come."""
        request = self.requests[data.draw(st.integers(0, len(self.requests) - 1))]
        request.reservation.sent(spending.prompt_tokens)
        request.reservation.progress(spending.completion_tokens)
        request.streamed = spending

    @rule(name=st.sampled_from(["key", "team", "org", "other", "calls", "places"]), percent=st.integers(30, 200))
    def limit_changes(self, name: str, percent: int) -> None:
        """A reload: requests in flight keep the terms they began with."""
        if any(name in request.names for request in self.requests):
            return
        row = self.file.find(self.terms[name].id)
        if row is None or (self.models[name].kind == "bucket" and self.models[name].level < self.models[name].limit):
            return
        self.reload({name: max(1, self.limits[name] * percent // 100)})

    @rule()
    def restart(self) -> None:
        """All processes end at once, without a word, and start anew."""
        for each in self.tills:
            each.close()
        self.file.close()
        self.file = BudgetFile.create(self.path)
        assert self.file.set_aside is None
        for worker in range(WORKERS):
            self.recover(worker)
        self.tills = [till(self.path, worker) for worker in range(WORKERS)]

    def recover(self, worker: int, made: Request | None = None) -> None:
        """Settle what a worker left, in the order of its slots, after what it had settled itself (`made`)."""
        gone = [request for request in self.requests if request.worker == worker]
        gone.sort(key=lambda request: (request is not made, request.reservation._slot))
        self.requests = [request for request in self.requests if request.worker != worker]
        by_id = {terms.id: terms for terms in self.terms.values()}
        found: list[Any] = []
        recover(self.file, worker, by_id.get, self.now, found.append)
        assert all(left.label == b"some label" for left in found)
        for request in gone:
            self.settle_model(request, request.streamed)

    def die(self, worker: int, stores: int, act: Callable[[Till], object]) -> bool:
        """Kill a worker at one of the stores of what it does; True if it died."""
        dying, left = self.tills[worker], [stores]
        file, slots = dying._file, dying.slots
        file.cells, slots.cells = Dying(file.cells, left), Dying(slots.cells, left)  # type: ignore[assignment]
        died = False
        try:
            act(dying)
        except Killed:
            died = True
        file.cells, slots.cells = file.cells.cells, slots.cells.cells  # type: ignore[attr-defined]
        self.floor = self.now = max(self.now, self.floor)
        return died

    @rule(worker=st.integers(0, WORKERS - 1), names=PAYERS, wanted=SPENDINGS, stores=st.integers(0, 9))
    def dies_reserving(self, worker: int, names: tuple[str, ...], wanted: Spending, stores: int) -> None:
        """What it reserved or was about to reserve comes back."""
        for name in names:
            self.models[name].pass_time(self.now)
        self.tills[worker].standings(self.paying(names), self.now)
        self.die(worker, stores, lambda dying: dying.reserve(self.paying(names), wanted, self.now, b"some label"))
        self.tills[worker].close()
        self.recover(worker)
        self.tills[worker] = till(self.path, worker)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), spending=SPENDINGS, stores=st.integers(0, 20))
    def dies_settling(self, data: st.DataObject, spending: Spending, stores: int) -> None:
        """What it was settling is settled, once."""
        request = self.requests[data.draw(st.integers(0, len(self.requests) - 1))]
        spending = spending._replace(requests=1)
        request.reservation.sent(spending.prompt_tokens)
        request.reservation.progress(spending.completion_tokens)
        request.streamed = spending
        before = self.last_op(request.worker)
        self.die(request.worker, stores, lambda dying: request.reservation.settle(spending, self.now, keep=True))
        made = request if self.last_op(request.worker) != before else None
        self.tills[request.worker].close()
        self.recover(request.worker, made)
        self.tills[request.worker] = till(self.path, request.worker)

    def last_op(self, worker: int) -> int:
        """The number of the last change that a worker has begun to carry out."""
        return self.file.cells[(layout.REDO_AT + worker * layout.REDO_BYTES) // layout.CELL_BYTES + layout.REDO_OP]

    @invariant()
    def what_is_left_is_what_the_model_says(self) -> None:
        """To the unit, for each budget, and nothing is reserved but by requests in flight."""
        for name, model in self.models.items():
            terms = self.terms[name]
            row = self.file.find(terms.id)
            if row is None:
                continue
            now = max(self.now, model.seen)
            state, copy = terms.at(self.file.state(row), now), _copy(model)
            copy.pass_time(now)
            assert terms.remaining(state) == copy.left(), name
            expected = sum(each.held_in(name) for each in self.requests if name in each.names)
            assert state[1] == model.reserved == expected, name

    def teardown(self) -> None:
        for each in self.tills:
            each.close()
        self.file.close()
        self.folder.cleanup()


def _copy(model: Model) -> Model:
    return Model(**vars(model))


TestBudgets = Budgets.TestCase
TestBudgets.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestBudgets.__doc__ = "The board's budgets are the model's, whatever happens to them."
