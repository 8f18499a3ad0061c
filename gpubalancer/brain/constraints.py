"""Which constraint drops a backend: what it can never serve (`Fleet`), then what is so now.

The order is that of `domain.decision.Reason`. `candidates` is the quick form for every request: it leaves slots out,
because a full backend will do later.
"""

import numpy as np

from gpubalancer.brain.fleet import Flags, Fleet
from gpubalancer.brain.live import Live, as_list
from gpubalancer.domain.decision import Reason
from gpubalancer.domain.work import Work


def candidates(fleet: Fleet, work: Work, live: Live, tried: Flags | None) -> Flags:
    """Backends that may serve the request and are fit to, full ones included."""
    flags = fleet.eligible(work) & np.asarray(live.up, np.bool_) & ~np.asarray(live.draining, np.bool_)
    return flags if tried is None else flags & ~tried


def candidate_indices(fleet: Fleet, work: Work, live: Live, tried: Flags | None) -> list[int]:
    """The same as indices: quicker for a few backends."""
    ups, drains, eligible = as_list(live.up), as_list(live.draining), fleet.eligible(work).tolist()
    fit = [index for index, may in enumerate(eligible) if may and ups[index] and not drains[index]]
    return fit if tried is None else [index for index in fit if not tried[index]]


def reasons(fleet: Fleet, work: Work, live: Live, tried: Flags | None) -> list[Reason | None]:
    """For each backend, the first constraint that drops it."""
    found = fleet.ineligible(work)
    later: tuple[tuple[Reason, Flags], ...] = (
        ("down", ~np.asarray(live.up, np.bool_)),
        ("draining", np.asarray(live.draining, np.bool_)),
        ("tried", tried if tried is not None else np.zeros(len(fleet), dtype=np.bool_)),
        ("slots", np.asarray(live.in_flight) >= fleet.slots),
    )
    for reason, holds in later:
        for index in holds.nonzero()[0]:
            found[index] = found[index] or reason
    return found
