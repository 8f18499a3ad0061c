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

    __slots__ = ("_messages", "_owners", "_parts", "_pieces", "_seams_from", "_starts", "data")

    def __init__(self, messages: Sequence[Sequence[str]]) -> None:
        self._messages = messages
        texts = [text if text.isascii() else plain(text) for parts in messages for text in parts if text]
        seams = [_edges(text) for text in texts] if len(texts) > 1 else []
        self._pieces = (texts, seams)
        self._starts: list[int] = []
        self._owners: list[int] = []
        self._parts: list[int] = []
        self._seams_from = 0
        self.data = "\n".join([*texts, "".join(seams)]).encode("utf-8", "replace")

    def _locate(self) -> None:
        """Work out what is where, once; asked for only where something was found."""
        if self._starts:
            return
        texts, seams = self._pieces
        self._owners = [index for index, parts in enumerate(self._messages) for text in parts if text]
        self._parts = [*range(len(texts)), *range(len(seams))]
        start = 0
        for text in texts:
            self._starts.append(start)
            start += _size_bytes(text) + 1
        self._seams_from = start
        for seam in seams:
            self._starts.append(start)
            start += _size_bytes(seam)

    def message_at(self, offset: int) -> int:
        """Index of the message that a byte belongs to."""
        self._locate()
        return self._owners[self._part_at(offset)]

    def crossing(self, start: int, end: int) -> int | None:
        """The part from whose end a match reaches into the next, None if it stays in one."""
        first = self._part_at(start)
        return first if self._part_at(end - 1) != first else None

    def is_at_seams(self, offset: int) -> bool:
        """True for the second copy of a text, where only what crosses a seam is news."""
        self._locate()
        return offset >= self._seams_from

    def _part_at(self, offset: int) -> int:
        self._locate()
        return self._parts[bisect_right(self._starts, offset) - 1]


def _edges(text: str) -> str:
    """What of a part may belong to a match that crosses into the next."""
    return text if len(text) <= 2 * SEAM_CHARS else text[:SEAM_CHARS] + _BREAK + text[-SEAM_CHARS:]


def _size_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
