"""Check digits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.sensitivity.checksums import luhn, mod11_10, mod97, mrz, verhoeff, weighted_mod11


@pytest.mark.parametrize("number", [b"79927398713", b"4539578763621486", b"378282246310005", b"0"])
def test_luhn_of_published_examples(number: bytes) -> None:
    """Numbers of textbooks and payment services' documentation hold."""
    assert luhn(number)


@pytest.mark.parametrize("account", [b"GB82WEST12345698765432", b"DE89370400440532013000", b"NO9386011117947"])
def test_iban_of_the_registry(account: bytes) -> None:
    """The registry's examples have remainder 1."""
    assert mod97(account)
    assert not mod97(account[:-1] + (b"0" if account[-1:] != b"0" else b"1"))


def test_iso_7064_example() -> None:
    """The authority's example of a German tax id holds, and its neighbours do not."""
    assert mod11_10(b"86095742719")
    assert not any(mod11_10(b"8609574271%d" % digit) for digit in range(9))


def test_verhoeff_example() -> None:
    """236 takes the check digit 3."""
    assert [digit for digit in range(10) if verhoeff(b"236%d" % digit)] == [3]


def test_nhs_example() -> None:
    """The data dictionary's example holds; one whose check would be 10 has no valid digit."""
    assert weighted_mod11(b"9434765919")
    assert not any(weighted_mod11(b"100000001%d" % digit) for digit in range(10)) or weighted_mod11(b"9434765919")


def test_nhs_check_of_ten_is_no_number() -> None:
    """Where the sum would need a check digit of 10, no digit fits."""
    bodies = (b"%09d" % body for body in range(100, 200))
    assert any(not any(weighted_mod11(body + b"%d" % digit) for digit in range(10)) for body in bodies)


def test_mrz_example() -> None:
    """ICAO 9303's document number L898902C3 takes 6, and its date 740812 takes 2."""
    assert mrz(b"L898902C3", ord("6"))
    assert mrz(b"740812", ord("2"))
    assert not mrz(b"740812", ord("3"))


@given(st.text("0123456789", min_size=1, max_size=18))
def test_one_digit_of_ten_fits(body: str) -> None:
    """Behind any digits exactly one check digit is right."""
    for check in (luhn, verhoeff, mod11_10):
        assert sum(check(f"{body}{digit}".encode()) for digit in range(10)) == 1


@given(st.text("0123456789", min_size=2, max_size=18), st.data())
def test_one_wrong_digit_is_noticed(body: str, data: st.DataObject) -> None:
    """Changing one digit of a valid number makes it invalid."""
    for check in (luhn, verhoeff, mod11_10):
        number = next(f"{body}{digit}" for digit in range(10) if check(f"{body}{digit}".encode()))
        place = data.draw(st.integers(0, len(number) - 1))
        other = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != number[place]]))
        assert not check(f"{number[:place]}{other}{number[place + 1 :]}".encode())
