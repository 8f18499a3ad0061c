"""One hyperscan pass."""

import re
import threading

import hyperscan
import pytest

from gpubalancer.brain.sensitivity.places import MOST_PLACES, Expressions
from gpubalancer.brain.sensitivity.rule import Rule

ONCE = hyperscan.HS_FLAG_SINGLEMATCH


def _rule(trigger: bytes, *, caseless: bool = False) -> Rule:
    return Rule(trigger, re.compile(trigger), caseless=caseless)


def test_beginnings_of_triggers_and_ends_of_others() -> None:
    """A trigger's places are where it began, each once; another expression's is its first last byte."""
    expressions = Expressions([_rule(rb"\bab{1,3}"), _rule(rb"AB", caseless=True)], [("b+", ONCE)])
    places = expressions.places(b"abbb ab", 100)
    assert places is not None
    assert places.found == [(0, 0), (0, 5), (1, 0), (1, 5), (2, 1)]
    assert places.crowded == frozenset()


def test_more_than_wanted() -> None:
    """A pass with more places than the caller wants is given up, and the next one is whole."""
    expressions = Expressions([_rule(rb"a")], [])
    assert expressions.places(b"a" * 11, 10) is None
    assert expressions.places(b"a" * 10, 10) is not None


def test_a_crowded_rule() -> None:
    """A rule has at most so many places, and is named when it had more."""
    expressions = Expressions([_rule(rb"a"), _rule(rb"b")], [])
    places = expressions.places(b"b" + b"a" * (MOST_PLACES + 1), 1 << 62)
    assert places is not None
    assert len(places.found) == MOST_PLACES + 1
    assert places.crowded == {0}


def test_expressions_that_cannot_be_compiled() -> None:
    """An expression that hyperscan does not support raises."""
    with pytest.raises(hyperscan.error):
        Expressions([], [("a(?=b)", 0)])


def test_no_text_has_no_places() -> None:
    """An empty text is read too."""
    places = Expressions([_rule(rb"a")], []).places(b"", 0)
    assert places is not None
    assert places.found == []


def test_two_threads_have_their_own_memory() -> None:
    """A scanner set apart reads in another thread while the first one reads."""
    expressions = Expressions([_rule(rb"\ba[0-9]{3}")], [])
    text = b"a123 " * 2000
    results: list[object] = []
    threads = [
        threading.Thread(target=lambda own=own: results.extend(own.places(text, 10**6) for _ in range(20)))
        for own in (expressions, expressions.apart())
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [expressions.places(text, 10**6)] * 40
