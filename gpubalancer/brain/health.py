"""What one worker has seen of each backend, between the supervisor's probes.

A backend that could not be connected to is avoided for a moment that doubles with each further failure, up to
`LONGEST_S`; one success forgets it. This is advice, not a verdict: if nothing else is left, the backend is tried.
"""

import numpy as np
from numpy.typing import NDArray

FIRST_S = 0.5
LONGEST_S = 10.0


class Health:
    """Passive observations of one worker; columns over the board's rows."""

    def __init__(self, rows: int) -> None:
        self._failures: NDArray[np.int32] = np.zeros(rows, dtype=np.int32)
        self._until_s: NDArray[np.float64] = np.zeros(rows, dtype=np.float64)
        self._all_well = True

    def failed(self, row: int, now_s: float) -> None:
        """A connection could not be made, or broke before it answered."""
        self._failures[row] += 1
        pause_s = min(LONGEST_S, FIRST_S * 2.0 ** min(int(self._failures[row]) - 1, 10))
        self._until_s[row] = now_s + pause_s
        self._all_well = False

    def answered(self, row: int) -> None:
        """The backend answered, whatever it said."""
        if not self._all_well:
            self._failures[row] = 0
            self._until_s[row] = 0.0
            self._all_well = not self._failures.any()

    def avoided(self, rows: NDArray[np.intp], now_s: float) -> NDArray[np.bool_] | None:
        """Which of these rows are better left alone for now; None if none is."""
        if self._all_well:
            return None
        avoided = self._until_s[rows] > now_s
        return avoided if avoided.any() else None
