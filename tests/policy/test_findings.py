"""The words of findings."""

from gpubalancer.policy.findings import DisagreementError, Finding, listed, near, quoted


def test_near_names() -> None:
    """The nearest name, else all of them, else that there are none."""
    assert near("inernal", ["public", "internal"]) == '"internal"'
    assert near("x", ["a", "b"]) == '"a", "b"'
    assert near("x", [str(number) for number in range(20)]).endswith('"7", ...')
    assert near("x", []) == "none, as none is declared"


def test_texts_in_messages() -> None:
    """In quotes, on one line, not too long."""
    assert quoted('a"b\n') == '"a\\"b\\n"'
    assert quoted("é") == '"é"'
    assert len(quoted("x" * 1000)) == 62


def test_lists_in_messages() -> None:
    """Each text in quotes, and no more than eight of them."""
    assert listed(["a", "b"]) == '"a", "b"'
    assert listed([]) == ""
    assert listed(map(str, range(8))).endswith('"7"')
    assert listed(map(str, range(9))).endswith('"7", ...')


def test_a_disagreement_says_all_findings() -> None:
    """The error's text has each place, what was found there and what was expected."""
    error = DisagreementError([Finding(("a", 0), "1", "2"), Finding(("b",), "3", "4")])
    assert str(error) == "('a', 0): found 1, expected 2; ('b',): found 3, expected 4"
    assert len(error.findings) == 2
