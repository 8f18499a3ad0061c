"""What entries add up to: one row for each day, tenant, key, model, backend and tier."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from gpubalancer.ledger.records import Entry

DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Sums(NamedTuple):
    """Whole numbers, so the order of adding does not matter."""

    requests: int = 0
    """Those that were charged as one: served, or ended after they had taken something."""
    unserved: int = 0
    """The others: refused, answered here, or failed before they took anything."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    nano_usd: int = 0
    millijoules: int = 0

    def plus(self, other: "Sums") -> "Sums":
        """Both together."""
        return Sums(*(ours + theirs for ours, theirs in zip(self, other, strict=True)))


NOTHING = Sums()


class Group(NamedTuple):
    """What a row of the roll-ups is about."""

    day: str
    """`YYYY-MM-DD` in UTC, of the request's end."""
    tenant: str
    key: str
    model: str
    backend: str
    tier: str


def day_of(at_us: int) -> str:
    """The UTC day of an instant in microseconds since 1970."""
    return (_EPOCH + timedelta(days=at_us // DAY_US)).date().isoformat()


def sums_of(entry: Entry) -> Sums:
    """One entry alone."""
    return Sums(
        entry.requests,
        int(not entry.requests),
        entry.prompt_tokens,
        entry.cached_tokens,
        entry.completion_tokens,
        entry.nano_usd,
        entry.millijoules,
    )


def total(every: Iterable[Sums]) -> Sums:
    """All of them together."""
    columns = [sum(column) for column in zip(*every, strict=True)]
    return Sums(*columns) if columns else NOTHING


def roll_up(entries: Iterable[Entry]) -> dict[Group, Sums]:
    """The sums of each group."""
    gathered: dict[tuple[int, str, str, str, str, str], list[Sums]] = {}
    for entry in entries:
        key = (entry.at_us // DAY_US, entry.tenant, entry.key_id, entry.model, entry.backend, entry.tier)
        gathered.setdefault(key, []).append(sums_of(entry))
    return {Group(day_of(day * DAY_US), *names): total(every) for (day, *names), every in gathered.items()}
