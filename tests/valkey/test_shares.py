"""What a process may spend while the server is away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.domain.budget import Refusal
from gpubalancer.valkey import shares as module
from gpubalancer.valkey.shares import Shares
from tests.board.budget_terms import bucket, claims, gauge, window


def test_each_has_an_equal_part_of_what_was_left() -> None:
    """Of 100 with 40 spent, three have 20 each."""
    shares, asked = Shares(), claims(window("w", 100, 1000))
    shares.learn(asked, [(40, 0, 0, 0, 0)])
    shares.begin(3)
    assert not isinstance(shares.take(asked, [15], 500), Refusal)
    refused = shares.take(asked, [6], 500)
    assert isinstance(refused, Refusal)
    assert refused.standing.remaining == 5
    assert not isinstance(shares.take(asked, [5], 500), Refusal)


def test_what_comes_in_meanwhile_is_shared_too() -> None:
    """A bucket refills by a part of its limit, a window begins with one, debt stays."""
    shares = Shares()
    asked = claims(bucket("b", 90, 1000), window("w", 90, 1000))
    shares.learn(asked, [(90, 0, 500, 0, 0), (90, 0, 0, 0, 0)])
    shares.begin(3)
    assert isinstance(shares.take(asked, [1, 1], 500), Refusal)
    assert isinstance(shares.take(asked, [31, 31], 1500), Refusal)
    assert not isinstance(shares.take(asked, [30, 30], 1500), Refusal)
    owing = claims(window("owing", 90, 1000))
    shares.learn(owing, [(100, 0, 0, 0, 0)])
    refused = shares.take(owing, [1], 500)
    assert isinstance(refused, Refusal)
    assert refused.standing.remaining == -10


def test_what_was_not_taken_comes_back() -> None:
    """And what was taken beyond is owed."""
    shares, asked = Shares(), claims(window("w", 100, 1000))
    shares.begin(1)
    shares.take(asked, [100], 500)
    shares.settle(asked, [100], [30], 500)
    assert not isinstance(shares.take(asked, [70], 500), Refusal)
    shares.settle(asked, [70], [90], 500)
    assert isinstance(shares.take(asked, [1], 500), Refusal)
    shares.settle(claims(window("never", 5)), [1], [1], 500)


def test_all_or_none_of_the_shares() -> None:
    """A place for each of two; what only counts refuses nobody."""
    shares = Shares()
    asked = claims(gauge("g", 2), window("w", 100, 1000), window("shadow", 1, shadow=True))
    shares.begin(2)
    standings = shares.take(asked, [1, 50, 50], 500)
    assert not isinstance(standings, Refusal)
    assert [stands.remaining for stands in standings] == [0, 0]
    assert isinstance(shares.take(asked, [1, 0, 0], 500), Refusal)


def test_a_new_outage_begins_with_what_was_told_last() -> None:
    """What was spent in the one before has been settled by then."""
    shares, asked = Shares(), claims(window("w", 100, 1000))
    shares.begin(1)
    shares.take(asked, [100], 500)
    shares.learn(asked, [(60, 0, 0, 0, 0)])
    shares.begin(2)
    assert not isinstance(shares.take(asked, [20], 500), Refusal)
    assert isinstance(shares.take(asked, [1], 500), Refusal)


def test_old_states_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first; a budget that nothing is known of is taken for a new one."""
    monkeypatch.setattr(module, "KEPT", 2)
    shares = Shares()
    for name in "abc":
        shares.learn(claims(window(name, 10)), [(10, 0, 0, 0, 0)])
    shares.begin(1)
    assert not isinstance(shares.take(claims(window("a", 10)), [10], 500), Refusal)
    assert isinstance(shares.take(claims(window("c", 10)), [1], 500), Refusal)


@given(st.integers(1, 1000), st.integers(0, 1000), st.integers(1, 40), st.lists(st.integers(1, 50), max_size=200))
def test_all_together_spend_no_more_than_was_left(limit: int, used: int, peers: int, needs: list[int]) -> None:
    """Whoever asks, in whatever order."""
    asked = claims(window("w", limit, 10**9), bucket("b", limit, 10**12))
    parts = [Shares() for _ in range(peers)]
    for part in parts:
        part.learn(asked, [(used, 0, 0, 0, 0), (used, 0, 5, 0, 0)])
        part.begin(peers)
    admitted = sum(
        need
        for number, need in enumerate(needs)
        if not isinstance(parts[number % peers].take(asked, [need, need], 5), Refusal)
    )
    assert admitted <= max(0, limit - used)
