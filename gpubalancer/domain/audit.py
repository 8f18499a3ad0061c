"""How good the predictions were: delivered over predicted, for the metrics."""

from collections.abc import Iterator
from typing import NamedTuple


class Delivered(NamedTuple):
    """What one answer came to. 0 is not known, but for cached tokens, where None is."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int | None = None
    ttft_s: float = 0.0
    tpot_s: float = 0.0


class Predicted(NamedTuple):
    """The same, as it was foreseen when the backend was chosen."""

    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    cached_tokens: float = 0.0
    ttft_s: float = 0.0
    tpot_s: float = 0.0


WHAT = ("prompt_tokens", "output_tokens", "cached_tokens", "ttft", "tpot")
"""Values of the label `what`, in the order of the fields above."""


def ratios(predicted: Predicted, delivered: Delivered) -> Iterator[tuple[str, float]]:
    """Delivered over predicted, by what; 1 is exact. What is not known on either side is left out.

    Cached tokens are counted with one more on both sides: to foresee none and get none is exact, to foresee none and
    get a thousand is not.
    """
    for what, foreseen, came in zip(WHAT, predicted, delivered, strict=True):
        if what == "cached_tokens":
            if came is not None:
                yield what, (came + 1.0) / (foreseen + 1.0)
        elif foreseen > 0 and came is not None and came > 0:
            yield what, came / foreseen
