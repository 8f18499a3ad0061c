"""Cards and accounts."""

from random import Random

import pytest

from bench.corpus import numbers
from gpubalancer.brain.sensitivity.payment import IBAN_LENGTHS, IBAN_RULES, card_number, iban
from tests.brain.sensitivity.scanning import found


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "3782 822463 10005",
        "3056 930902 5904",
        "6011000990139424",
        "card 4111 1111 1111 1111 12/29 123",
        "4111 1111 1111 1111 1229",
        "a,4111111111111111,b",
        "\u53614111111111111111\uff0c",
        "order 4111111111111111 paid by visa",
    ],
)
def test_cards(text: str) -> None:
    """Cards in one piece or in their groups are found, whatever stands around them."""
    assert found(text) == {"payment_card": 1}


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",
        "x4111111111111111",
        "0.4111111111111111",
        "41111111111111110000000",
        "1234 4111 1111 1111 1111",
        "4111 1111 1111 1111 4111",
        "4111 1111-1111 1111",
        "9999999999999995",
        "4444444444444448888",
        "order 4111111111111111",
        "2222222222222222",
    ],
)
def test_no_cards(text: str) -> None:
    """A wrong check, no issuer, a longer row of groups, mixed signs, or an order's number make no card."""
    assert "payment_card" not in found(text)


def test_equal_digits_are_no_card() -> None:
    """A number of one digit is somebody's filler, with or without a check that holds."""
    assert card_number(b"4111111111111111")
    assert not card_number(b"4444444444444444")


@pytest.mark.parametrize(
    "text",
    [
        "DE89370400440532013000",
        "de89 3704 0044 0532 0130 00",
        "GB82 WEST 1234 5698 7654 32 and more",
        "IBAN:NO9386011117947.",
        "FR14 2004 1010 0505 0001 3M02 606",
        "MT84-MALT-0110-0001-2345-MTLC-AST0-01S",
    ],
)
def test_accounts(text: str) -> None:
    """The registry's examples are found in one piece and in groups, in either case."""
    assert found(text) == {"iban": 1}


@pytest.mark.parametrize(
    "text", ["DE89370400440532013001", "DE8937040044053201300", "XX89370400440532013000", "ADE89370400440532013000"]
)
def test_no_accounts(text: str) -> None:
    """A wrong check or length, no such country, or a longer word make no account."""
    assert found(text) == {}


def test_every_country_has_a_length_that_the_rule_can_read() -> None:
    """Lengths are between Norway's 15 and Russia's 33, and an account of each is found."""
    assert set(IBAN_LENGTHS.values()) <= set(range(15, 34))
    for country, length in IBAN_LENGTHS.items():
        body = b"0" * (length - 4)
        account = next(
            country + b"%02d" % check + body for check in range(2, 99) if iban(country + b"%02d" % check + body)
        )
        match = IBAN_RULES[0].pattern.match(account)
        assert match is not None
        assert IBAN_RULES[0].confirms(match)


def test_what_the_corpus_makes_is_found_and_one_wrong_digit_is_not() -> None:
    """Of 300 random cards and accounts all are found, and none with one digit changed."""
    random = Random(5)
    for make, name in ((numbers.card, "payment_card"), (numbers.iban, "iban")):
        for _ in range(300):
            number = make(random)
            assert found(f"it is {number}.") == {name: 1}
            place = random.choice([place for place, letter in enumerate(number) if letter.isdigit() and place > 3])
            wrong = number[:place] + str((int(number[place]) + random.randint(1, 9)) % 10) + number[place + 1 :]
            assert name not in found(f"it is {wrong}.")
