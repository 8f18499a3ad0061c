"""The server's script against the budgets of the domain, whatever happens: the same answers and the same states.

Buckets, windows, places and shadows; payers that share parents; reserve, extend, settle once and twice, sessions that
die, reservations that come late or never, reloads with other limits, time passing and the clock going back. The script
runs on a real server, with its time given by the test in the place of the server's own.
"""

import itertools
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, ClassVar

import hiredis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from gpubalancer.domain.budget import NEW, NOTHING, Claims, Spending, State, Terms
from gpubalancer.valkey.claims_text import Text, read, write, write_spending
from tests.board.budget_terms import bucket, claims, gauge, window
from tests.real.valkey_server import running

pytestmark = pytest.mark.real

CLOCK = "local time = redis.call('TIME')\nlocal now = tonumber(time[1]) * 1000000 + tonumber(time[2])"
SCRIPT = files("gpubalancer.valkey").joinpath("budget.lua").read_text()
TAG = "{test}"
US = 1000
PAYERS = st.sampled_from(
    [("key", "team", "org"), ("team", "org"), ("other", "org", "calls"), ("other", "places", "shade")]
)
SPENDINGS = st.builds(
    lambda prompt, cached, completion: Spending(prompt, min(prompt, cached), completion, 1), *[st.integers(0, 30)] * 3
)


class Client:
    """A connection on which one command follows the other."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.reader = hiredis.Reader()

    def ask(self, *parts: Any) -> Any:
        """A command's reply."""
        self.socket.sendall(hiredis.pack_command(parts))
        while (reply := self.reader.gets()) is False:
            self.reader.feed(self.socket.recv(65536))
        assert not isinstance(reply, hiredis.ReplyError), reply
        return reply


@dataclass
class Flying:
    """A reservation, and what it holds of each budget by our own reckoning."""

    session: str
    number: int
    asked: Claims
    text: Text
    held: list[int]

    def until_ns(self, place: int) -> int | None:
        """The end of the last window that the server was told of when it was reserved."""
        starts = sorted(self.text.starts[place].values())
        return 2 * starts[2] - starts[1] if starts else None


class Script(RuleBasedStateMachine):
    """The machine."""

    client: ClassVar[Client]

    def __init__(self) -> None:
        super().__init__()
        assert CLOCK in SCRIPT
        self.client.ask("FLUSHALL")
        self.sha = self.client.ask("SCRIPT", "LOAD", SCRIPT.replace(CLOCK, "local now = tonumber(ARGV[#ARGV])"))
        self.now = 1_000_000
        self.numbers = itertools.count(1)
        self.flying: list[Flying] = []
        self.terms: dict[str, Terms] = {
            "key": bucket("key", 40, 1000 * US, stops=True),
            "team": window("team", 70, 3000 * US, cached_millionths=250_000, stops=True),
            "org": bucket("org", 120, 777 * US),
            "other": window("other", 55, 500 * US),
            "calls": bucket("calls", 6, 90 * US, unit="requests"),
            "places": gauge("places", 3),
            "shade": window("shade", 20, 900 * US, shadow=True),
        }
        self.names = {terms.id: name for name, terms in self.terms.items()}
        self.states: dict[str, State] = dict.fromkeys(self.terms, NEW)

    def step(self, *parts: Any) -> bytes:
        """One step of the script, now."""
        reply = self.client.ask("EVALSHA", self.sha, 1, f"{TAG}:s", parts[0], TAG, *parts[1:], self.now)
        assert isinstance(reply, bytes)
        return reply

    def at(self, terms: Terms, until_ns: int | None = None) -> State:
        """A budget as time has changed it; a window whose bounds were sent so long ago stands still."""
        state, now_ns = self.states[self.names[terms.id]], self.now * US
        return state if until_ns is not None and now_ns >= until_ns else terms.at(state, now_ns)

    @rule(time=st.integers(1, 4000))
    def time_passes(self, time: int) -> None:
        """Later."""
        self.now += time

    @rule(time=st.integers(1, 4000))
    def clock_goes_back(self, time: int) -> None:
        """A server whose clock was set, or another one after a failover."""
        self.now = max(1_000_000, self.now - time)

    @rule(names=PAYERS, wanted=SPENDINGS, session=st.sampled_from("ab"), late=st.booleans())
    def reserve(self, names: tuple[str, ...], wanted: Spending, session: str, late: bool) -> None:
        """Admitted exactly if the domain would; one that was given up before it came is not."""
        asked = claims(*(self.terms[name] for name in names))
        text, number = write(asked, self.now * US), next(self.numbers)
        if late:
            self.step("settle", session, number, write_spending(NOTHING), text.data)
            self.charge(asked, NOTHING)
        answer = read(self.step("reserve", session, number, text.data, write_spending(wanted)), asked, text)
        if late:
            assert answer.code == 2
            return
        before = [self.at(terms) for terms in asked.terms]
        needs = [terms.need(wanted) for terms in asked.terms]
        short = [need > terms.remaining(state) for terms, state, need in zip(asked.terms, before, needs, strict=True)]
        fits = not any(is_short and not terms.shadow for is_short, terms in zip(short, asked.terms, strict=True))
        assert answer.code == fits
        if fits:
            assert answer.more == sum(1 << place for place, is_short in enumerate(short) if is_short)
            for terms, state, need in zip(asked.terms, before, needs, strict=True):
                self.states[self.names[terms.id]] = terms.take(state, need)
            self.flying.append(Flying(session, number, asked, text, needs))

    def charge(self, asked: Claims, spending: Spending) -> None:
        """What nothing was reserved for."""
        for terms in asked.terms:
            self.states[self.names[terms.id]] = terms.settle(self.at(terms), 0, terms.charge(spending))

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), spending=SPENDINGS, again=st.integers(0, 2))
    def settle(self, data: st.DataObject, spending: Spending, again: int) -> None:
        """Once, also if it comes several times."""
        request = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        for tries in range(again + 1):
            reply = self.step("settle", request.session, request.number, write_spending(spending), b"")
            assert reply.startswith(b"0" if tries else b"1")
        for place, terms in enumerate(request.asked.terms):
            before = self.at(terms, request.until_ns(place))
            state = terms.settle(before, request.held[place], terms.charge(spending))
            self.states[self.names[terms.id]] = state

    @rule(names=PAYERS, spending=SPENDINGS, again=st.integers(0, 2))
    def settle_what_was_never_reserved(self, names: tuple[str, ...], spending: Spending, again: int) -> None:
        """What was spent while the server was away, once."""
        asked = claims(*(self.terms[name] for name in names))
        text, number = write(asked, self.now * US), next(self.numbers)
        for tries in range(again + 1):
            reply = self.step("settle", "a", number, write_spending(spending), text.data)
            assert reply.startswith(b"0" if tries else b"1")
        self.charge(asked, spending)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), tokens=st.integers(1, 20))
    def extend(self, data: st.DataObject, tokens: int) -> None:
        """Exactly if it fits in the budgets that end an answer."""
        request = self.flying[data.draw(st.integers(0, len(self.flying) - 1))]
        more = Spending(0, 0, tokens)
        before = [self.at(terms, request.until_ns(place)) for place, terms in enumerate(request.asked.terms)]
        needs = [terms.charge(more) if terms.stops else 0 for terms in request.asked.terms]
        rows = list(zip(request.asked.terms, before, needs, strict=True))
        fits = all(terms.shadow or need <= max(0, terms.remaining(state)) for terms, state, need in rows)
        reply = self.step("extend", request.session, request.number, write_spending(more))
        assert reply.startswith(b"1" if fits else b"0")
        if fits:
            for terms, state, need in rows:
                self.states[self.names[terms.id]] = terms.take(state, need)
            request.held = [held + need for held, need in zip(request.held, needs, strict=True)]

    @rule(session=st.sampled_from("ab"))
    def a_session_dies(self, session: str) -> None:
        """It was not heard of for its lease: what it holds comes back, and what it settles later is still charged."""
        self.step("beat", session, 10**6)
        self.now += 1
        living = "b" if session == "a" else "a"
        self.step("beat", living, 10**6)
        self.client.ask("ZADD", f"{TAG}:s", 0, session)
        self.step("beat", living, 1)
        for request in self.flying:
            if request.session == session:
                for place, terms in enumerate(request.asked.terms):
                    if request.held[place]:
                        before = self.at(terms, request.until_ns(place))
                        self.states[self.names[terms.id]] = terms.settle(before, request.held[place], 0)
                request.held = [0] * len(request.held)

    @rule(name=st.sampled_from(["key", "team", "org", "other"]), limit=st.integers(10, 150))
    def limit_changes(self, name: str, limit: int) -> None:
        """A reload: what is spent stays spent, and requests in flight keep the terms that they began with."""
        self.terms[name] = replace(self.terms[name], limit=limit, capacity=limit)

    @invariant()
    def the_server_says_what_the_domain_says(self) -> None:
        """To the unit, for each budget."""
        asked = claims(*self.terms.values())
        text = write(asked, self.now * US)
        answer = read(self.step("read", text.data), asked, text)
        for terms, state in zip(asked.terms, answer.states, strict=True):
            expected = self.at(terms)
            assert terms.remaining(state) == terms.remaining(expected), self.names[terms.id]
            assert state[1] == expected[1], self.names[terms.id]


@contextmanager
def connected() -> Iterator[Client]:
    """A server for the time of a block."""
    with running() as server:
        client = Client(server.port)
        try:
            yield client
        finally:
            client.socket.close()


def test_the_script_is_the_domains_arithmetic() -> None:
    """For any history."""
    with connected() as client:
        Script.client = client
        run_state_machine_as_test(
            Script,
            settings=settings(
                max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
