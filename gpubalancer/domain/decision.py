"""Which backend was chosen, and why the others were not."""

from dataclasses import dataclass
from typing import Literal

Reason = Literal["api", "model", "clearance", "tenant", "claim", "down", "draining", "tried", "slots"]
"""Why a backend was dropped, in the order in which constraints are looked at."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of one choice: an index into the fleet, or the constraint that was left to blame."""

    index: int | None
    dropped: tuple[Reason | None, ...] = ()
    """Why each backend was dropped, None where it was not; empty unless an explanation was asked for."""

    @property
    def only_full(self) -> bool:
        """True if nothing but slots was missing: waiting will help."""
        return self.index is None and "slots" in self.dropped
