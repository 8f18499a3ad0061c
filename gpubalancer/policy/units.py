"""Numbers with units, as people write them: `250ms`, `64KiB`, `100k`, `month`.

Every reader takes the text (or the plain number, where that is unambiguous), returns a number in the unit that its name
says, and raises `ValueError` whose text is what was expected. Every writer is the inverse: `read(write(x)) == x`.
Arithmetic is decimal until the last step, so that `0.1s` is the float 0.1 and not a sum of rounding errors.
"""

import math
import re
from dataclasses import dataclass
from decimal import Decimal

MAX_DURATION_S = 10 * 366 * 86_400
"""Ten years. Longer ones are slips of the keyboard, and would overflow timers further down."""

MAX_SIZE_BYTES = 1 << 50
"""1 PiB: above any body, below the integers that a float holds exactly."""

MAX_COUNT = 10**15
"""Below 2**53, so that a count survives a trip through JSON and floats."""

DURATION = "a duration such as 250ms, 10s, 5m, 1h or 1d"
SIZE = "a size such as 64KiB, 32MiB or 1GiB, or a whole number of bytes"
COUNT = "a whole number such as 600, 100k or 2M"
AMOUNT = "a number such as 500, 0.25, 100k or 2M"
PERIOD = "a duration such as 1m, 1h or 1d, or month"

_DURATION_UNITS_S = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86_400),
}
_SIZE_UNITS_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_COUNT_UNITS = {"k": 10**3, "M": 10**6, "G": 10**9}
_NUMBER_AND_UNIT = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,9})?)[ ]?([A-Za-z]*)")
_NANOSECOND = Decimal("0.000000001")


@dataclass(frozen=True, slots=True)
class Period:
    """What a budget's limit is counted over.

    Attributes:
        text: as it was written; it labels metrics.
        length_s: seconds, or None for a calendar month.
    """

    text: str
    length_s: float | None


def duration_s(value: object) -> float:
    """Seconds from `250ms 10s 5m 1h 1d`, rounded to a nanosecond. A bare number is refused: it has no unit."""
    number, unit = _split(value, DURATION)
    if not unit:
        raise ValueError(f'{DURATION}: "{value}" has no unit')
    if unit not in _DURATION_UNITS_S:
        raise ValueError(DURATION + _unit_hint(unit, _DURATION_UNITS_S))
    seconds = (number * _DURATION_UNITS_S[unit]).quantize(_NANOSECOND)
    if seconds > MAX_DURATION_S:
        raise ValueError("a duration of at most ten years (3660d)")
    return float(seconds)


def period(value: object) -> Period:
    """A budget's period from a duration above zero or the word `month`."""
    if value == "month":
        return Period("month", None)
    try:
        length_s = duration_s(value)
    except ValueError as error:
        raise ValueError(PERIOD if str(error) == DURATION else f"{error} (or month)") from None
    if length_s <= 0:
        raise ValueError(f"{PERIOD}, above zero")
    return Period(str(value).replace(" ", ""), length_s)


def size_bytes(value: object) -> int:
    """Bytes from `64KiB 32MiB 1GiB 1TiB 512B` or a whole number. Powers of 1000 (`KB`) are refused as ambiguous."""
    number, unit = _split(value, SIZE)
    if unit and unit not in _SIZE_UNITS_BYTES:
        raise ValueError(SIZE + _unit_hint(unit, _SIZE_UNITS_BYTES))
    size = number * _SIZE_UNITS_BYTES[unit or "B"]
    if size > MAX_SIZE_BYTES:
        raise ValueError("a size of at most 1024TiB")
    return _whole(size, "a size of whole bytes")


def count(value: object) -> int:
    """A whole number from `600 100k 2M 1G`, in powers of 1000."""
    number = _scaled(value, COUNT)
    return _whole(number, COUNT)


def amount(value: object) -> float:
    """A number from `500 0.25 100k 2M 1G`, in powers of 1000; for money and energy, which come in fractions."""
    return float(_scaled(value, AMOUNT))


def write_duration(seconds: float) -> str:
    """The shortest exact spelling: 600.0 is `10m`, 0.25 is `250ms`."""
    if seconds.is_integer():
        whole = int(seconds)
        for unit in ("d", "h", "m"):
            if whole and whole % int(_DURATION_UNITS_S[unit]) == 0:
                return f"{whole // int(_DURATION_UNITS_S[unit])}{unit}"
        return f"{whole}s"
    milliseconds = round(seconds * 1000)
    if float(milliseconds * _DURATION_UNITS_S["ms"]) == seconds:
        return f"{milliseconds}ms"
    return f"{Decimal(repr(seconds)):f}s"


def write_size(size: int) -> str:
    """The largest unit that divides it: 32768 is `32KiB`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZE_UNITS_BYTES[unit] == 0:
            return f"{size // _SIZE_UNITS_BYTES[unit]}{unit}"
    return f"{size}B"


def write_count(number: float) -> int | float | str:
    """Whole thousands and millions with their letter, anything else as the number."""
    if not float(number).is_integer():
        return number
    for unit in ("G", "M", "k"):
        if number and number % _COUNT_UNITS[unit] == 0:
            return f"{int(number) // _COUNT_UNITS[unit]}{unit}"
    return int(number)


def write_period(value: Period) -> str:
    """The period as it was written."""
    return value.text


def _split(value: object, expected: str) -> tuple[Decimal, str]:
    """The number and the unit (maybe empty) of a text or a plain number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _plain(value, expected), ""
    found = _NUMBER_AND_UNIT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        is_negative = isinstance(value, str) and value.startswith("-")
        raise ValueError(f"{expected}, not negative" if is_negative else expected)
    return Decimal(found[1]), found[2]


def _plain(value: float, expected: str) -> Decimal:
    if not math.isfinite(value):
        raise ValueError(expected)
    if value < 0:
        raise ValueError(f"{expected}, not negative")
    return Decimal(repr(value))


def _scaled(value: object, expected: str) -> Decimal:
    number, unit = _split(value, expected)
    if unit and unit not in _COUNT_UNITS:
        raise ValueError(expected + _unit_hint(unit, _COUNT_UNITS))
    scaled = number * _COUNT_UNITS.get(unit, 1)
    if scaled > MAX_COUNT:
        raise ValueError(f"{expected}, at most 1000000G")
    return scaled


def _whole(number: Decimal, expected: str) -> int:
    if number != number.to_integral_value():
        raise ValueError(expected)
    return int(number)


def _unit_hint(unit: str, units: dict[str, Decimal] | dict[str, int]) -> str:
    """What the unit may have meant: the same letters in another case, or the binary unit of a decimal one."""
    near = [known for known in units if known.lower() in (unit.lower(), unit.lower().replace("b", "ib"))]
    if near:
        return f' (did you mean the unit "{near[0]}"?)'
    return f" (units: {' '.join(units)})" if unit else ""
