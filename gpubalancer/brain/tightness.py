"""By how much predictions must be raised to hold most of the time.

A curve tells what is likely, and half of all requests take longer; promises are kept by those that do not. So admission
multiplies each prediction by a ratio: measured over predicted as it is exceeded by one request in five of late. It is
followed by small steps, up by four where a request took longer and down by one where it did not, which settles where
one in five does (Robbins and Monro, 1951); and further up the more it took, so that predictions that have become wrong
hold back work within seconds. Without news the ratio falls back to where it began.
"""

import math
from dataclasses import dataclass

LATE_FRACTION = 0.2
STEP = 0.03
"""Of the logarithm: 2.4 % up for a request that was a little late, 0.6 % down for one that was not."""
STEEPNESS = 2.0
FADES_S = 60.0
MOST = 4.0
"""Beyond this the predictions say nothing, and idle backends go on serving anyway."""


@dataclass(slots=True)
class Tightness:
    """The ratio of one backend and one time.

    Arguments:
        usual: where it begins.
        least: it never falls below.
    """

    usual: float
    least: float
    _log_offset: float = 0.0
    _at_s: float = 0.0

    def learn(self, predicted_s: float, measured_s: float, now_s: float) -> None:
        """Compare what came with what was predicted when the backend was chosen."""
        if not (predicted_s > 0.0 and 0.0 < measured_s < math.inf):
            return
        ratio = self.ratio(now_s)
        late = math.log(measured_s) - math.log(predicted_s) - math.log(ratio)
        step = STEP * (1 - LATE_FRACTION) * (1 + STEEPNESS * late) if late > 0 else -STEP * LATE_FRACTION
        moved = min(max(ratio * math.exp(min(step, 1.0)), self.least), MOST)
        self._log_offset, self._at_s = math.log(moved / self.usual), now_s

    def ratio(self, now_s: float) -> float:
        """What predictions are to be multiplied by now."""
        return self.usual * math.exp(self._log_offset * math.exp(-max(now_s - self._at_s, 0.0) / FADES_S))
