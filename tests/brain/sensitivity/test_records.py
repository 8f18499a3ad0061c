"""Passports and medical records."""

from random import Random

import pytest

from bench.corpus import numbers
from tests.brain.sensitivity.scanning import found


@pytest.mark.parametrize(
    "text",
    [
        "passport number: X1234567",
        "Passport No. 123456789",
        "My passport is AB1234567",
        "passport_number=12AB34567",
        "Reisepassnummer C01X00T47",
        "Passport office. My passport: X1234567",
        "the passport of Jane Roe is X1234567",
        "\u62a4\u7167\u53f7\u7801\uff1aE12345678",
        "\u043f\u0430\u0441\u043f\u043e\u0440\u0442 45 10 123456",
        "L898902C36UTO7408122F1204159ZE184226B<<<<<10",
    ],
)
def test_passports(text: str) -> None:
    """A passport's number is found behind the word, and the machine-readable line by its check digits."""
    assert found(text.replace("\uff1a", ": ")) == {"passport": 1}


@pytest.mark.parametrize(
    "text",
    [
        "X1234567",
        "passport control at 10",
        "the passport fee is 130 dollars 12345678",
        "passport.js 0.6.0",
        "passport photo of 2024",
        "passport ABCDEFGHI",
        "L898902C36UTO7408122F1204159ZE184226B<<<<<11",
        "L898902C46UTO7408122F1204159ZE184226B<<<<<10",
    ],
)
def test_no_passports(text: str) -> None:
    """Without the word, with other words between, or with a wrong check digit there is none."""
    assert "passport" not in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "MRN: 00123456",
        "medical record number MR-123456",
        "Patient ID: P-123456",
        "patient number is 1234567",
        "chart no 12-34-56",
        "NHS number 943 476 5919",
        "numéro de dossier 1234567",
    ],
)
def test_records(text: str) -> None:
    """A record's number is found behind its name, an NHS number with its check."""
    assert found(text) == {"medical_record": 1}


@pytest.mark.parametrize(
    "text",
    ["1234567", "what is an MRN?", "MRN24DE123456789012M3", "medical records 2024 were", "NHS number 943 476 5918"],
)
def test_no_records(text: str) -> None:
    """A bare number, the word alone, customs' MRN, a year and a wrong check are none."""
    assert "medical_record" not in found(text)


def test_what_the_corpus_makes_is_found() -> None:
    """Random numbers of every form are found behind their names."""
    random = Random(11)
    for _ in range(200):
        assert found(f"Passport number: {numbers.passport(random)}") == {"passport": 1}
        assert "passport" in found(numbers.mrz_line(random))
        assert found(f"MRN: {numbers.medical_record(random)}") == {"medical_record": 1}
        assert found(f"NHS no {numbers.nhs(random)}") == {"medical_record": 1}
