"""Check digits: pure functions of a number's digits, written without spaces or signs.

Each takes ASCII bytes of the right form and says whether the check holds; none of them judges the form.
"""

_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")
_VERHOEFF_PRODUCT = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 2, 3, 4, 0, 6, 7, 8, 9, 5),
    (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7),
    (4, 0, 1, 2, 3, 9, 5, 6, 7, 8),
    (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2),
    (7, 6, 5, 9, 8, 2, 1, 0, 4, 3),
    (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)
"""Multiplication of the dihedral group of order 10 (J. Verhoeff, Error Detecting Decimal Codes, 1969)."""
_VERHOEFF_TURN = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
_VERHOEFF_TURNS = [tuple(range(10))]
for _ in range(7):
    _VERHOEFF_TURNS.append(tuple(_VERHOEFF_TURN[digit] for digit in _VERHOEFF_TURNS[-1]))

_MRZ_WEIGHTS = (7, 3, 1)


def luhn(number: bytes) -> bool:
    """ISO/IEC 7812-1 annex B: every second digit from the right is doubled and its digits added."""
    backwards = number[::-1]
    # 48 is the code of "0": the sum of codes less 48 for each is the sum of the digits.
    total = sum(backwards[::2]) + sum(backwards[1::2].translate(_DOUBLED)) - 48 * len(number)
    return total % 10 == 0


def mod97(account: bytes) -> bool:
    """ISO 13616 with ISO 7064 MOD 97-10: the first four behind the rest, letters as 10 to 35, remainder 1."""
    turned = (account[4:] + account[:4]).decode("ascii")
    return int("".join(str(int(letter, 36)) for letter in turned)) % 97 == 1


def mod11_10(number: bytes) -> bool:
    """ISO 7064 MOD 11,10, the last digit being the check digit."""
    product = 10
    for code in number[:-1]:
        product = (code - 48 + product) % 10 or 10
        product = product * 2 % 11
    return (11 - product) % 10 == number[-1] - 48


def verhoeff(number: bytes) -> bool:
    """Verhoeff's check in the dihedral group, the last digit being the check digit."""
    value = 0
    for place, code in enumerate(reversed(number)):
        value = _VERHOEFF_PRODUCT[value][_VERHOEFF_TURNS[place % 8][code - 48]]
    return value == 0


def weighted_mod11(number: bytes) -> bool:
    """Weights from the number's length down to 2 and a check digit of 11 less the remainder (NHS numbers).

    A remainder that would need the check digit 10 makes no valid number.
    """
    total = sum((code - 48) * weight for code, weight in zip(number, range(len(number), 1, -1), strict=False))
    check = (11 - total % 11) % 11
    return check == number[-1] - 48


def mrz(field: bytes, check: int) -> bool:
    """ICAO 9303 part 3, 4.9: weights 7, 3, 1, letters as 10 to 35, fillers as 0. `check` is the digit's code."""
    values = (0 if code == 60 else int(chr(code), 36) for code in field)
    return sum(value * _MRZ_WEIGHTS[place % 3] for place, value in enumerate(values)) % 10 == check - 48
