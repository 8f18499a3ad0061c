"""What one page of an engine told, and what is believed of it.

Two things are kept for each backend, in a `Watch`. Which fields it has told: one that disappears is worth a warning,
once, since an engine's update that renames a metric would else make it look idle. And how its gauges moved beside our
own count: a gauge that stands still while what we have there comes and goes is not of this moment. It is left out until
it moves, because *unknown* makes the decision fall back on our own counts, and *wrong* does not.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from gpubalancer.board.layout import Loaded

FROZEN_AFTER = 5
"""Readings in a row, all the same: at one a second as long as a reading is of use at all (`stale_after`)."""
SLACK_REQUESTS = 2
"""Difference between the engine's count and ours that requests on their way explain."""


@dataclass(frozen=True, slots=True)
class EngineReading:
    """What an engine said at one moment. None: it does not say, or it can't be true.

    Attributes:
        at_s: when its answer had come, by the monotonic clock.
        running, waiting: requests in its batch, and in its queue, of all clients together.
        kv_used_fraction: share of its key-value cache in use.
        kv_capacity_tokens: size of that cache.
        cached_tokens, looked_up_tokens: prompt tokens found in, and looked for in, the prefix cache since it started.
        loaded: whether its model is there; 0 is ready, or unknown.
        models: those it has in memory now.
        speed_fraction, power_watts: of its hardware, where a series is mapped to them by hand.
        suspect: names of fields that it told and that are not believed.
    """

    at_s: float
    running: float | None = None
    waiting: float | None = None
    kv_used_fraction: float | None = None
    kv_capacity_tokens: float | None = None
    cached_tokens: float | None = None
    looked_up_tokens: float | None = None
    loaded: Loaded = Loaded.READY
    models: tuple[str, ...] | None = None
    speed_fraction: float | None = None
    power_watts: float | None = None
    suspect: tuple[str, ...] = ()

    @property
    def told(self) -> frozenset[str]:
        """Names of the numbers that it has."""
        return frozenset(name for name in TOLD if getattr(self, name) is not None)


RANGES: Mapping[str, tuple[float, float]] = {
    "running": (0, 1e6),
    "waiting": (0, 1e6),
    "kv_used_fraction": (0, 1),
    "kv_capacity_tokens": (1, 1e12),
    "cached_tokens": (0, 1e18),
    "looked_up_tokens": (0, 1e18),
    "speed_fraction": (0.001, 1),
    "power_watts": (0, 1e6),
    "kv_blocks": (1, 1e12),
    "kv_used_blocks": (0, 1e12),
    "kv_block_tokens": (1, 1e6),
    "awake": (0, 1e6),
}
"""The numbers that a field can truly have, both ends included. The last four are what others are worked out from."""


def within(field: str, value: float | None) -> float | None:
    """The value, or None if it can't be true: NaN, infinite, negative, a ratio above 1, an error's 4294967295."""
    low, high = RANGES[field]
    return value if value is not None and low <= value <= high else None


class Watch:
    """The memory of one backend's readings."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._warned: set[str] = set()
        self._last: deque[tuple[tuple[float | None, ...], int]] = deque(maxlen=FROZEN_AFTER)

    def look(self, reading: EngineReading, in_flight: int) -> tuple[EngineReading, list[str]]:
        """Take the next reading.

        Arguments:
            reading: as the page told it.
            in_flight: how many requests we had there when it was made.

        Returns:
            The reading without what is not believed, and what the operator should be told, each once.
        """
        warnings = self._missing(reading) if reading.loaded is Loaded.READY else []
        gauges = tuple(getattr(reading, name) for name in _GAUGES)
        self._last.append((gauges, in_flight))
        if not self._is_frozen():
            return reading, warnings
        suspect = tuple(name for name in _GAUGES if getattr(reading, name) is not None)
        warnings += self._once("frozen", f"{' and '.join(suspect)} stand still while requests come and go")
        unknown: dict[str, None] = dict.fromkeys(suspect)
        return replace(reading, suspect=suspect, **unknown), warnings  # type: ignore[arg-type] # names from a table

    @property
    def has_told(self) -> bool:
        """True if it has told a number at some time."""
        return bool(self._told)

    def _missing(self, reading: EngineReading) -> list[str]:
        warnings = []
        for name in sorted(self._told - reading.told):
            warnings += self._once(name, f"tells no usable {name} any more")
        self._told |= reading.told
        return warnings

    def _once(self, what: str, sentence: str) -> list[str]:
        if what in self._warned:
            return []
        self._warned.add(what)
        return [sentence]

    def _is_frozen(self) -> bool:
        first = self._last[0][0]
        if len(self._last) < FROZEN_AFTER or None in first[:2] or any(gauges != first for gauges, _ in self._last):
            return False
        theirs = sum(number or 0.0 for number in first[:2])
        ours = [count for _, count in self._last]
        return max(ours) - min(ours) > SLACK_REQUESTS or min(ours) - theirs > SLACK_REQUESTS


_GAUGES = ("running", "waiting", "kv_used_fraction")
"""What moves with the load. The first two are counts of requests, like ours."""

TOLD = tuple(field.name for field in fields(EngineReading) if field.name in RANGES)
"""Fields that are a number on the engine's page; what a series can be mapped to by hand."""
