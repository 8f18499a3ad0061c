"""Runs of combining marks are cut at 30, and nothing else is touched."""

import time
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.tokens.marks import bounded_marks

MARKS = st.text(st.sampled_from("\u0301\u0327\u0316\u05b0\u3099\U0001e8d0"), max_size=100)


@given(st.text() | MARKS)
def test_no_long_run_is_left(text: str) -> None:
    """At most 30 marks follow each other, and without the joiners the text is as it was."""
    bounded = bounded_marks(text)
    run = 0
    for letter in bounded:
        run = run + 1 if unicodedata.combining(letter) else 0
        assert run <= 30
    assert bounded.replace("\u034f", "") == text.replace("\u034f", "")


@given(st.text(max_size=30))
def test_other_texts_are_the_same(text: str) -> None:
    """A text without such a run is the very same object's value."""
    assert bounded_marks(text) == text


def test_all_marks_are_known() -> None:
    """No character beyond the range that is looked at is a mark."""
    assert not any(unicodedata.combining(chr(code)) for code in (*range(0x300), *range(0x1E94F, 0x110000)))


def test_a_megabyte_of_marks() -> None:
    """Cutting is linear, and over the edge of a slice a run is at most twice as long."""
    start_s = time.thread_time()
    bounded = bounded_marks("\u0316\u0301" * 500_000)
    assert time.thread_time() - start_s < 1.0
    assert max(map(len, bounded.split("\u034f"))) <= 60
