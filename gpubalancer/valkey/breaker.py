"""Whether a server is asked at all.

Closed: it is. After `FAILURES` failures in a row, or when its connection is lost, the breaker opens: nobody asks, and
nobody waits. What closes it again is a sign of life that is asked for beside all requests, not one of them.
"""

FAILURES = 3
"""One late reply may be our own event loop's fault."""


class Breaker:
    """Counts failures; has no clock.

    Attributes:
        is_open: nobody asks.
        opened: how often it has opened.
    """

    def __init__(self, *, is_open: bool = True) -> None:
        self.is_open = is_open
        self.opened = 0
        self._failures = 0

    def __repr__(self) -> str:
        return f"<Breaker {'open' if self.is_open else 'closed'}, {self._failures} failures>"

    def answered(self) -> None:
        """A reply came in time."""
        self._failures = 0

    def failed(self) -> None:
        """A reply did not come in time."""
        self._failures += 1
        if self._failures >= FAILURES:
            self.open()

    def open(self) -> None:
        """Nobody asks from now on."""
        if not self.is_open:
            self.is_open = True
            self.opened += 1

    def close(self) -> None:
        """There was a sign of life."""
        self.is_open = False
        self._failures = 0
