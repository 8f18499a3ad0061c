"""What one worker has seen of each backend, between the supervisor's probes.

Each try says something (`WEIGHTS`), and a backend whose failures in a row weigh 1 is **ejected**: for `FIRST_S`, and
twice as long each time it is ejected again within `FORGET_S`, up to `LONGEST_S`. When that has passed it is **half
open**: one request is let through, and others follow only if it is answered, or if `TRIAL_S` pass without a word; if it
fails, the backend is ejected for longer. An answer that begins ends the ejection and counts for half, so that a backend
that breaks every answer off is ejected all the same; one that ends well forgets what failed, and only time how often.

A client's fault never counts: not one that left, not a deadline of its own that passed, and no status that a request
can bring about (a request that an engine chokes on would eject one backend after the other). And an ejection is advice:
where nobody else is left, an ejected backend is tried all the same.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FIRST_S = 0.5
LONGEST_S = 30.0
FORGET_S = 60.0
"""So long without a failure, and the next ejection is a first one."""
TRIAL_S = 5.0
"""How long a half-open backend has for its one request, before another one is let through."""

Failure = Literal["unreachable", "cut", "broken", "unavailable"]
WEIGHTS: Mapping[Failure, float] = {
    "unreachable": 1.0,  # no connection
    "cut": 0.75,  # it broke off an answer that had begun
    "broken": 0.5,  # it ended, or the time passed, without an answer
    "unavailable": 0.25,  # 502, 503 or 504: overloaded, or a proxy with nothing behind it, which would look idle
}
"""What one failure weighs: 1 ejects."""
UNAVAILABLE = frozenset((502, 503, 504))


class Health:
    """Passive observations of one worker; columns over the board's rows."""

    def __init__(self, rows: int) -> None:
        self._weight: NDArray[np.float64] = np.zeros(rows)
        self._ejections: NDArray[np.int32] = np.zeros(rows, dtype=np.int32)
        self._failed_s: NDArray[np.float64] = np.zeros(rows)
        self._until_s: NDArray[np.float64] = np.zeros(rows)
        self._trial: NDArray[np.bool_] = np.zeros(rows, dtype=np.bool_)
        self.all_well = True

    def failed(self, row: int, now_s: float, failure: Failure = "unreachable") -> bool:
        """A try has failed; True if the backend is ejected for it."""
        self.all_well = False
        is_trial = bool(self._trial[row])
        if now_s - self._failed_s[row] > FORGET_S:
            self._ejections[row] = 0
        self._failed_s[row] = now_s
        self._weight[row] += WEIGHTS[failure]
        # Of many in flight at once all may fail: they make one ejection.
        if self._weight[row] < 1.0 or (self._until_s[row] > now_s and not is_trial):
            return False
        self._trial[row] = False
        self._until_s[row] = now_s + min(LONGEST_S, FIRST_S * 2.0 ** min(int(self._ejections[row]), 10))
        self._ejections[row] += 1
        return True

    def sent(self, row: int, now_s: float) -> None:
        """A request goes there: the one that is let through, if the backend is half open."""
        if self._weight[row] >= 1.0 and self._until_s[row] <= now_s:
            self._until_s[row] = now_s + TRIAL_S
            self._trial[row] = True

    def answered(self, row: int) -> None:
        """The backend has begun an answer, whatever it says."""
        if not self.all_well:
            self._weight[row] = min(0.5 * self._weight[row], 0.5)
            self._until_s[row] = 0.0
            self._trial[row] = False

    def served(self, row: int) -> None:
        """And has ended it well."""
        if not self.all_well:
            self._weight[row] = 0.0
            self.all_well = not self._weight.any()

    def avoided(self, rows: NDArray[np.intp], now_s: float) -> NDArray[np.bool_] | None:
        """Which of these rows are better left alone for now; None if none is."""
        if self.all_well:
            return None
        avoided = self._until_s[rows] > now_s
        return avoided if avoided.any() else None
