"""Addresses and phone numbers."""

from random import Random

import pytest

from bench.corpus import numbers
from tests.brain.sensitivity.scanning import found


@pytest.mark.parametrize(
    "text",
    [
        "maria@example.com",
        "<a.b+c@mail.example.co.uk>",
        "mailto:jane@example.org?subject=x",
        "j\u00f6rg@ex\u00e4mple.de",
        "\u7528\u6237zhang@\u4f8b\u5b50.com",
        "https://example.com/?email=jane@example.org",
        "A@B.IO.",
        "a@xn--d1acufc.xn--p1ai",
    ],
)
def test_addresses(text: str) -> None:
    """Addresses are found in sentences, links and brackets, with letters of any script."""
    assert found(text) == {"email": 1}


@pytest.mark.parametrize(
    "text",
    [
        "logo@2x.png",
        "lodash@4.17.21",
        "git@github.com:acme/x.git",
        "this@MainActivity.finish()",
        "https://u:p@h.example.com/",
        "ssh://root@h.example.com/",
        "user@host",
        "@app.route",
        "a@b.c",
        "foo@bar.baz()",
        "unit@10.service",
    ],
)
def test_no_addresses(text: str) -> None:
    """Files, packages, clones, calls, the users of URLs and names without a dot are none."""
    assert "email" not in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "+49 30 901820",
        "+49(0)30 1234567",
        "+12125550123",
        "+1.212.555.0123",
        "0049 30 1234567",
        "(212) 555-0123",
        "(212)555-0123",
        "1-800-555-0199",
        "212.555.0123",
        "01 23 45 67 89",
        "01.23.45.67.89",
        "07700 900123",
        "020 7946 0958",
        "call me at 555-1234",
        "Tel.: 030/1234567",
        "t\u00e9l\u00e9phone : 0123456789",
        "mein Handy ist 0176 1234567",
        "\u7535\u8bdd 13812345678",
        "phone_number=2125550123",
    ],
)
def test_phones(text: str) -> None:
    """International and national forms are found, others behind a word for a phone."""
    assert found(text) == {"phone": 1}


@pytest.mark.parametrize(
    "text",
    [
        "+40.712776 -74.005974",
        "+0000",
        "+999 123 45678",
        "+11111111",
        "2024-05-17 12:30",
        "212 555 0123",
        "order 212-555-0123",
        "00264805243900",
        "192.168.100.200",
        "x+12125550123",
        "1+12125550123",
        "phone 12345",
        "122-555-0123",
        "212-155-0123",
    ],
)
def test_no_phones(text: str) -> None:
    """Coordinates, dates, addresses, codes that no country has and other numbers are none."""
    assert "phone" not in found(text)


def test_what_the_corpus_makes_is_found() -> None:
    """Of 300 random addresses and phone numbers all are found."""
    random = Random(9)
    for make, name in ((numbers.email, "email"), (numbers.phone, "phone")):
        for _ in range(300):
            assert found(f"it is {make(random)}.") == {name: 1}
