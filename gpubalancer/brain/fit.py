"""Three coefficients of a curve, fitted to what is measured, one sample at a time.

Recursive least squares in the form of a Kalman filter whose coefficients drift (Ljung, System Identification, 2nd ed.,
section 11.2): old samples are forgotten as far as drift explains, and no faster. With what a proxy sees in mind:

* Coefficients are counted in shares of what the prior says at a typical point, so that all three are of one size.
* It is the *level* that is uncertain at first (a machine may be 40 times slower than claimed), its *shape* much less:
  the covariance starts long in the prior's own direction and short across. The first samples set the level. The shape
  stays under this rein: requests that are read together end together, whatever their length, and a fit left free would
  learn from that that length does not matter.
* A sample's noise is a fraction of its own value. So one request that was stuck for a minute has next to no weight, and
  one that came from a machine 40 times slower has its full weight while the level is open.
* Several surprises in a row on the same side are no noise: the level is opened again. This follows a machine that has
  become twice as slow within about ten requests, where drift alone would take a hundred.

Nothing here knows what the curve is of. About 10 us for a sample.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Three = tuple[float, float, float]

NOISE_FRACTION = 0.2
"""Standard deviation of a good sample, in shares of its value."""
LEVEL_FRACTION = 20.0
"""Standard deviation of the level at the start."""
LEVEL_DRIFT_FRACTION, SHAPE_DRIFT_FRACTION = 0.01, 0.001
"""By how much both may change from one sample to the next."""
REOPENED_FRACTION = 1.0
"""Standard deviation of the level after a change was noticed."""
SURPRISE = math.log(1.3)
SURPRISES = 5
"""So many samples in a row, all off by more than 1.3 to the same side, are a change."""
MOST_SHARE = 1e4
LEAST_LEVEL = 1e-3
"""Of the prior's level. Nothing is faster than a thousand times what it was taken for."""


@dataclass(slots=True)
class Fit:
    """A curve `c0 x0 + c1 x1 + c2 x2` whose coefficients are learned.

    Arguments:
        prior: the coefficients to start from; not all 0.
        typical: a typical point (x0, x1, x2), all above 0.
        shape_fraction: standard deviation of each coefficient's share at the start.
    """

    prior: Three
    typical: Three
    shape_fraction: float = 0.15
    samples: int = 0
    _unit: float = field(init=False)
    _shares: list[float] = field(init=False)
    _spread: list[list[float]] = field(init=False)
    _surprises: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        parts = [each * x for each, x in zip(self.prior, self.typical, strict=True)]
        self._unit = sum(parts)
        self._shares = [part / self._unit for part in parts]
        self._spread = [[0.0] * 3 for _ in range(3)]
        self._open(LEVEL_FRACTION, self.shape_fraction)

    @property
    def coefficients(self) -> Three:
        """What has been learned so far; 0 or more each."""
        first, second, third = (share * self._unit / x for share, x in zip(self._shares, self.typical, strict=True))
        return first, second, third

    def value(self, point: Three) -> float:
        """The curve at a point."""
        return sum(coefficient * x for coefficient, x in zip(self.coefficients, point, strict=True))

    def learn(self, point: Three, measured: float, noise_fraction: float = NOISE_FRACTION) -> None:
        """Take one sample in. What is not a number above 0 is passed over.

        Arguments:
            point: where it was taken.
            measured: the curve's value there.
            noise_fraction: standard deviation of the sample, in shares of its value.
        """
        if not (0.0 < measured < math.inf):
            return
        features = [x / typical for x, typical in zip(point, self.typical, strict=True)]
        target = measured / self._unit
        expected = _product(self._shares, features)
        self._notice(expected, target)
        self._open(LEVEL_DRIFT_FRACTION, SHAPE_DRIFT_FRACTION * sum(self._shares))
        gains = [_product(row, features) for row in self._spread]
        scale = 1.0 / ((noise_fraction * target) ** 2 + _product(gains, features))
        self._move([gain * scale * (target - expected) for gain in gains])
        for row, gain in zip(self._spread, gains, strict=True):
            for index, other in enumerate(gains):
                row[index] -= gain * other * scale
        self.samples += 1

    def to_state(self) -> dict[str, Any]:
        """All that was learned, as JSON values."""
        return {"shares": self._shares, "spread": self._spread, "samples": self.samples}

    def restore(self, state: Mapping[str, Any]) -> bool:
        """Go on from a state. Returns False, with nothing changed, where it is none."""
        shares, spread, samples = state.get("shares"), state.get("spread"), state.get("samples")
        if not (isinstance(spread, list) and len(spread) == 3 and isinstance(samples, int)):
            return False
        rows = [_three(row) for row in (shares, *spread)]
        found = [row for row in rows if row is not None]
        if len(found) < len(rows) or min(found[0]) < 0 or sum(found[0]) <= 0:
            return False
        self._shares, self._spread, self.samples = found[0], found[1:], samples
        return True

    def _open(self, level_fraction: float, shape: float) -> None:
        """Be less sure: of the level by a fraction of it, of each share by so much."""
        for row, (place, one) in zip(self._spread, enumerate(self._shares), strict=True):
            for index, other in enumerate(self._shares):
                row[index] += level_fraction**2 * one * other
            row[place] += shape**2

    def _notice(self, expected: float, target: float) -> None:
        surprise = math.log(target / expected)
        if abs(surprise) < SURPRISE:
            self._surprises = 0
            return
        is_same_side = (self._surprises >= 0) == (surprise > 0)
        self._surprises = (self._surprises if is_same_side else 0) + (1 if surprise > 0 else -1)
        if abs(self._surprises) >= SURPRISES:
            self._surprises = 0
            self._open(REOPENED_FRACTION, 0.0)

    def _move(self, steps: Sequence[float]) -> None:
        moved = [min(max(share + step, 0.0), MOST_SHARE) for share, step in zip(self._shares, steps, strict=True)]
        # A curve must stay above 0 wherever it is asked for, so its constant part never goes quite away.
        moved[0] = max(moved[0], LEAST_LEVEL)
        self._shares = moved


def _product(some: Sequence[float], others: Sequence[float]) -> float:
    return some[0] * others[0] + some[1] * others[1] + some[2] * others[2]


def _three(value: object) -> list[float] | None:
    if not isinstance(value, list) or len(value) != 3:
        return None
    numbers = [float(each) for each in value if isinstance(each, int | float) and math.isfinite(each)]
    return numbers if len(numbers) == 3 else None
