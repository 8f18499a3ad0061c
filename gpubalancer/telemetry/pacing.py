"""How long to wait before something is asked again: an interval with jitter, doubled with each failure in a row."""

JITTER_FRACTION = 0.2
"""Either way, so that a fleet is not asked in step."""
LONGEST_PAUSE_S = 30.0
"""Between two tries at what keeps failing: a server that comes back is read again within half a minute."""


def pause_s(interval_s: float, failures: int, random: float) -> float:
    """Seconds to wait.

    Arguments:
        interval_s: between two readings that go well.
        failures: so many in a row before this.
        random: from 0 to 1.
    """
    doubled_s = interval_s * 2.0 ** min(failures, 32)
    return min(doubled_s, max(LONGEST_PAUSE_S, interval_s)) * (1 + JITTER_FRACTION * (2 * random - 1))
