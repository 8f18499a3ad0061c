"""Claims as the server's script reads them, and its answers as states.

The text of some claims is made once and kept until the first of their windows ends: it holds the window before, the one
of now and the one after, so that the server, by its own clock, finds the right one on either side of midnight.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from gpubalancer.domain.budget import Bucket, Claims, Gauge, Spending, State, Terms, Unit, Window

UNITS: tuple[Unit, ...] = (
    "tokens", "prompt_tokens", "completion_tokens", "requests", "usd", "joules", "concurrent",
)  # fmt: skip
"""In the order that the script knows."""
MICRO_NS, MILLI_NS = 1_000, 1_000_000
NEVER_NS = 1 << 62
TEXTS_KEPT = 131_072
MOST = (1 << 53) - 1
"""The script's numbers have 53 bits."""


@dataclass(frozen=True, slots=True)
class Text:
    """Some claims on their way to the server.

    Attributes:
        data: what is sent.
        starts: of each row, by window number, when it starts; empty for what has no windows.
        until_ns: when it must be made anew.
    """

    data: bytes
    starts: tuple[dict[int, int], ...]
    until_ns: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the script said: a code, the server's time in nanoseconds, a further number, and the states."""

    code: int
    now_ns: int
    more: int
    states: list[State]


class Texts:
    """The texts of one process."""

    def __init__(self) -> None:
        self._known: dict[Claims, Text] = {}

    def of(self, claims: Claims, now_ns: int) -> Text:
        """The text of some claims, for now."""
        text = self._known.get(claims)
        if text is None or now_ns >= text.until_ns:
            if len(self._known) >= TEXTS_KEPT:
                self._known.clear()
            text = self._known[claims] = write(claims, now_ns)
        return text


def write(claims: Claims, now_ns: int) -> Text:
    """The text of some claims, made now."""
    rows, starts, until_ns = [], [], NEVER_NS
    for terms in claims.terms:
        windows = _windows(terms, now_ns)
        rows.append(_row(terms, windows))
        starts.append({number: start_ns for number, start_ns, _ in windows})
        until_ns = min(until_ns, windows[1][2]) if windows else until_ns
    return Text(orjson.dumps(rows), tuple(starts), until_ns)


def write_spending(spending: Spending) -> bytes:
    """What a request takes."""
    return b"[%d,%d,%d,%d,%d,%d]" % (
        spending.prompt_tokens,
        spending.cached_tokens,
        spending.completion_tokens,
        spending.requests,
        spending.nano_usd,
        spending.millijoules,
    )


def read(reply: bytes, claims: Claims, text: Text) -> Answer:
    """An answer of the script's."""
    code, now_us, more, *numbers = map(int, reply.split())
    states = [
        _state(terms, starts, numbers[5 * place : 5 * place + 5])
        for place, (terms, starts) in enumerate(zip(claims.terms, text.starts, strict=True))
        if len(numbers) >= 5 * place + 5
    ]
    return Answer(code, now_us * MICRO_NS, more, states)


def _windows(terms: Terms, now_ns: int) -> list[tuple[int, int, int]]:
    """Number, start and end of the window before, of now's and of the next one."""
    if not isinstance(terms, Window) or terms.calendar is None:
        return []
    start_ns, end_ns = terms.calendar.window(now_ns)
    spans = [terms.calendar.window(start_ns - 1), (start_ns, end_ns), terms.calendar.window(end_ns)]
    return [(terms.calendar.number(first_ns), first_ns, last_ns) for first_ns, last_ns in spans]


def _row(terms: Terms, windows: list[tuple[int, int, int]]) -> list[Any]:
    kind = "W" if isinstance(terms, Window) else "G" if isinstance(terms, Gauge) else "B"
    period_us = max(1, round(terms.period_ns / MICRO_NS)) if isinstance(terms, Bucket) else 1
    spans = [[number, -(-start_ns // MICRO_NS), -(-end_ns // MICRO_NS)] for number, start_ns, end_ns in windows]
    return [
        terms.id.hex(),
        kind,
        UNITS.index(terms.unit) + 1,
        terms.cached_millionths,
        min(terms.limit, MOST),
        min(terms.capacity, MOST),
        period_us,
        int(terms.shadow),
        int(terms.stops),
        terms.keep_ns // MILLI_NS,
        spans,
    ]


def _state(terms: Terms, starts: dict[int, int], numbers: list[int]) -> State:
    used, reserved, stamp, first, second = numbers
    if isinstance(terms, Window):
        return used, reserved, starts.get(stamp, 0), first, second
    return used, reserved, stamp * MICRO_NS, first * MICRO_NS, second
