"""The result of one choice: a backend, a wait or a refusal, with what was predicted."""

from dataclasses import dataclass
from typing import Literal

from gpubalancer.brain.weighed import Forecast
from gpubalancer.domain.decision import Decision

Wait = Literal["", "hold", "hopeless"]


@dataclass(frozen=True, slots=True)
class Choice(Decision):
    """A decision by cost.

    Attributes:
        index: the backend; None if there is none now.
        dropped: as in `Decision`; filled only where no backend can serve and waiting will not help.
        wait: without an index, `hold`: a backend will do later; `hopeless`: the SLO can no longer be met anywhere;
            empty: no backend may serve this.
        retry_after_s: when it is worth to ask again; 0 unless hopeless.
        forecast: what to expect of the chosen one.
    """

    wait: Wait = ""
    retry_after_s: float = 0.0
    forecast: Forecast | None = None

    @property
    def only_full(self) -> bool:
        """True if waiting will help."""
        return self.wait == "hold"
