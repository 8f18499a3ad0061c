"""Times of day in which a rule holds: `22:00-06:00`, `mon-fri 08:00-18:00`, `sat,sun 00:00-24:00 Europe/Berlin`.

A span runs from its first minute to just before its last. One that ends no later than it begins runs past midnight, and
its days are those on which it begins: `fri 22:00-06:00` holds until Saturday morning. Without a time zone it is UTC.
Clocks that are put forward or back are followed as the zone's own clocks are: a span may then be an hour shorter or
longer.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo

from gpubalancer.policy.fields import Reading

HOURS = 'a time of day such as "22:00-06:00", "mon-fri 08:00-18:00" or "08:00-18:00 Europe/Berlin"'

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EVERY_DAY = frozenset(range(7))
_DAY = f"(?:{'|'.join(_DAYS)})"
_SPAN = re.compile(
    rf"(?:(?P<days>{_DAY}(?:-{_DAY})?(?:,{_DAY}(?:-{_DAY})?)*) )?"
    r"(?P<start>[0-2][0-9]:[0-5][0-9])-(?P<end>[0-2][0-9]:[0-5][0-9])"
    r"(?: (?P<zone>[A-Za-z][A-Za-z0-9_+/-]{0,63}))?"
)
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Hours:
    """One span of the day, on some days of the week.

    Attributes:
        text: as it was written.
        days: those on which it begins, 0 for Monday.
        start: its first minute, counted from midnight.
        end: the minute before which it ends; 1440 for midnight.
        zone: whose clocks count.
    """

    text: str
    days: frozenset[int]
    start: int
    end: int
    zone: tzinfo

    def contain(self, wall_s: float) -> bool:
        """True at an instant, in seconds since 1970 began in UTC."""
        now = datetime.fromtimestamp(wall_s, self.zone)
        minute, day = now.hour * 60 + now.minute, now.weekday()
        if self.start < self.end:
            return self.start <= minute < self.end and day in self.days
        if minute >= self.start:
            return day in self.days
        return minute < self.end and (day - 1) % 7 in self.days

    def __str__(self) -> str:
        return self.text


def read_hours(value: object) -> Hours:
    """Read a span. Raises `ValueError` with what was expected."""
    if isinstance(value, Hours):
        return value
    found = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(HOURS)
    start, end = _minute(found["start"]), _minute(found["end"])
    if start >= _DAY_MINUTES or end > _DAY_MINUTES:
        raise ValueError(f"{HOURS}, from 00:00 to 24:00")
    if start == end:
        raise ValueError(f'{HOURS}, that is not empty; a whole day is "00:00-24:00"')
    days = _days(found["days"]) if found["days"] else _EVERY_DAY
    return Hours(str(value), days, start, end, _zone(found["zone"]) if found["zone"] else UTC)


def _minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def _days(text: str) -> frozenset[int]:
    """Days from `mon-fri,sun`; a range may run past Sunday."""
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        start = _DAYS.index(first)
        length = (_DAYS.index(last or first) - start) % 7 + 1
        days |= {(start + step) % 7 for step in range(length)}
    return frozenset(days)


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # A name of a folder or of another file of the database is an OSError or a ValueError.
        raise ValueError("a time zone that this machine knows, such as UTC or Europe/Berlin") from None


Span = Annotated[Hours, Reading(HOURS, read_hours, {"type": "string"}, str, short="time of day")]
