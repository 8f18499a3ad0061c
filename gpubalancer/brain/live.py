"""What is so on the fleet at one instant, and the load that a request would meet on each backend."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpubalancer.brain.columns import Column
from gpubalancer.brain.cost import Load
from gpubalancer.brain.reckon import Others

Cells = NDArray[Any] | list[Any]
"""One value for each backend. Of a few backends a list is quicker to make and to read, of many an array is."""


class Live(NamedTuple):
    """The state of the fleet. Each column has one value for each backend; None where nothing is known of any.

    Attributes:
        up, draining: by probes and operators. A backend whose hardware is at fault is draining.
        in_flight: our requests there.
        prefill_tokens: uncached prompt tokens that we sent and whose first token has not come.
        context_tokens: of our requests there.
        others: what other clients have there.
        cached_tokens: of this request's prompt, what each has read before.
        speed_fraction: clocks against what they should be, above 0.
    """

    up: Cells
    draining: Cells
    in_flight: Cells
    prefill_tokens: Cells | None = None
    context_tokens: Cells | None = None
    others: Others | None = None
    cached_tokens: Cells | None = None
    speed_fraction: Cells | None = None

    def load(self, part: slice) -> Load[Column]:
        """Ours and others' together on some backends, in 32 bits."""
        others, count = self.others, len(self.in_flight[part])
        return Load(
            _sum(self.in_flight, None if others is None else others.requests, part, count),
            _sum(self.prefill_tokens, None if others is None else others.queued_tokens, part, count),
            _sum(self.context_tokens, None if others is None else others.context_tokens, part, count),
            _sum(self.cached_tokens, None, part, count),
            np.ones(count, np.float32)
            if self.speed_fraction is None
            else np.array(self.speed_fraction[part], np.float32),
        )

    def load_of(self, index: int) -> Load[float]:
        """The same of one backend."""
        others = self.others
        return Load(
            float(self.in_flight[index]) + (0.0 if others is None else float(others.requests[index])),
            _at(self.prefill_tokens, index) + (0.0 if others is None else float(others.queued_tokens[index])),
            _at(self.context_tokens, index) + (0.0 if others is None else float(others.context_tokens[index])),
            _at(self.cached_tokens, index),
            1.0 if self.speed_fraction is None else float(self.speed_fraction[index]),
        )

    def loads(self, indices: Iterable[int]) -> list[Load[float]]:
        """The same of each of some backends: quicker than columns for a few."""
        others, count = self.others, len(self.in_flight)
        ours, cached = as_list(self.in_flight), self._listed(self.cached_tokens)
        queued, context = self._listed(self.prefill_tokens), self._listed(self.context_tokens)
        speeds = [1.0] * count if self.speed_fraction is None else as_list(self.speed_fraction)
        if others is None:
            return [Load(ours[index], queued[index], context[index], cached[index], speeds[index]) for index in indices]
        others_in, others_queued = others.requests.tolist(), others.queued_tokens.tolist()
        others_context = others.context_tokens.tolist()
        return [
            Load(
                ours[index] + others_in[index],
                queued[index] + others_queued[index],
                context[index] + others_context[index],
                cached[index],
                speeds[index],
            )
            for index in indices
        ]

    def _listed(self, cells: Cells | None) -> list[Any]:
        return [0.0] * len(self.in_flight) if cells is None else as_list(cells)


def as_list(cells: Cells) -> list[Any]:
    """A column as a list of plain values."""
    return cells if isinstance(cells, list) else cells.tolist()


def _sum(ours: Cells | None, others: Column | None, part: slice, count: int) -> Column:
    total = np.zeros(count, np.float32) if ours is None else np.array(ours[part], np.float32)
    if others is not None:
        total += others[part]
    return total


def _at(cells: Cells | None, index: int) -> float:
    return 0.0 if cells is None else float(cells[index])
