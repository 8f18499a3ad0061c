"""Kinds of backend."""

from gpubalancer.domain.backend import Kind


def test_kinds_are_the_words_of_the_policy_file() -> None:
    """A kind is written as the file and the metrics write it."""
    assert [str(kind) for kind in Kind] == ["gpu", "cpu", "cloud"]
