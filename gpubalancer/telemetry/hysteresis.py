"""When a backend counts as up or down: a decision over observations, without clock or socket.

It takes `DOWN_AFTER` failures in a row to go down and `UP_AFTER` successes in a row to come back, so that one lost
packet changes nothing. A backend that was never up needs one success only: a start should not wait.

A probe is one observation. A worker's failed connect is one too, but however many workers tell of it, they make one
failure between two probes: the second must be a probe's own. So a flood of reports about a moment's hiccup cannot
take a backend down, and a dead one is down after one failed request and one probe.
"""

from dataclasses import dataclass, replace

DOWN_AFTER = 2
UP_AFTER = 2


@dataclass(frozen=True, slots=True)
class Health:
    """What the observations of one backend have come to.

    Attributes:
        up: the verdict.
        since_s: when the verdict last changed.
        failures: probes that failed, in a row.
        successes: probes that succeeded, in a row, while down.
        reported: a worker could not connect since the last success.
        proven: it was up at some time.
        reachable: at the last probe it took a connection, whatever it said then.
    """

    up: bool = False
    since_s: float = 0.0
    failures: int = 0
    successes: int = 0
    reported: bool = False
    proven: bool = False
    reachable: bool = False

    def probed(self, alive: bool, now_s: float, reachable: bool = True) -> "Health":
        """After a probe that ended at `now_s`; `reachable`: it could connect."""
        if not alive:
            return _judged(replace(self, failures=self.failures + 1, successes=0, reachable=reachable), now_s)
        if self.up:
            return replace(self, failures=0, reported=False, reachable=True)
        successes = self.successes + 1
        if successes >= (UP_AFTER if self.proven else 1):
            return Health(up=True, since_s=now_s, proven=True, reachable=True)
        return replace(self, failures=0, successes=successes, reported=False, reachable=True)

    def connect_failed(self, now_s: float) -> "Health":
        """After a worker reported at `now_s` that it could not connect."""
        return _judged(replace(self, reported=True, successes=0), now_s)


def _judged(failed: Health, now_s: float) -> Health:
    if failed.up and failed.failures + failed.reported >= DOWN_AFTER:
        return replace(failed, up=False, since_s=now_s)
    return failed
