r"""One kind of text that a detector knows: where to look, what it looks like, and what makes it real.

Hyperscan reports where a match of `trigger` began. There `pattern` is tried, once, and `confirms` has the last word.
Thus a trigger must begin where the pattern begins, and match wherever the pattern does. It may match in more places,
since it knows neither look-around nor back-references nor check digits.

Patterns are bytes: a letter outside ASCII is two to four bytes of 0x80 to 0xFF, none of which is a letter for `\b`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

Match = re.Match[bytes]
Confirm = Callable[[Match], bool]
Check = Callable[[bytes], object]
"""Judges a number in one piece."""

START = rb"(?<![0-9A-Za-z_+])(?<![0-9][./-])"
"""Before a number: not a longer word or number, nor the end of a decimal or a dashed code."""
END = rb"(?![0-9A-Za-z_])(?![.-][0-9])"


def always(_match: Match) -> bool:
    """The form alone is enough."""
    return True


@dataclass(frozen=True, slots=True)
class Rule:
    """Where to look, and what must stand there."""

    trigger: bytes
    pattern: re.Pattern[bytes]
    confirms: Confirm = always
    caseless: bool = False
    """Whether the trigger takes letters of either case."""


def compact(text: bytes) -> bytes:
    """A number without the signs that group it."""
    return text.translate(None, b" -./()")


def near(match: Match, words: re.Pattern[bytes], before_bytes: int, after_bytes: int) -> bool:
    """True if one of the words stands close before the match, or close behind it."""
    start, end = match.span()
    before = words.search(match.string, max(0, start - before_bytes), start)
    return bool(before or words.search(match.string, end, end + after_bytes))


_OTHER_NUMBERS = frozenset(
    b"order invoice tracking ticket parcel shipment sku part item model serial batch lot trace request session build "
    b"ref reference commit isbn ean upc gtin version catalog catalogue article product asset job row revision offset "
    b"counter seed bestellung rechnung auftrag commande facture pedido factura ordine fattura".split()
)
"""What numbers of other kinds are called."""
_SAYS_NUMBER = frozenset(b"no num number nr id code key nummer numero".split())
_WORDS = bytes(byte if chr(byte).isalpha() and byte < 128 else 32 for byte in range(256)).lower()


def named_otherwise(match: Match) -> bool:
    """True if the word right before the match says that it is a number of another kind, such as an order's."""
    start = match.start()
    line = match.string[max(0, start - 32) : start].rpartition(b"\n")[2]
    words = line.translate(_WORDS).split()[-2:]
    while words and words[-1] in _SAYS_NUMBER:
        words.pop()
    return bool(words) and (words[-1] in _OTHER_NUMBERS or words[-1].removesuffix(b"s") in _OTHER_NUMBERS)


def formatted(form: bytes, check: Check, *, caseless: bool = False) -> Rule:
    """A number whose form and check are enough, unless the words before it name a number of another kind.

    The form is the trigger too: hyperscan must take it.
    """

    def confirms(match: Match) -> bool:
        return bool(check(compact(match[0]))) and not named_otherwise(match)

    pattern = re.compile(START + rb"(?:" + form + rb")" + END, re.IGNORECASE if caseless else 0)
    return Rule(rb"\b(?:" + form + rb")\b", pattern, confirms, caseless)


ANYTHING = rb"[^0-9\n]{0,24}"


def labelled(words: str, form: bytes, check: Check, between: bytes = ANYTHING, *, scripts: str = "") -> Rule:
    """A number that needs its name before it: the words, what may stand between, and the form.

    `scripts` are words in a script that has no letters of ASCII, hence no word boundaries.
    """

    def confirms(match: Match) -> bool:
        return bool(check(compact(match[1])))

    name = rf"\b(?:{words})".encode()
    if scripts:
        name = rb"(?:" + name + rb"|" + scripts.encode() + rb")"
    pattern = re.compile(name + between + rb"?" + START + rb"(" + form + rb")" + END, re.IGNORECASE)
    # The name alone is the trigger: of two names before one number hyperscan would only report the first.
    return Rule(name, pattern, confirms, caseless=True)
