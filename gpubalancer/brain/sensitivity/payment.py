"""Payment cards and bank accounts.

Cards (ISO/IEC 7812): 12 to 19 digits with an issuer's range and length that exist, and Luhn's check digit. They count
when written in one piece, or in groups of four, or as 4-6-5 (American Express) and 4-6-4 (Diners Club) with one kind of
separator. One piece right after words such as "order no." is the order's number, unless a word for cards is near.

IBAN (ISO 13616; lengths from SWIFT's IBAN Registry): the country's length, and the remainder of 97. In one piece or in
groups of four.
"""

import re

from gpubalancer.brain.sensitivity.checksums import luhn, mod97
from gpubalancer.brain.sensitivity.rule import Match, Rule, compact, named_otherwise, near

_ISSUERS: tuple[tuple[int, int, int, frozenset[int]], ...] = (
    # Digits of the prefix, first, last, lengths.
    (1, 4, 4, frozenset((13, 16, 19))),  # Visa
    (2, 51, 55, frozenset((16,))),  # Mastercard
    (4, 2221, 2720, frozenset((16,))),  # Mastercard, since 2017
    (2, 34, 34, frozenset((15,))),  # American Express
    (2, 37, 37, frozenset((15,))),
    (3, 300, 305, frozenset((14, 16))),  # Diners Club
    (2, 36, 36, frozenset((14, 16))),
    (2, 38, 39, frozenset((14, 16))),
    (4, 3528, 3589, frozenset((16, 19))),  # JCB
    (4, 6011, 6011, frozenset((16, 19))),  # Discover
    (3, 644, 649, frozenset((16, 19))),
    (2, 65, 65, frozenset((16, 19))),
    (2, 62, 62, frozenset((16, 19))),  # UnionPay
    (4, 2200, 2204, frozenset((16,))),  # Mir
    (2, 50, 50, frozenset((16, 19))),  # Maestro and national schemes
    (2, 56, 58, frozenset((16, 19))),
    (4, 6304, 6304, frozenset((16, 19))),
    (4, 6759, 6763, frozenset((16, 19))),
    (2, 60, 60, frozenset((16,))),  # RuPay
    (2, 81, 82, frozenset((16,))),
)
_CARD_WORDS = re.compile(
    rb"card|visa|master|amex|maestro|credit|debit|\bcc\b|\bpan\b|cvv|cvc|expir|payment|karte|carte|tarjeta|carta\b",
    re.IGNORECASE,
)
_EXPIRY = re.compile(rb"(?:0[1-9]|1[0-2])[2-4][0-9]\b|20[2-4][0-9]\b")

IBAN_LENGTHS = {
    b"AD": 24, b"AE": 23, b"AL": 28, b"AT": 20, b"AZ": 28, b"BA": 20, b"BE": 16, b"BG": 22, b"BH": 22, b"BI": 27,
    b"BR": 29, b"BY": 28, b"CH": 21, b"CR": 22, b"CY": 28, b"CZ": 24, b"DE": 22, b"DJ": 27, b"DK": 18, b"DO": 28,
    b"EE": 20, b"EG": 29, b"ES": 24, b"FI": 18, b"FK": 18, b"FO": 18, b"FR": 27, b"GB": 22, b"GE": 22, b"GI": 23,
    b"GL": 18, b"GR": 27, b"GT": 28, b"HN": 28, b"HR": 21, b"HU": 28, b"IE": 22, b"IL": 23, b"IQ": 23, b"IS": 26,
    b"IT": 27, b"JO": 30, b"KW": 30, b"KZ": 20, b"LB": 28, b"LC": 32, b"LI": 21, b"LT": 20, b"LU": 20, b"LV": 21,
    b"LY": 25, b"MC": 27, b"MD": 24, b"ME": 22, b"MK": 19, b"MN": 20, b"MR": 27, b"MT": 31, b"MU": 30, b"NI": 28,
    b"NL": 18, b"NO": 15, b"OM": 23, b"PK": 24, b"PL": 28, b"PS": 29, b"PT": 25, b"QA": 29, b"RO": 24, b"RS": 22,
    b"RU": 33, b"SA": 24, b"SC": 31, b"SD": 18, b"SE": 24, b"SI": 19, b"SK": 24, b"SM": 27, b"SO": 23, b"ST": 25,
    b"SV": 28, b"TL": 23, b"TN": 24, b"TR": 26, b"UA": 29, b"VA": 22, b"VG": 24, b"XK": 20, b"YE": 30,
}  # fmt: skip
"""Characters of an account, by country."""


def card_number(number: bytes) -> bool:
    """True for digits that an issuer can have given out."""
    length = len(number)
    if not any(length in lengths and low <= int(number[:size]) <= high for size, low, high, lengths in _ISSUERS):
        return False
    return luhn(number) and len(set(number)) > 1


def _card_in_one_piece(match: Match) -> bool:
    return card_number(match[0]) and (not named_otherwise(match) or near(match, _CARD_WORDS, 48, 24))


def _card_in_groups(match: Match) -> bool:
    """Groups that go on are a table or a longer number, unless what follows can be the month of expiry."""
    after = match.string[match.end() : match.end() + 6]
    if after[:1] == match[1] and after[1:5].isdigit() and not _EXPIRY.match(after, 1):
        return False
    return card_number(compact(match[0]))


def iban(account: bytes) -> bool:
    """True for an account in upper case and one piece, of its country's length and with a check that holds."""
    return IBAN_LENGTHS.get(account[:2]) == len(account) and mod97(account)


def _iban(match: Match) -> bool:
    """The pattern takes what may belong to it; the country says how much does."""
    account = match[0].replace(b" ", b"").replace(b"-", b"").upper()
    length = IBAN_LENGTHS.get(account[:2], 0)
    if not 0 < length <= len(account):
        return False
    if len(account) == length:
        return mod97(account)
    # What follows the account in the same run must be a word of its own.
    taken = -1
    for _ in range(length):
        taken += 1
        while match[0][taken] in b" -":
            taken += 1
    rest = match[0][taken + 1 : taken + 2]
    return rest in (b"", b" ", b"-") and iban(account[:length])


CARD_RULES = (
    Rule(
        rb"\b[2-68][0-9]{12,18}\b",
        re.compile(rb"(?<![0-9A-Za-z_])(?<![0-9][.-])[2-68][0-9]{12,18}(?![0-9A-Za-z_])(?![.-][0-9])"),
        _card_in_one_piece,
    ),
    Rule(
        rb"\b[2-68][0-9]{3}[ .-][0-9]{4}[ .-][0-9]{4}[ .-][0-9]{4}\b",
        re.compile(
            rb"(?<![0-9A-Za-z_])(?<![0-9]{4}[ .-])(?<![0-9][.-])(?<![A-Z]{2}[0-9]{2} )"
            rb"[2-68][0-9]{3}([ .-])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{3}\b)?(?![0-9A-Za-z_])"
        ),
        _card_in_groups,
    ),
    Rule(
        rb"\b3[0-9]{3}[ .-][0-9]{6}[ .-][0-9]{4,5}\b",
        re.compile(rb"(?<![0-9A-Za-z_])(?<![0-9][ .-])3[0-9]{3}([ .-])[0-9]{6}\1[0-9]{4,5}(?![0-9A-Za-z_])"),
        _card_in_groups,
    ),
)

IBAN_RULES = (
    Rule(
        rb"\b[a-z]{2}[0-9]{2}[ -]?[a-z0-9]{4}[ -]?[a-z0-9]{4}[ -]?[a-z0-9]{3}",
        re.compile(
            rb"(?<![0-9A-Za-z_])[A-Za-z]{2}[0-9]{2}(?:(?:[A-Za-z0-9]{4}){2,7}[A-Za-z0-9]{0,3}(?![0-9A-Za-z_])"
            rb"|([ -])[A-Za-z0-9]{4}(?:\1[A-Za-z0-9]{4}){1,6}(?:\1?[A-Za-z0-9]{1,4})?(?![0-9A-Za-z_]))"
        ),
        _iban,
        caseless=True,
    ),
)
