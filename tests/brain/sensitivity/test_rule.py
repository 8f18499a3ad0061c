"""What rules are made of."""

import re

import pytest

from gpubalancer.brain.sensitivity.rule import END, START, always, compact, formatted, labelled, named_otherwise, near


def _match(before: str, after: str = "") -> re.Match[bytes]:
    text = f"{before}12345678{after}".encode()
    match = re.compile(rb"12345678").search(text)
    assert match is not None
    return match


@pytest.mark.parametrize(
    "before",
    ["order ", "Order no. ", "orders/", '"order_id": ', "Invoice #", "SKU-", "tracking number: ", "Bestellung "],
)
def test_other_numbers_are_named(before: str) -> None:
    """A word for another kind of number right before it names it."""
    assert named_otherwise(_match(before))


@pytest.mark.parametrize(
    "before", ["", "my number is ", "no. ", "reordered ", "the order came, call ", "order\n", "order" + " " * 40]
)
def test_other_words_name_nothing(before: str) -> None:
    """A word that is none of them, or further away, does not."""
    assert not named_otherwise(_match(before))


def test_near_looks_both_ways() -> None:
    """A word counts within the given distance before and behind."""
    words = re.compile(rb"card")
    assert near(_match("card ", ""), words, 8, 0)
    assert near(_match("", " card"), words, 0, 8)
    assert not near(_match("card" + " " * 9, " " * 9 + "card"), words, 8, 8)


def test_compact_drops_what_groups() -> None:
    """Spaces, dashes, dots, slashes and brackets go, letters stay."""
    assert compact(b"(12) 3-4.5/6a") == b"123456a"
    assert always(_match(""))


@pytest.mark.parametrize("text", ["x123", "_123", "+123", "1.123", "1-123", "123x", "123.4", "123-4", "1231"])
def test_a_number_has_edges(text: str) -> None:
    """A number that goes on as a word, a decimal or a dashed code is another number."""
    assert not re.search(START + rb"123" + END, text.encode())
    assert re.search(START + rb"123" + END, b"a, 123. Then")


def test_a_form_and_its_check() -> None:
    """A formatted number needs its check, and another's name before it takes it away."""
    rule = formatted(rb"[0-9]{2}-[0-9]{2}", lambda number: number == b"1234")
    match = rule.pattern.match(b"12-34")
    assert match is not None
    assert rule.confirms(match)
    assert not rule.confirms(rule.pattern.match(b"12-35") or match)
    ordered = rule.pattern.match(b"order 12-34", 6)
    assert ordered is not None
    assert not rule.confirms(ordered)


def test_a_number_after_its_name() -> None:
    """A labelled number is found behind its name, in any script, and nowhere else."""
    rule = labelled("code", rb"[0-9]{4}", lambda number: number != b"0000", scripts="код")
    for text, expected in ((b"Code is 1234", True), ("код: 1234".encode(), True), (b"code 0000", False)):
        match = rule.pattern.match(text)
        assert match is not None
        assert rule.confirms(match) is expected
    assert rule.pattern.match(b"code 12345") is None
    assert rule.caseless
