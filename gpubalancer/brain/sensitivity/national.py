"""National identity numbers of eight countries, each with what its authority publishes about the form.

| number | form | check | source |
|---|---|---|---|
| US social security | AAA-GG-SSSS | none; ranges never given out | SSA, POMS RM 10201.035 |
| UK national insurance | AA 99 99 99 A | none; prefixes never given out | HMRC, NIM39110 |
| German tax id | 11 digits, one of the first ten repeated | ISO 7064 MOD 11,10 | BZSt, Identifikationsnummer |
| French NIR | 13 digits and a key of 2 | 97 less the remainder of 97 | INSEE, NIR |
| Spanish DNI, NIE | 8 digits (X, Y, Z and 7) and a letter | remainder of 23 | Ministerio del Interior |
| Italian codice fiscale | 16 letters and digits | sum of odd and even places, remainder of 26 | D.M. 23/12/1976 |
| Indian Aadhaar | 12 digits, the first 2 to 9 | Verhoeff | UIDAI |
| Brazilian CPF | 11 digits | two check digits, remainder of 11 | Receita Federal |

Where digits alone would meet too many other numbers (nine digits, or one check digit in an unbroken run), a word for
the number must stand before it.
"""

import re

from gpubalancer.brain.sensitivity.checksums import mod11_10, verhoeff
from gpubalancer.brain.sensitivity.rule import Check, Rule, formatted, labelled

_DNI_LETTERS = b"TRWAGMYFPDXBNJZSQVHLCKE"
_FISCAL_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
"""Value of a letter (a digit counts as the letter of its number) on the first, third, ... place."""
_OMOCODES = bytes.maketrans(b"LMNPQRSTUV", b"0123456789")
"""Letters that stand for digits where two people would have the same code."""
_NINO_NEVER = frozenset((b"BG", b"GB", b"NK", b"KN", b"TN", b"NT", b"ZZ"))
_SSN_NEVER = frozenset((b"078051120", b"219099999", b"123456789", b"457555462"))
"""Numbers that were printed in public, on sample cards and in advertisements."""


def ssn(number: bytes) -> bool:
    """True for nine digits in the ranges that have been given out: no 000, 666, 9xx; no group 00; no serial 0000."""
    area, group, serial = number[:3], number[3:5], number[5:]
    if area in (b"000", b"666") or area >= b"900" or group == b"00" or serial == b"0000":
        return False
    return number not in _SSN_NEVER and len(set(number)) > 1


def nino(number: bytes) -> bool:
    """True for upper-case letters and digits with a prefix that is given out."""
    return number[:2] not in _NINO_NEVER


def german_tax_id(number: bytes) -> bool:
    """True where one of the first ten digits stands two or three times, the others once, and the check holds."""
    counts = sorted(number[:10].count(digit) for digit in set(number[:10]))
    return counts[-1] in (2, 3) and (len(counts) == 1 or counts[-2] == 1) and mod11_10(number)


def nir(number: bytes) -> bool:
    """True where the key fits; Corsica's departments 2A and 2B count as 19 and 18."""
    body = number[:13].upper().replace(b"2A", b"19").replace(b"2B", b"18")
    return body.isdigit() and 97 - int(body) % 97 == int(number[13:])


def dni(number: bytes) -> bool:
    """True where the letter fits; X, Y and Z of foreigners count as 0, 1 and 2."""
    upper = number.upper()
    value = int(upper[:-1].translate(bytes.maketrans(b"XYZ", b"012")))
    return _DNI_LETTERS[value % 23] == upper[-1]


def codice_fiscale(code: bytes) -> bool:
    """True where the day exists (women's days are 40 higher) and the last letter fits."""
    upper = code.upper()
    day = int(upper[9:11].translate(_OMOCODES)) % 40
    if not 1 <= day <= 31 or int(upper[9:11].translate(_OMOCODES)) > 71:
        return False
    values = [place - 48 if place < 65 else place - 65 for place in upper[:15]]
    total = sum(_FISCAL_ODD[value] for value in values[::2]) + sum(values[1::2])
    return total % 26 == upper[15] - 65


def aadhaar(number: bytes) -> bool:
    """True for twelve digits with Verhoeff's check that read differently backwards."""
    return number[::-1] != number and verhoeff(number)


def cpf(number: bytes) -> bool:
    """True where both check digits fit; eleven equal digits fit too and are never given out."""
    if len(set(number)) == 1:
        return False
    for size in (9, 10):
        total = sum((code - 48) * weight for code, weight in zip(number, range(size + 1, 1, -1), strict=False))
        if total * 10 % 11 % 10 != number[size] - 48:
            return False
    return True


_NINO = rb"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]"
_SPACED_START, _SPACED_END = rb"(?<![0-9] )", rb"(?! ?[0-9])"
"""Groups with spaces that go on to the left or right are a table of numbers."""
_NIR_BODY = rb"[1278] ?[0-9]{2} ?(?:0[1-9]|1[0-2]|[2-9][0-9]) ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"
_FISCAL_DIGIT = rb"[0-9LMNPQRSTUV]"


def _in_groups(form: bytes, check: Check) -> Rule:
    """A number in groups with spaces, which must not be a part of a longer row of groups."""
    rule = formatted(form, check)
    pattern = re.compile(_SPACED_START + rule.pattern.pattern + _SPACED_END)
    return Rule(rule.trigger, pattern, rule.confirms)


NATIONAL_ID_RULES = (
    formatted(rb"[0-9]{3}-[0-9]{2}-[0-9]{4}", ssn),
    labelled("ssn|social.?security", rb"[0-9]{3}[ -]?[0-9]{2}[ -]?[0-9]{4}", ssn),
    formatted(_NINO + rb"(?: ?[0-9]{2}){3} ?[A-D]", nino),
    formatted(_NINO + rb"(?: [0-9]{2}){3} [A-D]", lambda number: nino(number.upper()), caseless=True),
    labelled(
        r"national.?insurance|nino\b|ni (?:no|number)\b",
        _NINO + rb"[ -]?(?:[0-9]{2}[ -]?){3}[A-D]",
        lambda number: nino(number.upper()),
    ),
    _in_groups(rb"[1-9][0-9] [0-9]{3} [0-9]{3} [0-9]{3}", german_tax_id),
    labelled(
        r"steuer|idnr|id-nr|identifikationsnummer|tax|tin\b",
        rb"[1-9][0-9][ /]?[0-9]{3}[ /]?[0-9]{3}[ /]?[0-9]{3}",
        german_tax_id,
    ),
    formatted(_NIR_BODY, nir),
    formatted(rb"(?:[0-9]{8}|[0-9]{2}\.[0-9]{3}\.[0-9]{3})[- ]?[A-HJ-NP-TV-Z]", dni, caseless=True),
    formatted(rb"[XYZ][- ]?[0-9]{7}[- ]?[A-HJ-NP-TV-Z]", dni, caseless=True),
    formatted(
        rb"[A-Z]{6}"
        + _FISCAL_DIGIT
        + rb"{2}[ABCDEHLMPRST]"
        + _FISCAL_DIGIT
        + rb"{2}[A-Z]"
        + _FISCAL_DIGIT
        + rb"{3}[A-Z]",
        codice_fiscale,
        caseless=True,
    ),
    _in_groups(rb"[2-9][0-9]{3}[ -][0-9]{4}[ -][0-9]{4}", aadhaar),
    labelled(r"aadh?aar|uidai|uid\b", rb"[2-9][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}", aadhaar, scripts="आधार"),
    formatted(rb"[0-9]{11}|[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}|[0-9]{9}-[0-9]{2}", cpf),
)
