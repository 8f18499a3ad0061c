"""What a tenant or one of its keys may spend: `tenants[].budgets`, and their periods on a calendar."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from gpubalancer.domain.budget import MILLION, MOST, SCALE, SECOND_NS, Bucket, Gauge, Terms, Unit, Window
from gpubalancer.policy import units
from gpubalancer.policy.fields import ModelPattern, Part, Reading

WINDOWS = ("day", "week", "month")
PERIOD = "a duration such as 1m, 1h or 1d, or day, week or month"
ZONE = "a time zone that this machine knows, such as UTC or Europe/Berlin"
SHORTEST_PERIOD_S = 0.001


def _read_amount(value: object) -> float:
    amount = units.amount(value)
    if amount <= 0:
        raise ValueError(f"{units.AMOUNT}, above 0")
    return amount


def _read_period(value: object) -> units.Period:
    if value in WINDOWS:
        return units.Period(str(value), None)
    try:
        period = units.period(value)
    except ValueError as error:
        raise ValueError(
            str(error).replace(units.PERIOD, PERIOD).replace("(or month)", "(or day, week, month)")
        ) from None
    if period.length_s is not None and period.length_s < SHORTEST_PERIOD_S:
        raise ValueError(f"{PERIOD}, at least 1ms")
    return period


def _read_zone(value: object) -> str:
    zone_of(value)
    return str(value)


def _read_fraction(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("a number from 0 to 1")
    return float(value)


def _read_switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004 (pydantic collects ValueError only)
    return value


def zone_of(name: object) -> tzinfo:
    """The time zone of a name. Raises `ValueError` with what was expected."""
    if name == "UTC":
        return UTC
    if not isinstance(name, str) or not name.isascii() or not name.isprintable() or name.startswith(("/", ".")):
        raise ValueError(ZONE)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # A name of a folder or of another file of the database is an OSError or a ValueError.
        raise ValueError(ZONE) from None


_AMOUNT = Reading(
    f"{units.AMOUNT}, above 0",
    _read_amount,
    {"type": ["number", "string"]},
    units.write_count,
    short="number above 0",
)
_FRACTION_JSON = {"type": "number", "minimum": 0, "maximum": 1}
Amount = Annotated[float, _AMOUNT]
Per = Annotated[units.Period, Reading(PERIOD, _read_period, {"type": "string"}, units.write_period)]
Zone = Annotated[str, Reading(ZONE, _read_zone, {"type": "string"}, short="time zone")]
Switch = Annotated[bool, Reading("true or false", _read_switch, {"type": "boolean"}, short="true or false")]
Fraction = Annotated[float, Reading("a number from 0 to 1", _read_fraction, _FRACTION_JSON)]


class Budget(Part):
    """One limit on what is spent."""

    unit: Unit = Field(
        description="What is counted: `tokens`, `prompt_tokens`, `completion_tokens`, `requests`, `usd`, `joules`, or "
        "`concurrent` (requests at one time)."
    )
    limit: Amount = Field(description="How much may be spent in one period; for `concurrent`, at one time.")
    per: Per | None = Field(
        default=None,
        description="The period: a duration (refilled steadily), or `day`, `week` or `month` of the tenant's calendar. "
        "Not with `concurrent`.",
    )
    burst: Amount | None = Field(
        default=None,
        description="Most that may be saved up and spent at once; the limit if not given. Only with a duration.",
    )
    models: tuple[ModelPattern, ...] = Field(
        default=("*",), description="Models whose requests count here, all together; `*` stands for any text."
    )
    cached_weight: Fraction = Field(
        default=1.0, description="How much of a token a cached prompt token counts, for `tokens` and `prompt_tokens`."
    )
    when_spent: Literal["refuse", "queue", "downgrade"] = Field(
        default="refuse",
        description="What a request gets that no longer fits: `refuse`; `queue`, which holds it back as long as "
        "`routing.queue.timeout` allows; or `downgrade`: the model's `downgrade_to` answers, else the cheapest kind of "
        "backend that may.",
    )
    overrun: Literal["debt", "stop"] = Field(
        default="debt",
        description="An answer beyond its reservation: `debt` is paid before the next request. `stop` ends a stream "
        "when the budget does; an answer in one piece is debited.",
    )
    shadow: Switch = Field(default=False, description="Count only; refuse nobody.")

    @property
    def scaled_limit(self) -> int:
        """The limit in whole numbers of the unit's `SCALE`, rounded down."""
        return _scaled(self.limit, self.unit)

    @property
    def scaled_capacity(self) -> int:
        """The burst, or else the limit, in the same."""
        return self.scaled_limit if self.burst is None else _scaled(self.burst, self.unit)

    @property
    def period_key(self) -> str:
        """Equal for equal periods, however they are written; empty if there is none."""
        if self.per is None:
            return ""
        return self.per.text if self.per.length_s is None else repr(self.per.length_s)

    def terms(self, tenant: str, key: str, time_zone: str) -> Terms:
        """What the board keeps for this budget.

        Arguments:
            tenant: whose it is.
            key: the hash of the key whose it is; empty for the tenant's own.
            time_zone: whose days count.
        """
        models = " ".join(sorted(set(self.models)))
        name = f"{tenant}\0{key}\0{models}\0{self.unit}\0{self.period_key}"
        identity = hashlib.blake2b(name.encode(), digest_size=16).digest()
        per = self.per.text if self.per else ""
        what = (identity, tenant, self.unit, per, self.scaled_limit, self.scaled_capacity)
        how = (round(self.cached_weight * MILLION), self.when_spent, self.overrun == "stop", self.shadow)
        if self.per is None:
            return Gauge(*what, *how)
        if self.per.length_s is None:
            return Window(*what, *how, calendar=Days(self.per.text, zone_of(time_zone)))
        return Bucket(*what, *how, period_ns=round(self.per.length_s * SECOND_NS))


def _scaled(amount: float, unit: Unit) -> int:
    return int(Decimal(repr(amount)) * SCALE[unit])


def is_too_much(amount: float, unit: Unit) -> bool:
    """True if a limit is more than the board can count."""
    return _scaled(amount, unit) > MOST


@dataclass(slots=True)
class Days:
    """Days, weeks (from Monday) or months on the clocks of a time zone. Remembers the window it was asked for last."""

    per: str
    zone: tzinfo
    _last: tuple[int, int] = field(default=(0, 0), repr=False)

    def window(self, now_ns: int) -> tuple[int, int]:
        """The start of the window that holds an instant, and of the next one, in nanoseconds since 1970."""
        last = self._last
        if last[0] <= now_ns < last[1]:
            return last
        day = datetime.fromtimestamp(now_ns // SECOND_NS, self.zone).date()
        first = self._first(day)
        self._last = window = self._midnight_ns(first), self._midnight_ns(self._next(first))
        return window

    def number(self, start_ns: int) -> int:
        """How many such windows have begun since the year 1, with the one that starts then."""
        day = datetime.fromtimestamp(start_ns // SECOND_NS, self.zone).date()
        if self.per == "month":
            return 12 * day.year + day.month
        return day.toordinal() // 7 if self.per == "week" else day.toordinal()

    def _first(self, day: date) -> date:
        if self.per == "month":
            return day.replace(day=1)
        return day - timedelta(days=day.weekday()) if self.per == "week" else day

    def _next(self, first: date) -> date:
        if self.per == "month":
            return (first + timedelta(days=31)).replace(day=1)
        return first + timedelta(days=7 if self.per == "week" else 1)

    def _midnight_ns(self, day: date) -> int:
        return int(datetime(day.year, day.month, day.day, tzinfo=self.zone).timestamp()) * SECOND_NS
