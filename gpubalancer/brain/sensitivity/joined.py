"""All text of a request as one run of bytes, so that one pass reads it.

The parts stand one after the other, a line end between them. A match may also be split over two parts (or over messages
that follow one another); so the seams stand behind, once more, with nothing between the parts: short parts whole, of
long ones the first and the last characters. What is found there counts only if it crosses a seam.
"""

from bisect import bisect_right
from collections.abc import Sequence

from gpubalancer.brain.sensitivity.plain import plain

SEAM_CHARS = 512
"""How much of a part may belong to a match that crosses its edge; longer than any token but a signed one, whose
beginning is enough."""
_BREAK = "\n\0\n"
"""Between the first and last characters of a long part: no rule matches across it."""


class Joined:
    """The bytes, and which part and message an offset belongs to.

    Attributes:
        data: UTF-8; a lone surrogate, which has no UTF-8, is a question mark.
    """

    __slots__ = ("_messages", "_parts", "_seams_from", "_starts", "data")

    def __init__(self, messages: Sequence[Sequence[str]]) -> None:
        owners = [(index, text) for index, parts in enumerate(messages) for text in parts if text]
        self._messages = [index for index, _ in owners]
        texts = [text if text.isascii() else plain(text) for _, text in owners]
        pieces = [text.encode("utf-8", "replace") for text in texts]
        self._starts: list[int] = []
        self._parts: list[int] = []
        start = 0
        for part, piece in enumerate(pieces):
            self._starts.append(start)
            self._parts.append(part)
            start += len(piece) + 1
        self._seams_from = start
        pieces.append(b"")
        self.data = b"\n".join(pieces)
        if len(texts) > 1:
            self._add_seams(texts)

    def _add_seams(self, texts: list[str]) -> None:
        start, glued = self._seams_from, []
        for part, text in enumerate(texts):
            if len(text) > 2 * SEAM_CHARS:
                text = text[:SEAM_CHARS] + _BREAK + text[-SEAM_CHARS:]
            piece = text.encode("utf-8", "replace")
            self._starts.append(start)
            self._parts.append(part)
            start += len(piece)
            glued.append(piece)
        self.data += b"".join(glued)

    def message_at(self, offset: int) -> int:
        """Index of the message that a byte belongs to."""
        return self._messages[self._part_at(offset)]

    def crossing(self, start: int, end: int) -> int | None:
        """The part from whose end a match reaches into the next, None if it stays in one."""
        first = self._part_at(start)
        return first if self._part_at(end - 1) != first else None

    def is_at_seams(self, offset: int) -> bool:
        """True for the second copy of a text, where only what crosses a seam is news."""
        return offset >= self._seams_from

    def _part_at(self, offset: int) -> int:
        return self._parts[bisect_right(self._starts, offset) - 1]
