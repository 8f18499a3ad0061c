"""The rate limit headers of an answer: how the tightest budget of tokens, and that of requests, stand.

Tightest is the one with the least left. Remaining is never below 0, and the reset is the time until that budget is
whole again, written as OpenAI's API writes it: `350ms`, `12s`, `6m0s`, `3h0m0s`.
"""

import math
from collections.abc import Iterable

from gpubalancer.domain.budget import Standing, Unit

FAMILIES: tuple[tuple[bytes, tuple[Unit, ...]], ...] = (
    (b"requests", ("requests",)),
    (b"tokens", ("tokens", "prompt_tokens", "completion_tokens")),
)
"""The end of the header's name, and the units whose budgets it speaks of."""


def limit_lines(standings: Iterable[Standing]) -> bytes:
    """Header lines `x-ratelimit-limit-*`, `-remaining-*` and `-reset-*`; empty where no budget counts such things."""
    known = list(standings)
    lines = b""
    for name, units in FAMILIES:
        found = [stands for stands in known if stands.terms.unit in units]
        if found:
            least = min(found, key=lambda stands: (stands.remaining, -stands.reset_s))
            lines += b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %b\r\n" % (
                name,
                least.limit,
                name,
                max(0, least.remaining),
                name,
                duration(least.reset_s),
            )
    return lines


def duration(seconds: float) -> bytes:
    """A time as OpenAI's API writes it, rounded up so that asking again then is not too early."""
    if seconds < 1:
        return b"%dms" % math.ceil(seconds * 1000)
    minutes, whole = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return b"%dh%dm%ds" % (hours, minutes, whole)
    return b"%dm%ds" % (minutes, whole) if minutes else b"%ds" % whole
