"""Changes to a body that may be too large to be copied: a few bytes of it are replaced, all others stay as they are.

A body is a row of pieces, as they came. Cutting 32 MB at two places makes some new pieces and copies none but those
that are cut; joining them would take 20 ms.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Edit(NamedTuple):
    """The bytes from `start` to before `end`, and what stands there instead."""

    start: int
    end: int
    text: bytes


def applied(content: bytes, edit: Edit) -> bytes:
    """A small body, changed."""
    return content[: edit.start] + edit.text + content[edit.end :]


def edited(pieces: Sequence[bytes], edits: Sequence[Edit]) -> tuple[bytes, ...]:
    """The pieces of a body with edits that do not overlap, in any order."""
    changed: list[bytes] = []
    reached = 0
    for edit in sorted(edits):
        changed += _between(pieces, reached, edit.start)
        changed.append(edit.text)
        reached = edit.end
    return (*changed, *_between(pieces, reached, sum(map(len, pieces))))


def _between(pieces: Sequence[bytes], start: int, end: int) -> Iterator[bytes]:
    """The pieces of a part of the body."""
    offset = 0
    for piece in pieces:
        first, last = max(start - offset, 0), min(end - offset, len(piece))
        if first < last:
            yield piece[first:last]  # a whole piece is not copied
        offset += len(piece)
