"""Whether a request is let in now, waits here, or is refused.

With an SLO a request goes to a backend only while the predictions for it hold there: what waits here can still go where
a place comes free first, what waits in an engine cannot. What can no longer be met anywhere is refused at once.

Predictions may be wrong, so this fails soft:

* Where nobody keeps the SLO, and the best backend, idle, could hardly, the SLO is no measure: the limit is then `SLACK`
  times what that one could.
* An idle backend is never refused: where no prediction holds, it serves. (Waiting first for one that could keep the SLO
  was tried: a little better on chats below capacity, worse on everything else, because what waits holds up the line.)
* A prediction is of what is likely, and must hold for most: it counts times the backend's ratio (`tightness`), which
  rises within seconds where measured times are above the predicted ones.
"""

import math
from typing import NamedTuple

from gpubalancer.domain.work import Work
from gpubalancer.policy.routing import Slo

SLACK = 1.5
"""How far above the best that the fleet can do a limit is moved at least."""
RETRY_LEAST_S, RETRY_MOST_S = 1.0, 60.0


class Limits(NamedTuple):
    """What must hold: seconds until the first token from now on, seconds per further token."""

    ttft_s: float
    tpot_s: float


def is_bounding(slo: Slo | None) -> bool:
    """True if the SLO holds anything back."""
    return slo is not None and (slo.ttft_s is not None or slo.tpot_s is not None)


def limits(slo: Slo, work: Work, waited_s: float, best_ttft_s: float = 0.0, best_tpot_s: float = 0.0) -> Limits:
    """What a request may still take.

    Arguments:
        slo: of the policy; a long prompt is given longer, and what writes no more than one token has no TPOT.
        work: the request.
        waited_s: how long it has waited here.
        best_ttft_s: TTFT on the best backend that may serve it, if that were idle, its ratio included; 0 for the SLO as
            it stands.
        best_tpot_s: the same for TPOT.
    """
    ttft_s = tpot_s = math.inf
    if slo.ttft_s is not None:
        ttft_s = slo.ttft_s + slo.ttft_per_1k_prompt_tokens_s * work.prompt_tokens / 1000.0
    if slo.tpot_s is not None and work.output_tokens > 1:
        tpot_s = slo.tpot_s
    return Limits(max(ttft_s, SLACK * best_ttft_s) - waited_s, max(tpot_s, SLACK * best_tpot_s))


def retry_after_s(least_ttft_s: float, limits: Limits) -> float:
    """Seconds until a request like this could be let in, 1 to 60: until the shortest queue has shrunk to the limit."""
    late_s = least_ttft_s - max(limits.ttft_s, 0.0)
    return min(max(late_s, RETRY_LEAST_S), RETRY_MOST_S) if math.isfinite(late_s) else RETRY_LEAST_S
