"""Long runs of combining marks, cut as Unicode's Stream-Safe Text Format does (UAX #15, section 13).

Normalising sorts the marks behind a letter, and a sorter that is made for two or three of them is quadratic in their
number. No language has more than 30 in a row; there the standard puts a U+034F, which joins nothing, and so do we
before text is given to a tokenizer that normalises. A long text is gone through in slices, because the interpreter
can't change threads within one; over an edge a run may be twice as long.
"""

import re
import unicodedata
from functools import cache

_MOST = 30
_SLICE_CHARS = 16 * 1024
_JOINER = "\u034f"
_FIRST, _LAST = 0x0300, 0x1E94F
"""All characters of a combining class other than 0, of Unicode 16, are in this range."""
_BEYOND = "\U000101fd-\U0001e94f"
"""Those beyond the first 65,536 characters are in this one, among others that are no marks."""


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What finds every long run and some texts of rare scripts, fast; and what finds runs only, at 100 ns a letter.

    `re` has a table for sets of characters within the first 65,536, and goes through a list for all beyond. The first
    mark stands apart because only then does it leap from one to the next.
    """
    marks = [chr(code) for code in range(_FIRST, _LAST) if unicodedata.combining(chr(code))]
    quick = "".join([mark for mark in marks if ord(mark) < 0x10000]) + _BEYOND
    found = [f"[{each}][{each}]{{{_MOST - 1}}}" for each in (quick, "".join(marks))]
    return re.compile(found[0]), re.compile(found[1])


def bounded_marks(text: str) -> str:
    """The text with no run of more than 30 combining marks; the very same one if there is none."""
    if text.isascii():
        return text
    if len(text) <= _SLICE_CHARS:
        return _cut(text)
    return "".join([_cut(text[start : start + _SLICE_CHARS]) for start in range(0, len(text), _SLICE_CHARS)])


def _cut(text: str) -> str:
    quick, exact = _patterns()
    return exact.sub(rf"\g<0>{_JOINER}", text) if quick.search(text) else text
