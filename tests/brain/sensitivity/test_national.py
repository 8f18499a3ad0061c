"""National identity numbers."""

from collections.abc import Callable
from random import Random

import pytest

from bench.corpus import numbers
from gpubalancer.brain.sensitivity.national import aadhaar, codice_fiscale, cpf, dni, german_tax_id, nino, nir, ssn
from tests.brain.sensitivity.scanning import found


@pytest.mark.parametrize(
    "text",
    [
        "219-45-1234",
        "my SSN is 219451234",
        "social security 219 45 1234",
        "AB123456C",
        "AB 12 34 56 C",
        "ab 12 34 56 c",
        "NINO ab123456c",
        "86 095 742 719",
        "Steuer-ID: 86095742719",
        "184127645108946",
        "1 84 12 76 451 089 46",
        "12345678Z",
        "12.345.678-Z",
        "X1234567L",
        "RSSMRA85T10A562S",
        "2341 2341 2346",
        "Aadhaar 234123412346",
        "\u0906\u0927\u093e\u0930 234123412346",
        "529.982.247-25",
        "52998224725",
    ],
)
def test_numbers(text: str) -> None:
    """Each country's form is found, with its name before it where the form alone is too common."""
    assert found(text) == {"national_id": 1}


@pytest.mark.parametrize(
    "text",
    [
        "000-45-1234",
        "666-45-1234",
        "900-45-1234",
        "219-00-1234",
        "219-45-0000",
        "078-05-1120",
        "219451234",
        "part 219-45-1234",
        "GB123456C",
        "DB123456C",
        "86095742719",
        "86 095 742 718",
        "184127645108947",
        "12345678A",
        "X1234567A",
        "RSSMRA85T10A562T",
        "2341 2341 2347",
        "2341 2341 2346 1111",
        "234123412346",
        "111.111.111-11",
        "529.982.247-26",
        "+52998224725",
    ],
)
def test_no_numbers(text: str) -> None:
    """Ranges never given out, wrong check digits, other numbers' names and bare digits are not."""
    assert "national_id" not in found(text)


def test_a_list_of_numbers() -> None:
    """Numbers that follow one another are counted each."""
    assert found("219-45-1234 518-22-9087, 219-45-1235") == {"national_id": 3}


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (ssn, b"219451234", b"987654321"),
        (nino, b"AB123456C", b"BG123456C"),
        (german_tax_id, b"86095742719", b"12345678903"),
        (nir, b"2840119451089%02d" % (97 - 2840119451089 % 97), b"284012A45108900"),
        (nir, b"184122A451089%02d" % (97 - 1841219451089 % 97), b"184122B451089%02d" % (97 - 1841219451089 % 97)),
        (dni, b"12345678z", b"12345678Y"),
        (codice_fiscale, b"rssmra85t10a562s", b"RSSMRA85T40A562S"),
        (aadhaar, b"234123412346", b"111111111111"),
        (cpf, b"52998224725", b"00000000000"),
    ],
)
def test_checks(check: Callable[[bytes], bool], right: bytes, wrong: bytes) -> None:
    """Each check takes a right number in one piece and refuses a wrong one."""
    assert check(right)
    assert not check(wrong)


def test_what_the_corpus_makes_is_found_and_one_wrong_digit_is_not() -> None:
    """Of random numbers with a check digit all are found in their frame, and none with its last sign changed."""
    random = Random(7)
    makers = (numbers.nir, numbers.dni, numbers.codice_fiscale, numbers.aadhaar, numbers.cpf)
    for make in makers:
        for _ in range(150):
            number = make(random)
            assert found(f"it is {number}.") == {"national_id": 1}
            last = number[-1]
            others = "0123456789" if last.isdigit() else "ABCDEFGHJKLMNPQRSTVWXYZ"
            wrong = number[:-1] + random.choice([other for other in others if other != last])
            assert "national_id" not in found(f"it is {wrong}.")


def test_german_tax_ids_that_the_corpus_makes() -> None:
    """Random tax ids are found after their name; with another last digit the check fails."""
    random = Random(8)
    for _ in range(150):
        number = numbers.german_tax_id(random)
        assert found(f"Steuer-ID {number}") == {"national_id": 1}
        whole = number.replace(" ", "").encode()
        assert sum(german_tax_id(whole[:-1] + b"%d" % digit) for digit in range(10)) == 1
