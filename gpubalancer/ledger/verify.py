"""Whether the journal, the ledger and the budgets say the same, to the token.

The journal is read again line by line, by its own addition, and held against what the ledger has of each segment; the
ledger's segments against its roll-ups, and against its entries. Budgets are held against the ledger by who knows them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpubalancer.ledger.segments import list_segments, read_part
from gpubalancer.ledger.store import SegmentState, Store
from gpubalancer.ledger.sums import NOTHING, Sums, sums_of, total

BudgetCheck = Callable[[Store], Awaitable[Sequence[str]]]
"""Returns a sentence for each budget that does not agree with the ledger."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found.

    Attributes:
        faults: a sentence for each disagreement.
        journal: what the lines in the folder add up to.
        ledger: what the ledger has in all, lines that are no longer in the folder included.
    """

    faults: tuple[str, ...]
    journal: Sums
    ledger: Sums

    @property
    def agrees(self) -> bool:
        """True if nothing was found."""
        return not self.faults


async def verify(journal: Path, store: Store, budgets: BudgetCheck | None = None) -> Verdict:
    """Add everything up. Safe while the balancer runs: what it appends meanwhile is not looked at.

    Errors:
        StoreError: the database can't be used now.
        OSError: a segment can't be read.
    """
    faults: list[str] = []
    lines: list[Sums] = []
    for path in await asyncio.to_thread(list_segments, journal):
        state = (await store.segments([path.name])).get(path.name)
        if state is None:
            state = SegmentState(0, 0, 0, 0, False, NOTHING)
        inside, after = await asyncio.to_thread(_recount, path, state.at_bytes)
        faults += _differences(f"{path.name}: the journal", inside, "the ledger", state.sums)
        if after:
            faults.append(f"{path.name}: {after} lines are not in the ledger yet")
        lines.append(inside)
    totals = await store.totals()
    rolled_up = totals.rollups.plus(totals.forgotten)
    faults += _differences("the ledger's segments", totals.segments, "its roll-ups", rolled_up)
    faults += _differences("the ledger's segments", totals.kept, "its entries", totals.entries)
    if budgets is not None:
        faults += await budgets(store)
    return Verdict(tuple(faults), total(lines), totals.segments)


def _recount(path: Path, until_bytes: int) -> tuple[Sums, int]:
    """What the lines before an offset add up to, and how many there are after it."""
    inside: list[Sums] = []
    at_bytes = after = 0
    while True:
        part = read_part(path, at_bytes)
        inside += [sums_of(entry) for at, entry in part.entries if at < until_bytes]
        inside = [total(inside)]
        after += sum(at >= until_bytes for at, _ in part.entries)
        if part.to_bytes == at_bytes:
            return inside[0], after
        at_bytes = part.to_bytes


def _differences(one: str, ours: Sums, other: str, theirs: Sums) -> list[str]:
    return [
        f"{one} has {mine:,} {name.replace('_', ' ')}, {other} {yours:,}"
        for name, mine, yours in zip(Sums._fields, ours, theirs, strict=True)
        if mine != yours
    ]
