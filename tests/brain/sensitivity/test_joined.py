"""All text of a request as one run of bytes."""

from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.sensitivity.joined import SEAM_CHARS, Joined

MESSAGES = st.lists(st.lists(st.text(max_size=30), max_size=4), max_size=5)


def test_parts_and_then_the_seams() -> None:
    """The parts stand on lines of their own, and once more with nothing between them."""
    joined = Joined([["one", "two"], [], ["", "three"]])
    assert joined.data == b"one\ntwo\nthree\nonetwothree"
    assert [joined.message_at(joined.data.index(word)) for word in (b"one", b"two", b"three")] == [0, 0, 2]
    assert joined.message_at(joined.data.rindex(b"three")) == 2


def test_one_part_has_no_seam() -> None:
    """A single text stands once."""
    assert Joined([["", "one"]]).data == b"one\n"
    assert Joined([[], [""]]).data == b""


def test_what_crosses() -> None:
    """A span is of one part, or it reaches from a part into the next, in both copies."""
    joined = Joined([["one", "two", "three"]])
    copy = joined.data.index(b"onetwo")
    assert joined.crossing(0, 3) is None
    assert joined.crossing(0, 5) == 0
    assert joined.crossing(copy + 4, copy + 8) == 1
    assert not joined.is_at_seams(copy - 1)
    assert joined.is_at_seams(copy)


def test_long_parts_show_their_ends_at_the_seams() -> None:
    """Of a long part only the first and last characters stand in the copy, and nothing reads across the gap."""
    long = "a" * SEAM_CHARS + "middle" + "b" * SEAM_CHARS
    joined = Joined([[long, "x"]])
    copy = joined.data[len(long) + 3 :]
    assert copy == b"a" * SEAM_CHARS + b"\n\0\n" + b"b" * SEAM_CHARS + b"x"
    assert joined.crossing(len(long) + 3, len(long) + 3 + SEAM_CHARS + 5) is None


def test_what_has_no_utf8_is_a_question_mark() -> None:
    """Half a surrogate pair neither raises nor breaks the bytes."""
    assert Joined([["a\ud800b"]]).data == b"a?b\n"


@given(MESSAGES)
def test_every_byte_belongs_to_its_message(messages: list[list[str]]) -> None:
    """The bytes are valid UTF-8, and each offset belongs to a message with text, in order within each copy."""
    joined = Joined(messages)
    joined.data.decode()
    with_text = {index for index, parts in enumerate(messages) if any(parts)}
    owners = [joined.message_at(offset) for offset in range(len(joined.data))]
    assert set(owners) == with_text
    copy = next((offset for offset in range(len(owners)) if joined.is_at_seams(offset)), len(owners))
    assert owners[:copy] == sorted(owners[:copy])
    assert owners[copy:] == sorted(owners[copy:])
