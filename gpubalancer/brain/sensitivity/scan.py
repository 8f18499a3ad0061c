"""What a request's text gives away: places from one hyperscan pass, judged by the rules they belong to.

Each place costs a microsecond or a few, so a text that is made for it costs more than any other of its size:

* `scan_at_once` gives up where the event loop would wait too long, and `scan_apart` where a thread would keep the
  interpreter's lock from it: hyperscan releases the lock while it reads, but sorting a million places holds it for
  60 ms. Then the caller runs `scan` in another process;
* a rule that has more places than it can look at, and was right at none of them, counts as a finding: what can't be
  looked at is not waved through.

A scanner belongs to one thread at a time, since it holds hyperscan's working memory; `apart` is for another thread.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import hyperscan

from gpubalancer.brain.sensitivity.detectors import DETECTORS
from gpubalancer.brain.sensitivity.injection import PHRASES
from gpubalancer.brain.sensitivity.joined import Joined
from gpubalancer.brain.sensitivity.places import Expression, Expressions, Places
from gpubalancer.brain.sensitivity.plain import plain_pattern
from gpubalancer.domain.work import Finding, Risk
from gpubalancer.policy.tiers import Sensitivity, pattern_flags

Messages = Sequence[Sequence[str]]
Span = tuple[int, int]

AT_ONCE_CHARS = 104 * 1024
AT_ONCE_PLACES = 400
"""What the event loop may read: with the worst text that is known, under 5 ms (bench/results/sensitivity.md)."""
APART_PLACES = 4000
"""What a thread may look at: noting and sorting them takes 2 ms."""
ENOUGH = 1000
"""Findings of one rule after which it is not asked again: the tier is known, and the count is then at least this."""
_ALL = 1 << 62
_PHRASE_FLAGS = hyperscan.HS_FLAG_UTF8 | hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_SINGLEMATCH


def large(messages: Messages) -> bool:
    """True for text that is better read in a thread: above `AT_ONCE_CHARS`, letters outside ASCII counted thrice."""
    chars = 0
    for parts in messages:
        for text in parts:
            chars += len(text) if text.isascii() else 3 * len(text)
    return chars > AT_ONCE_CHARS


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found."""

    findings: tuple[Finding, ...] = ()
    """One for each detector or pattern with a match, in the policy's order."""
    risk: Risk | None = None


NOTHING = Scan()


class Scanner:
    """A policy's detectors, patterns and injection phrases, compiled. Without any of them, it finds nothing at once.

    Args:
        sensitivity: the policy's section; a detector without a tier is off.
        tier_ranks: rank of each tier by its name.

    Raises:
        hyperscan.error: the expressions can't be compiled together.
    """

    def __init__(self, sensitivity: Sensitivity, tier_ranks: Mapping[str, int]) -> None:
        detectors = [(name, tier) for name, tier in sensitivity.detectors.items() if tier is not None]
        patterns = sensitivity.patterns
        named = [*detectors, *((pattern.name, pattern.tier) for pattern in patterns)]
        self._names = tuple((str(name), tier_ranks[tier]) for name, tier in named)
        owned = [(owner, rule) for owner, (name, _) in enumerate(detectors) for rule in DETECTORS[name]]
        self._rules = tuple(rule for _, rule in owned)
        # Which name an expression belongs to; those behind the last are phrases.
        self._owners = (*(owner for owner, _ in owned), *range(len(detectors), len(named)))
        others: list[Expression] = [(plain_pattern(item.regex), pattern_flags(item.regex)) for item in patterns]
        if sensitivity.injection.action != "off":
            others += [(phrase, _PHRASE_FLAGS) for phrase in PHRASES]
        self._expressions = Expressions(self._rules, others) if self._rules or others else None

    def apart(self) -> "Scanner":
        """The same scanner for another thread."""
        other = object.__new__(Scanner)
        other.__dict__.update(self.__dict__)
        other._expressions = self._expressions.apart() if self._expressions else None
        return other

    def scan(self, messages: Messages) -> Scan:
        """Everything that is found in the text parts of each message, in the parts' order.

        A count is at least what it says where one rule was right `ENOUGH` times; an operator's pattern counts once.
        """
        return self._scan(messages, _ALL) or NOTHING

    def scan_at_once(self, messages: Messages) -> Scan | None:
        """The same, or None where that may take longer than an event loop should wait."""
        return None if large(messages) else self._scan(messages, AT_ONCE_PLACES)

    def scan_apart(self, messages: Messages) -> Scan | None:
        """The same, or None where a thread should not do it either."""
        return self._scan(messages, APART_PLACES)

    def _scan(self, messages: Messages, most_places: int) -> Scan | None:
        if self._expressions is None:
            return NOTHING
        joined = Joined(messages)
        places = self._expressions.places(joined.data, most_places)
        if places is None or not places.found:
            return None if places is None else NOTHING
        spans: dict[int, list[Span]] = {}
        for number, start, end in _news(joined, self._matches(joined.data, places)):
            spans.setdefault(self._owners[number], []).append((start, end))
        risk: Risk | None = None
        for number, last in reversed(places.found):
            if number < len(self._rules):
                break
            if number < len(self._owners):
                spans[self._owners[number]] = [(last, last + 1)]
            else:
                risk = "injection"
        return Scan(tuple(self._finding(joined, owner, spans[owner]) for owner in sorted(spans)), risk)

    def _matches(self, data: bytes, places: Places) -> Iterator[tuple[int, int, int]]:
        """Rule's number, start and end of what is confirmed, rule by rule and from left to right."""
        for number, group in groupby(places.found, itemgetter(0)):
            if number >= len(self._rules):
                return
            rule, reached, count, start = self._rules[number], 0, 0, 0
            for _, start in group:
                if start < reached or count == ENOUGH:
                    continue
                match = rule.pattern.match(data, start)
                if match and rule.confirms(match):
                    reached, count = match.end(), count + 1
                    yield number, start, reached
            if not count and number in places.crowded:
                yield number, start, start + 1

    def _finding(self, joined: Joined, owner: int, spans: list[Span]) -> Finding:
        """One finding for all spans of a name, those that overlap being one."""
        count, reach = 0, -1
        for start, end in sorted(spans):
            count += start >= reach
            reach = max(reach, end)
        name, tier = self._names[owner]
        # A match at the seams stands behind all others and may belong to an earlier message.
        return Finding(name, count, min(joined.message_at(start) for start, _ in spans), tier)


def _news(joined: Joined, matches: Iterator[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """Matches without those that the copy at the seams shows a second time."""
    crossed: set[tuple[int, int]] = set()
    for number, start, end in matches:
        part = joined.crossing(start, end)
        if part is None:
            if not joined.is_at_seams(start):
                yield number, start, end
        elif (number, part) not in crossed:
            crossed.add((number, part))
            yield number, start, end
