"""What the ledger asks of a database. Two can do it: `sqlite.py` and `postgres.py`.

A store knows for each segment up to where its lines are in, and `add` moves that in the transaction that adds them, if
it stood where the part began. So a line is in once, whatever is killed when, and also where two processes read the same
segments. Each segment's own sums are kept beside the roll-ups, which is how `verify.py` can hold them against the
journal line by line and against each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, NamedTuple, Protocol, get_args

from gpubalancer.ledger.segments import Part
from gpubalancer.ledger.sums import Sums

By = Literal["day", "tenant", "key", "model", "backend", "tier"]
"""What usage can be told apart by; the fields of `Group`."""
BYS: tuple[By, ...] = get_args(By)


class StoreError(Exception):
    """The database can't be used now; the message has neither its address nor a password."""


class DamagedStoreError(StoreError):
    """The database's own file is damaged: it is to be set aside and built again."""


class NewerStoreError(StoreError):
    """The database was made by a newer version of the balancer."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which usage is asked for.

    Attributes:
        by: what rows are told apart by; none gives the total alone.
        tenant: this one's only.
        since: from this day on, in UTC.
        until: before this day.
    """

    by: tuple[By, ...] = ("tenant",)
    tenant: str | None = None
    since: date | None = None
    until: date | None = None


class SegmentState(NamedTuple):
    """What a store has of a segment.

    Attributes:
        at_bytes: up to where it is in.
        last_us: the end of its latest request, microseconds since 1970.
        torn: 1 if its last line was cut off.
        damaged: lines that said nothing.
        is_forgotten: its entries are gone; their sums are not.
    """

    at_bytes: int
    last_us: int
    torn: int
    damaged: int
    is_forgotten: bool
    sums: Sums


class Taken(NamedTuple):
    """What the requests of one tenant, key and model took, of those that ended in some time.

    Attributes:
        spared_tokens: of the cached prompt tokens, those that are not charged; rounded down for each request.
    """

    tenant: str
    key_id: str
    model: str
    sums: Sums
    spared_tokens: int


class Totals(NamedTuple):
    """The same amounts, counted in several ways.

    `segments` equals `rollups` and `forgotten` together, and `kept` equals `entries`.

    Attributes:
        segments: what the segments have, each by its own row.
        kept: those of them whose entries are kept.
        rollups: the roll-ups.
        forgotten: roll-ups that were too old to keep.
        entries: the entries.
    """

    segments: Sums
    kept: Sums
    rollups: Sums
    forgotten: Sums
    entries: Sums


class Store(Protocol):
    """A database. Every method may raise `StoreError`."""

    async def open(self) -> None:
        """Connect and bring the tables up to date.

        Raises:
            DamagedStoreError: it is no database (any more).
            NewerStoreError: this version does not know its tables.
        """

    async def segments(self, names: Sequence[str]) -> dict[str, SegmentState]:
        """What is known of some segments; those that are new are missing."""

    async def add(self, part: Part) -> bool:
        """Take in a part of a segment, all or nothing.

        Returns:
            False if the segment does not stand where the part begins: somebody else was quicker.
        """

    async def usage(self, query: Query) -> list[tuple[tuple[str, ...], Sums]]:
        """The sums by the values of `query.by`, in no order."""

    async def taken(self, since_us: int, until_us: int, spared_millionths: int) -> list[Taken]:
        """What was taken from one instant on until before another (microseconds since 1970), from the entries.

        `spared_millionths` is the part of a cached prompt token that is not charged.
        """

    async def totals(self) -> Totals:
        """Everything, for verification; reads all that there is."""

    async def forget_segments(self, names: Sequence[str]) -> None:
        """Drop the entries of some segments; their sums and the roll-ups stay."""

    async def forget_days(self, before: date) -> None:
        """Drop the roll-ups of old days; what they added up to is kept as one row."""

    def set_aside(self) -> str | None:
        """Give a damaged database another name, so that `open` makes a new one.

        Returns:
            That name; None where the database is not ours to rename.
        """

    async def close(self) -> None:
        """Disconnect."""
