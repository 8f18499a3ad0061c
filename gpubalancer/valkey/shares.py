"""What this process may spend while the server is away, where the policy says that it goes on.

Of what was left of a budget when the server last told, each of the sessions that were alive then has an equal part; of
what comes in meanwhile (a bucket refills, a window begins) likewise. So all together spend no more than there was. A
budget that this process was never told of is taken for a new one.
"""

from collections.abc import Sequence
from dataclasses import replace

from gpubalancer.domain.budget import (
    NEW,
    Bucket,
    Claims,
    Refusal,
    Standing,
    State,
    Terms,
    refusal,
    standing,
)

KEPT = 131_072
"""Budgets whose last state is remembered; beyond, the oldest are forgotten."""


class Shares:
    """The last known states, and what was spent of them since."""

    def __init__(self) -> None:
        self._last: dict[bytes, State] = {}
        self._own: dict[bytes, tuple[Terms, State]] = {}
        self._peers = 1

    def learn(self, claims: Claims, states: Sequence[State]) -> None:
        """The server has told how these budgets stand."""
        for terms, state in zip(claims.terms, states, strict=False):
            self._last.pop(terms.id, None)
            self._last[terms.id] = state
        while len(self._last) > KEPT:
            del self._last[next(iter(self._last))]

    def begin(self, peers: int) -> None:
        """The server is away, and so many share what is left."""
        self._own.clear()
        self._peers = max(1, peers)

    def take(self, claims: Claims, needs: Sequence[int], now_ns: int) -> Refusal | list[Standing]:
        """Reserve in all shares or in none; returns how they stand then."""
        parts = [self._part(terms, now_ns) for terms in claims.terms]
        own = Claims(tuple(terms for terms, _ in parts), claims.stops)
        states = [state for _, state in parts]
        refused = refusal(own, states, list(needs), now_ns)
        if refused is not None:
            return refused
        taken = [terms.take(state, need) for (terms, state), need in zip(parts, needs, strict=True)]
        for terms, state in zip(own.terms, taken, strict=True):
            self._own[terms.id] = terms, state
        return [
            standing(terms, state, now_ns) for terms, state in zip(own.terms, taken, strict=True) if not terms.shadow
        ]

    def settle(self, claims: Claims, held: Sequence[int], actual: Sequence[int], now_ns: int) -> None:
        """Put the fact in the place of what was reserved here."""
        for known, before, after in zip(claims.terms, held, actual, strict=True):
            if known.id in self._own:
                terms, state = self._own[known.id]
                self._own[known.id] = terms, terms.settle(terms.at(state, now_ns), before, after)

    def _part(self, terms: Terms, now_ns: int) -> tuple[Terms, State]:
        """Our part of a budget, as it stands now."""
        if terms.id in self._own:
            own, state = self._own[terms.id]
            return own, own.at(state, now_ns)
        part = _part_of(terms, self._peers)
        whole = terms.at(self._last.get(terms.id, NEW), now_ns)
        left = terms.remaining(whole)
        share = left // self._peers if left > 0 else left
        return part, (part.capacity - share, 0, whole[2], 0, 0)


def _part_of(terms: Terms, peers: int) -> Terms:
    """A budget of an equal part. A bucket that gains less than one for each gains one in as many periods."""
    limit, capacity = max(1, terms.limit // peers), terms.capacity // peers
    if isinstance(terms, Bucket) and terms.limit < peers:
        return replace(terms, limit=terms.limit, capacity=capacity, period_ns=terms.period_ns * peers)
    return replace(terms, limit=limit, capacity=capacity)
