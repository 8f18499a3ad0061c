"""One opinion of each backend's speed, for all workers: the supervisor's end of learning.

Workers send a sample of each answer with their counts; what was learned goes back to all of them as a message, and to a
file, so that a restart forgets nothing. If the supervisor is gone, workers go on with its last word.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from gpubalancer.brain.calibrate import Calibrator, Sample
from gpubalancer.brain.columns import Measured
from gpubalancer.brain.fleet import Discovery
from gpubalancer.brain.priors import Coefficients, prior_of
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.memory import load_state, save_state

SAVE_S = 30.0
Rows = dict[str, list[float]]
"""What was learned as JSON: by backend the six coefficients and the two ratios."""


class Calibration:
    """What has been learned of the backends of the present policy.

    Arguments:
        path: where it is kept.
        clock: monotonic seconds.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._calibrator = Calibrator()
        self._rows: Rows = {}
        self._saved_s = clock()
        found = load_state(path)
        self._earlier: Mapping[str, Any] = found if isinstance(found, dict) else {}

    def expect(self, policy: Policy, discovered: Mapping[str, Discovery]) -> None:
        """Learn of this policy's backends from now on; what is known of those whose class stays is kept."""
        nothing = Discovery()
        self._calibrator.expect(
            {
                backend.name: prior_of(backend.hardware, backend.kind or discovered.get(backend.name, nothing).kind)
                for backend in policy.backends
            }
        )
        if self._earlier and self._calibrator.from_state(self._earlier):
            self._earlier = {}
        now_s = self._clock()
        names = [backend.name for backend in policy.backends if self._calibrator.samples(backend.name)]
        self._rows = {name: _row(self._calibrator.measured(name, now_s)) for name in names}

    def learn(self, samples: Iterable[list[Any]]) -> Rows:
        """Take in what a worker sent; returns what is new of whom, for all workers."""
        now_s = self._clock()
        changed = self._calibrator.learn([Sample(*row) for row in samples], now_s)
        news = {name: _row(self._calibrator.measured(name, now_s)) for name in changed}
        self._rows |= news
        if news and now_s - self._saved_s >= SAVE_S:
            self.save()
        return news

    @property
    def rows(self) -> Rows:
        """All that is known, for a worker that begins."""
        return self._rows

    def save(self) -> None:
        """Write what was learned."""
        self._saved_s = self._clock()
        save_state(self._path, self._calibrator.to_state())


def _row(found: Measured) -> list[float]:
    return [*found.curves, found.ttft_ratio, found.tpot_ratio]


def read_rows(rows: Rows) -> dict[str, Measured]:
    """What a message told, for `Judge.learn`."""
    return {name: Measured(Coefficients(*row[:6]), row[6], row[7]) for name, row in rows.items()}
