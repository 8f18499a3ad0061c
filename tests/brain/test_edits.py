"""Changes to a few bytes of a body that stays in its pieces."""

from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.edits import Edit, applied, edited


@given(st.lists(st.binary(min_size=1, max_size=5), max_size=6), st.data())
def test_pieces_are_edited_as_one_body_would_be(pieces: list[bytes], data: st.DataObject) -> None:
    """Wherever the pieces end, the result is that of editing the whole; no edit changes nothing."""
    content = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), min_size=4, max_size=4)))
    edits = [Edit(cuts[0], cuts[1], b"<1>"), Edit(cuts[2], cuts[3], b"")]
    expected = content[: cuts[0]] + b"<1>" + content[cuts[1] : cuts[2]] + content[cuts[3] :]
    assert b"".join(edited(pieces, edits[::-1])) == expected
    assert edited(pieces, ()) == tuple(pieces)
    assert applied(content, edits[0]) == b"".join(edited(pieces, edits[:1]))


def test_whole_pieces_are_not_copied() -> None:
    """Only what is cut is new."""
    first, second, third = b"a" * 100, b"b" * 100, b"c" * 100
    changed = edited((first, second, third), [Edit(150, 160, b"-")])
    assert changed[0] is first
    assert changed[-1] is third
    assert changed[1:-1] == (b"b" * 50, b"-", b"b" * 40)
