"""Claims on their way to the server, and its answers."""

import orjson
import pytest

from gpubalancer.domain.budget import Spending
from gpubalancer.policy.budgets import Budget
from gpubalancer.valkey import claims_text
from gpubalancer.valkey.claims_text import MOST, Texts, read, write, write_spending
from tests.board.budget_terms import bucket, claims, gauge, window

NOW_NS = 1_700_000_000_123_456_789


def test_each_kind_has_its_row() -> None:
    """Whole numbers, microseconds, and of a window those before and after it."""
    asked = claims(
        bucket("b", 10, 60_000_000_000, 20, unit="usd", stops=True),
        window("w", 1 << 60, 10_000, shadow=True, cached_millionths=5),
        gauge("g", 3),
    )
    first, second, third = orjson.loads(write(asked, 25_000).data)
    assert first == [asked.terms[0].id.hex(), "B", 5, 1_000_000, 10, 20, 60_000_000, 0, 1, 60_000, []]
    assert second[1:10] == ["W", 1, 5, MOST, MOST, 1, 1, 0, 35 * 86_400_000]
    assert second[10] == [[1, 10, 20], [2, 20, 30], [3, 30, 40]]
    assert (third[1], third[2], third[10]) == ("G", 7, [])


def test_a_text_is_kept_until_a_window_ends() -> None:
    """Then it is made anew, with the next one."""
    texts, asked = Texts(), claims(window("w", 5, 10_000), bucket("b", 5))
    first = texts.of(asked, 25_000)
    assert texts.of(asked, 29_999) is first
    assert (first.until_ns, first.starts) == (30_000, ({1: 10_000, 2: 20_000, 3: 30_000}, {}))
    assert texts.of(asked, 30_000) is not first


def test_too_many_texts_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once; they are made again when they are asked for."""
    monkeypatch.setattr(claims_text, "TEXTS_KEPT", 1)
    texts, one, two = Texts(), claims(bucket("b", 5)), claims(bucket("c", 5))
    first = texts.of(one, 1)
    texts.of(two, 1)
    assert texts.of(one, 1) is not first


def test_an_answer_has_the_states_as_the_domain_knows_them() -> None:
    """Nanoseconds, and the start of a window in the place of its number."""
    asked = claims(bucket("b", 5), window("w", 5, 10_000), gauge("g", 5))
    text = write(asked, 25_000)
    answer = read(b"1 26 2 1 2 3 4 5 6 7 2 8 9 1 1 4 0 0", asked, text)
    assert (answer.code, answer.now_ns, answer.more) == (1, 26_000, 2)
    assert answer.states == [(1, 2, 3_000, 4_000, 5), (6, 7, 20_000, 8, 9), (1, 1, 4_000, 0, 0)]
    assert read(b"2 26 0", asked, text).states == []


def test_spending_is_six_numbers() -> None:
    """In the order that the script knows."""
    assert write_spending(Spending(1, 2, 3, 4, 5, 6)) == b"[1,2,3,4,5,6]"


def test_months_of_a_calendar_are_numbered_in_their_order() -> None:
    """Over the end of a year, and days over the hour that clocks leave out."""
    for per in ("month", "week", "day"):
        terms = Budget.model_validate({"unit": "tokens", "limit": 5, "per": per}).terms("t", "", "Europe/Berlin")
        at_ns = 1_735_000_000_000_000_000  # the end of 2024
        for _ in range(120):
            spans = orjson.loads(write(claims(terms), at_ns).data)[0][10]
            assert [span[0] - spans[1][0] for span in spans] == [-1, 0, 1]
            assert spans[0][2] == spans[1][1]
            assert spans[1][1] * 1000 <= at_ns < spans[1][2] * 1000
            at_ns = spans[1][2] * 1000
