"""Text without disguises."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.sensitivity.plain import plain, plain_pattern


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("4\u200b1\u00ad1\ufeff1", "4111"),
        ("\uff14\uff11\uff11\uff11", "4111"),
        ("\u0664\u0661\u0661\u0661 \u0967", "4111 1"),
        ("\U0001d7d2\U0001d7cf", "41"),
        ("41\u00a011\u202f11\u300011", "41 11 11 11"),
        ("555\u20130123 \u2212 1", "555-0123 - 1"),
        ("\uff41\uff20\uff42\uff0e\uff43\uff4f", "a@b.co"),
        ("\u2764\ufe0f", "\u2764"),
    ],
)
def test_disguises_are_taken_off(text: str, read: str) -> None:
    """Digits of any script, spaces, dashes and what shows nothing become what a reader takes them for."""
    assert plain(text) == read


@pytest.mark.parametrize("text", ["", "plain", "naïve café", "中文\uff0c字符", "привет", "\U0001f600", "\ud800"])
def test_other_letters_stay(text: str) -> None:
    """Letters with accents, other scripts and emoji are not touched, nor is what is no whole character."""
    assert plain(text) == text


def test_many_kinds_of_disguise_at_once() -> None:
    """More different disguises than are replaced one by one give the same text."""
    digits = "".join(chr(code) for zero in (0x660, 0x6F0, 0x966) for code in range(zero, zero + 10))
    assert plain(digits) == "0123456789" * 3


@given(st.text(min_size=1, max_size=3), st.integers(8_000, 9_000))
def test_long_text_is_read_as_short_text_is(unit: str, times: int) -> None:
    """It is looked at in steps, and no step sees less than the whole would."""
    assert plain(unit * times) == plain(unit) * times


@given(st.text())
def test_plain_text_stays_plain(text: str) -> None:
    """Reading twice is reading once, whatever the text."""
    assert plain(plain(text)) == plain(text)


@pytest.mark.parametrize(
    ("regex", "stands"),
    [("a\u2013b", r"a\-b"), (r"a\x{2013}b", r"a\-b"), ("\u0661+", "1+"), (r"\x{e9}t", r"\x{e9}t"), ("a-z", "a-z")],
)
def test_patterns_name_what_the_text_has(regex: str, stands: str) -> None:
    """A dash or a digit of another kind in an operator's expression is the plain one there too."""
    assert plain_pattern(regex) == stands
    re.compile(plain_pattern(regex).replace(r"\x{e9}", "e"))
