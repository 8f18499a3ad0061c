"""Since when an engine's cache holds what it has read, as far as its own counters tell.

Engines throw out first what was used longest ago (vLLM, SGLang, TensorRT-LLM). So what an engine read at some time is
there while it has read no more since than its cache holds. A counter that has fallen belongs to an engine that was
started anew, and one that sleeps has let everything go.
"""

from collections import deque
from dataclasses import dataclass, field

from gpubalancer.board.layout import Loaded
from gpubalancer.telemetry.engines import EngineReading

PROMPTS_FRACTION = 0.8
"""Of a cache, what prompts take; answers take the rest (published traces of chats: 1155 tokens asked, 211 answered)."""
MARKS = 32
"""So exactly is it known when something was read: to a part of the cache."""


@dataclass(slots=True)
class Retention:
    """What one engine has read, and when."""

    _marks: deque[tuple[float, float]] = field(default_factory=deque)
    """Times, and the prompt tokens that it had computed by then."""
    _since_s: float = 0.0

    def since_s(self, reading: EngineReading) -> float:
        """From which time on what it read is still there, after another reading; 0 if nothing is known of it."""
        if reading.loaded & Loaded.SLEEPING:
            self._marks.clear()
            self._since_s = reading.at_s
        if reading.looked_up_tokens is None:
            return self._since_s
        computed = reading.looked_up_tokens - (reading.cached_tokens or 0.0)
        if self._marks and computed < self._marks[-1][1]:
            self._marks.clear()
            self._since_s = reading.at_s
        held = PROMPTS_FRACTION * reading.kv_capacity_tokens if reading.kv_capacity_tokens is not None else None
        if held is None:
            self._marks = deque([(reading.at_s, computed)])
            return self._since_s
        if not self._marks or computed - self._marks[-1][1] >= held / MARKS:
            self._marks.append((reading.at_s, computed))
        while computed - self._marks[0][1] > held:
            self._since_s, _ = self._marks.popleft()
        return self._since_s
