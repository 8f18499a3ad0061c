"""What is so on a backend between two looks at it.

What we sent and what has ended we know at every instant. What other clients do there only the engine can say, and it
says it once a second or never. So their share is what the engine told then, less what we had there then; it fades with
the age of the word, and what remains is what we count ourselves. A backend that tells nothing is neither full nor free.

    batch now = ours now + others then * exp(-age / fades)          others then = max(running + waiting - ours then, 0)

which is the last look, plus what we sent since, less what of ours ended since.
"""

from dataclasses import dataclass

import numpy as np

from gpubalancer.brain.columns import Column

TYPICAL_PROMPT_TOKENS = 1000.0
"""Of a request that is not ours. Mean prompts of published traces: 1155 tokens (chat), 2048 (code)."""
TYPICAL_CONTEXT_TOKENS = 1200.0
"""The same with half of a typical answer."""
MOST_OTHERS = 65_536.0
"""More requests than this no engine holds; a sensor that says so is not believed beyond."""


@dataclass(frozen=True, slots=True)
class Others:
    """What clients that are not ours have on each backend, as far as it is still believed; shape (backends,) each."""

    requests: Column
    queued_tokens: Column
    context_tokens: Column


def reckon_others(running: Column, waiting: Column, ours_then: Column, age_s: Column, fades_s: float) -> Others:
    """The share of others, from the engines' own word.

    Arguments:
        running: requests in each engine's batch by its last word, NaN if it does not tell.
        waiting: those in its queue, the same.
        ours_then: how many of them were ours.
        age_s: of that word; infinity if there is none.
        fades_s: the age at which a word counts for 37 %.
    """
    with np.errstate(invalid="ignore"):
        said, queued = (np.where(np.isfinite(each), each, 0.0).clip(0.0, MOST_OTHERS) for each in (running, waiting))
        belief = _belief(age_s, fades_s)
        requests = (said + queued - ours_then).clip(0.0) * belief
    queued_share = np.divide(queued, said + queued, out=np.zeros_like(queued), where=said + queued > 0.0)
    return Others(requests, requests * queued_share * TYPICAL_PROMPT_TOKENS, requests * TYPICAL_CONTEXT_TOKENS)


def believed_speed(speed_fraction: Column, age_s: Column, fades_s: float) -> Column:
    """Clocks against what they should be, 0.05 to 1; what is not known, or was long ago, fades towards 1."""
    known = np.where(np.isfinite(speed_fraction), speed_fraction, 1.0).clip(0.05, 1.0)
    speed: Column = 1.0 - (1.0 - known) * _belief(age_s, fades_s)
    return speed


def _belief(age_s: Column, fades_s: float) -> Column:
    """How far a word of this age counts, 0 to 1; one without an age does not count."""
    belief: Column = np.exp(-np.where(np.isnan(age_s), np.inf, age_s).clip(0.0) / fades_s)
    return belief
