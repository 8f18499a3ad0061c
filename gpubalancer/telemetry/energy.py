"""What a backend's machine draws for each second that it works for us, from measured energy.

Between two readings of its GPUs a backend has drawn some joules, by their energy counters, else by power times time:

    drawn = idle + others' + ours
    idle  = what it draws while nobody asks anything of it, for the whole time; kept apart
    ours  = the rest, by our share of the requests there

and the requests that ended meanwhile took some seconds of its time for their tokens (`brain/price`: uncached prompt
tokens by the curve of reading, each token of an answer by its part of a step). `ours` by these seconds, both summed
with forgetting, is the power that a request is charged with for its own. So what is measured is shared among requests
by their tokens, each kind weighed by the time that it takes, and over minutes the sum of what they are charged is what
was measured.
"""

import math
from dataclasses import dataclass

FORGETS_S = 60.0
"""After so long without a reading, or of readings, sums count for 37 %."""
GAP_S = 30.0
"""Readings that are further apart say nothing of what was between them."""
IDLE_FRACTION = 0.12
"""Of its power now, what a card is taken to draw idle until it was seen so (data sheets: 0.10 to 0.15)."""
IDLE_BLEND = 0.3
LEAST_WORKED_S = 0.2
"""Less work than this, and what it drew is no measure."""
MOST_RATIO = 2.0
"""Of the highest power read. More would come of requests that have drawn and not ended yet."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One reading.

    Attributes:
        at_s: monotonic.
        watts: of all its GPUs; None if they do not tell.
        joules: their counters' sum; None if they have none.
        worked_s: of its time for requests that have ended, counted since whenever.
        ours: requests of ours there.
        all: of everybody there, as far as is known.
    """

    at_s: float
    watts: float | None
    joules: float | None
    worked_s: float
    ours: float
    all: float


class EnergyMeter:
    """One backend's.

    Attributes:
        active_watts: power by which requests are charged; NaN until it is known.
        idle_joules: drawn for nobody, since the meter began.
    """

    def __init__(self) -> None:
        self.active_watts = math.nan
        self.idle_joules = 0.0
        self._last: Drawn | None = None
        self._idle_watts: float | None = None
        self._most_watts = 0.0
        self._ours_joules = 0.0
        self._worked_s = 0.0

    def read(self, now: Drawn) -> None:
        """Take a reading in."""
        last, self._last = self._last, now
        self._most_watts = max(self._most_watts, now.watts or 0.0)
        if last is None or not 0.0 < now.at_s - last.at_s <= GAP_S:
            return
        passed_s = now.at_s - last.at_s
        drawn = _between(last, now, passed_s)
        if drawn is None:
            return
        # A worker that died takes its count with it.
        worked_s = max(0.0, now.worked_s - last.worked_s)
        if not (worked_s or last.all or now.all):
            idle_watts = drawn / passed_s
            self._idle_watts = idle_watts + (1 - IDLE_BLEND) * ((self._idle_watts or idle_watts) - idle_watts)
            self.idle_joules += drawn
            return
        idle_watts = self._idle_watts if self._idle_watts is not None else IDLE_FRACTION * drawn / passed_s
        idle = min(drawn, idle_watts * passed_s)
        self.idle_joules += idle
        self._charge((drawn - idle) * _share(last, now), worked_s, math.exp(-passed_s / FORGETS_S))

    def _charge(self, joules: float, worked_s: float, kept: float) -> None:
        self._ours_joules = self._ours_joules * kept + joules
        self._worked_s = self._worked_s * kept + worked_s
        if self._worked_s >= LEAST_WORKED_S:
            watts = self._ours_joules / self._worked_s
            self.active_watts = min(watts, MOST_RATIO * self._most_watts) if self._most_watts else watts


def _between(last: Drawn, now: Drawn, passed_s: float) -> float | None:
    if now.joules is not None and last.joules is not None and now.joules >= last.joules:
        return now.joules - last.joules
    return None if now.watts is None else (now.watts + (last.watts or now.watts)) / 2 * passed_s


def _share(last: Drawn, now: Drawn) -> float:
    """Our part of the requests there."""
    everybody = last.all + now.all
    return min(1.0, (last.ours + now.ours) / everybody) if everybody else 1.0
