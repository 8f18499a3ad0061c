"""Text as it is read by people, in the letters that detectors know.

A number does not become another one by a zero-width space inside it, by full-width or Arabic digits, by no-break spaces
or by typographic dashes. Only text that is not ASCII is looked at.
"""

import re
import unicodedata
from collections.abc import Iterable

_ASTRAL = "\U0001d400-\U0001d7ff\U000e0000-\U000e0fff"
"""Mathematical letters and digits, and the tags and selectors that show nothing."""
_ASTRAL_CODES = (*range(0x1D400, 0x1D800), *range(0xE0000, 0xE1000))
_SHOWS_NOTHING = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") | frozenset(map(chr, range(0xFE00, 0xFE10)))
_FULL_WIDTH_SIGNS = frozenset("\uff20\uff0e\uff0b\uff3f\uff0f\uff1d")
"""@ . + _ / = in full width; commas, brackets and the like are common in Chinese and part no match."""


def _reading(char: str) -> str | None:
    """What a character stands for: another one, nothing (an empty text), or itself (None)."""
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.digit(char))
    if category == "Zs":
        return " "
    if category == "Pd" or char == "\u2212":
        return "-"
    if category == "Cf" or char in _SHOWS_NOTHING:
        return ""
    if char in _FULL_WIDTH_SIGNS or (category[0] == "L" and ord(char) >= 0xFF00):
        folded = unicodedata.normalize("NFKC", char)
        return folded if folded.isascii() else None
    return None


def _table(codes: Iterable[int]) -> dict[int, str]:
    readings = ((code, _reading(chr(code))) for code in codes)
    return {code: reading for code, reading in readings if reading is not None}


_BASIC = _table(range(0x80, 0x10000))
_READINGS = _BASIC | _table(_ASTRAL_CODES)
_NAMED = re.compile(r"\\x\{0*([0-9A-Fa-f]{1,5})\}")
_DISGUISES = re.compile("[" + "".join(map(chr, _BASIC)) + _ASTRAL + "]")
_ASCII = bytes(range(128))
_FEW = 16
"""Different characters that are replaced one by one, each in a fast pass; `translate` takes 40 ns a character."""


_STEP_CHARS = 8 * 1024
"""So much is looked at in one go: no thread keeps the interpreter's lock for longer than that takes, 1 ms at most."""


def plain(text: str) -> str:
    """The text with every disguise taken off; other characters stay as they are."""
    if text.isascii():
        return text
    if len(text) > _STEP_CHARS:
        return "".join([plain(text[start : start + _STEP_CHARS]) for start in range(0, len(text), _STEP_CHARS)])
    # Deleting the ASCII bytes first is ten times as fast as passing over them.
    others = text.encode("utf-8", "replace").translate(None, _ASCII).decode()
    found = set(_DISGUISES.findall(others))
    if len(found) > _FEW:
        return text.translate(_READINGS)
    for char in found:
        text = text.replace(char, _READINGS.get(ord(char), char))
    return text


def plain_pattern(regex: str) -> str:
    r"""An operator's expression as it must stand to be looked for in plain text.

    It may name a dash, a digit or a space of another kind, as itself or as `\x{2013}`, that the text no longer has.
    """
    named = _NAMED.sub(lambda name: _standing_for(chr(int(name[1], 16)), name[0]), regex)
    return "".join(_standing_for(char, char) for char in named)


def _standing_for(char: str, otherwise: str) -> str:
    reading = _READINGS.get(ord(char))
    return otherwise if reading is None else re.escape(reading)
