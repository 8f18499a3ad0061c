"""What a typical request would cost on each backend now: the cost of a decision, told all the time.

The numbers are for nobody's request, so no constraint drops a backend from them; a metric of them shows how backends
compare, and which of them has become slow.
"""

import numpy as np

from gpubalancer.brain.cost import terms_of, weigh
from gpubalancer.brain.fleet import Fleet
from gpubalancer.brain.live import Live
from gpubalancer.brain.method import Method

PROMPT_TOKENS, OUTPUT_TOKENS = 1000, 200
"""Of the typical request: about the means of public traces of chat. Nothing of its prompt is cached."""


def typical_costs(fleet: Fleet, method: Method, live: Live) -> dict[str, dict[str, float]]:
    """By backend the terms of the cost, in seconds; they add up to the cost. Tens of microseconds for a few backends.

    Arguments:
        fleet: the backends.
        method: of the same.
        live: what is so now.
    """
    economy, load = method.economy, live.load(slice(0, len(fleet)))
    weight = weigh(economy, load, PROMPT_TOKENS, OUTPUT_TOKENS, method.weights)
    terms = terms_of(weight, economy, load, method.weights)
    columns = [np.broadcast_to(column, len(fleet)).tolist() for column in terms]
    return {name: dict(zip(terms._fields, row, strict=True)) for name, *row in zip(fleet.names, *columns, strict=True)}
