"""Delivered over predicted."""

import pytest

from gpubalancer.domain.audit import WHAT, Delivered, Predicted, ratios


def test_each_ratio() -> None:
    """One is exact; twice what was foreseen is two."""
    predicted = Predicted(1000, 200, 499, 0.5, 0.02)
    found = dict(ratios(predicted, Delivered(1000, 100, 999, 1.0, 0.03)))
    assert tuple(found) == WHAT
    assert list(found.values()) == pytest.approx([1.0, 0.5, 2.0, 2.0, 1.5])


def test_what_is_not_known_is_left_out() -> None:
    """Neither a prediction nor a delivery of nothing makes a ratio."""
    assert dict(ratios(Predicted(), Delivered(10, 10, None, 0.1, 0.1))) == {}
    assert dict(ratios(Predicted(10, 10, 10, 0.1, 0.1), Delivered())) == {}


def test_no_cache_foreseen_and_none_found_is_exact() -> None:
    """For cached tokens zero is a fact."""
    assert dict(ratios(Predicted(), Delivered(cached_tokens=0))) == {"cached_tokens": 1.0}
