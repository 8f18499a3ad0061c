"""Which backend was chosen, and why the others were not."""

from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "claim", "api", "model", "clearance", "tenant", "rule", "context", "down", "draining", "tried", "slots"
]
"""Why a backend was dropped, in the order in which constraints are looked at.

Those that stay: `claim`, it does not claim the path; `api`, it does not speak the API; `model`, it does not serve the
model; `clearance`, it may not see the tier; `tenant`, its kind or labels are not the tenant's; `rule`, a rule requires
others or denies its kind; `context`, the prompt leaves no token for an answer. Those that pass: `down`, `draining`,
`tried` (it has failed this request), `slots` (it is full).
"""

_PASSING: tuple[Reason, ...] = ("down", "draining", "tried", "slots")


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

    @property
    def is_too_long(self) -> bool:
        """True if every backend that may serve the request lacks nothing but context: no wait, no retry will help."""
        return self.index is None and "context" in self.dropped and not any(why in self.dropped for why in _PASSING)
