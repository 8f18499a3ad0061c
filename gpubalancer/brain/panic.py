"""Too few left healthy: then the verdict of probes is worth less than the work that has to be done.

Engines that are flooded stop answering probes in time. Were they all taken for down, the few that are left would be
flooded next, and then nobody would serve at all. So where less than `PANIC_FRACTION` of a pool is up, those that at
least take a connection are candidates again, and what workers see of them decides (`health`). Who can't be reached
stays out, and so does who is drained, loads or sleeps.
"""

import numpy as np
from numpy.typing import NDArray

from gpubalancer.brain.fleet import Flags

PANIC_FRACTION = 0.5
"""Envoy's default (healthy_panic_threshold)."""


def in_panic(pools: NDArray[np.intp], up: Flags, draining: Flags, reachable: Flags) -> Flags:
    """Who counts as up. All columns have the shape (backends,).

    Arguments:
        pools: number of each backend's pool.
        up: by probes.
        draining: of no account.
        reachable: takes a connection, and serves as far as its engine says.
    """
    wanted = ~draining
    size = np.bincount(pools, weights=wanted)
    healthy = np.bincount(pools, weights=up & wanted)
    panics = healthy < PANIC_FRACTION * size
    counted: Flags = up | (panics[pools] & reachable)
    return counted
