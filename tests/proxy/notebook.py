"""Records in memory, in the place of the journal: what was written, and a disk that can be full."""

from gpubalancer.domain.budget import Spending
from gpubalancer.domain.outcome import Outcome


class Notebook:
    """Keeps what it is told. While `has_room` is False, lines wait for a `flush`."""

    def __init__(self) -> None:
        self.lines: list[tuple[Outcome, Spending, int]] = []
        self.waiting: list[tuple[Outcome, Spending, int]] = []
        self.has_room = True
        self.lost = 3

    @property
    def is_full(self) -> bool:
        """True while lines wait."""
        return bool(self.waiting)

    def write(self, outcome: Outcome, spending: Spending, at_ns: int) -> bool:
        """Take a line; False if it waits."""
        self.waiting.append((outcome, spending, at_ns))
        return self.flush()

    def flush(self) -> bool:
        """Take what waits, if there is room."""
        if self.has_room:
            self.lines += self.waiting
            self.waiting.clear()
        return not self.waiting

    @property
    def spendings(self) -> list[Spending]:
        """What each was charged."""
        return [spending for _, spending, _ in self.lines]
