"""Where something may be: all expressions of a policy in one hyperscan database, read in one pass.

Hyperscan reports where a match of a rule's trigger began (start of match), and every end that it may have; a place is a
beginning, and ends are dropped. Measured, beginnings cost 3 % of the pass. An operator's pattern and a phrase are
reported once, at their first end.

What a text can cost is bounded: a text may be made of nothing but places, one every few bytes, and each costs 0.2 us to
note. A rule has at most `MOST_PLACES` of them, and a caller in a hurry says how many there may be in all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import hyperscan

from gpubalancer.brain.sensitivity.rule import Rule

Place = tuple[int, int]
"""Number of the expression, and the offset where its match begins, or of the last byte where only the end is known."""
Expression = tuple[str, int]
"""A regular expression and hyperscan's flags."""

MOST_PLACES = 30_000
"""Of one rule in one request; a document of half a megabyte in which every word is a number has as many."""
_TRIGGER = hyperscan.HS_FLAG_SOM_LEFTMOST


@dataclass(frozen=True, slots=True)
class Places:
    """What one pass noted: places in order, by expression first, and the rules that had more than `MOST_PLACES`."""

    found: list[Place]
    crowded: frozenset[int]


NONE = Places([], frozenset())


class Expressions:
    """Triggers of rules, numbered from 0, then other expressions.

    Compiling takes a few tenths of a second for all detectors, and releases the interpreter's lock.

    Raises:
        hyperscan.error: they can't be compiled together.
    """

    def __init__(self, rules: Sequence[Rule], others: Sequence[Expression]) -> None:
        triggers = [(rule.trigger, _TRIGGER | hyperscan.HS_FLAG_CASELESS * rule.caseless) for rule in rules]
        everything = triggers + [(regex.encode(), flags) for regex, flags in others]
        self._count, self._triggers = len(everything), len(triggers)
        self._database = hyperscan.Database()
        self._database.compile(
            expressions=[regex for regex, _ in everything],
            ids=list(range(len(everything))),
            elements=len(everything),
            flags=[flags for _, flags in everything],
        )
        self._scratch = self._database.scratch

    def apart(self) -> "Expressions":
        """The same database with working memory of its own, for another thread; some 20 us."""
        other = object.__new__(Expressions)
        other.__dict__.update(self.__dict__)
        other._scratch = self._scratch.clone()
        return other

    def places(self, data: bytes, most: int) -> Places | None:
        """All places in valid UTF-8; None if there are more than `most`."""
        found: list[Place] = []
        triggers, counts = self._triggers, [0] * self._count

        def note(number: int, start: int, end: int, _flags: int, _context: object) -> bool:
            counts[number] += 1
            if counts[number] <= MOST_PLACES:
                found.append((number, start if number < triggers else end - 1))
            return len(found) > most

        try:
            self._database.scan(data, match_event_handler=note, scratch=self._scratch)
        except hyperscan.ScanTerminated:
            return None
        if not found:
            return NONE
        crowded = frozenset(number for number, count in enumerate(counts) if count > MOST_PLACES)
        return Places(sorted(set(found)), crowded)
