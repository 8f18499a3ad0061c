"""What each backend costs in time, money and energy: the columns that the cost is made from.

An `Economy` holds either one number for each field (one backend) or a column (all backends), and the formulas in `cost`
read both. It follows from the policy (`build_economy`) and from what was measured since (`measured`). A decision never
changes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpubalancer.brain.fleet import Fleet
from gpubalancer.brain.priors import USUAL_TPOT_RATIO, USUAL_TTFT_RATIO, Coefficients, prior_of
from gpubalancer.policy.schema import Policy

Column = NDArray[np.floating[Any]]
"""Of 64 bits where it is kept, of 32 where it is worked with."""
N = TypeVar("N", float, Column)
"""One backend's number, or all backends' column."""

HOUR_S = 3600.0
MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Economy(Generic[N]):
    """Speed, prices and power of one backend or of all; shape (backends,) each.

    Attributes:
        a0_s, a1_s, a2_s, d0_s, d1_s, d2_s: the curves of `priors`.
        net_s: the way there and back.
        usd_per_prompt_token, usd_per_cached_token, usd_per_completion_token: prices by token.
        usd_per_s: price of the machine by time.
        watts: power under load; 0 if unknown or not ours to pay.
        slots: most requests at once.
        ttft_ratio, tpot_ratio: by how much admission raises predictions, so that they hold most of the time
            (`tightness`). The cost is of what is likely, without them.
    """

    a0_s: N
    a1_s: N
    a2_s: N
    d0_s: N
    d1_s: N
    d2_s: N
    net_s: N
    usd_per_prompt_token: N
    usd_per_cached_token: N
    usd_per_completion_token: N
    usd_per_s: N
    watts: N
    slots: N
    ttft_ratio: N
    tpot_ratio: N


_FIELDS = tuple(each.name for each in fields(Economy))


def rows_of(economy: Economy[Column]) -> tuple[Economy[float], ...]:
    """The same, backend by backend, as plain numbers."""
    return tuple(Economy(*row) for row in zip(*(getattr(economy, name).tolist() for name in _FIELDS), strict=True))


def row_of(economy: Economy[Column], index: int) -> Economy[float]:
    """One backend's numbers."""
    return Economy(*(float(getattr(economy, name)[index]) for name in _FIELDS))


def parts_of(economy: Economy[Column], length: int) -> tuple[tuple[slice, Economy[Column]], ...]:
    """The same in parts of `length` backends, in 32 bits; a column that is the same for a whole part is one number."""
    columns: list[Any] = [getattr(economy, name).astype(np.float32) for name in _FIELDS]
    starts = range(0, economy.slots.size, length)
    parts = [slice(start, min(start + length, economy.slots.size)) for start in starts]
    return tuple((part, Economy(*(_compact(column[part]) for column in columns))) for part in parts)


def _compact(column: Column) -> Any:
    return float(column[0]) if (column == column[0]).all() else column


def columns_of(rows: Sequence[Economy[float]]) -> Economy[Column]:
    """The columns of some backends."""
    columns = [np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in _FIELDS]
    for column in columns:
        column.setflags(write=False)
    return Economy(*columns)


def build_economy(policy: Policy, fleet: Fleet) -> Economy[Column]:
    """The columns of a policy before anything is measured; index i is the fleet's i-th backend."""
    rows = []
    for backend, kind, slots in zip(policy.backends, fleet.kinds, fleet.slots.tolist(), strict=True):
        prior, price = prior_of(backend.hardware, kind), backend.price.usd_per_million_tokens
        rows.append(
            Economy(
                *prior.curves,
                net_s=prior.net_s,
                usd_per_prompt_token=price.prompt / MILLION,
                usd_per_cached_token=(price.prompt if price.cached is None else price.cached) / MILLION,
                usd_per_completion_token=price.completion / MILLION,
                usd_per_s=backend.price.usd_per_hour / HOUR_S,
                watts=prior.watts,
                slots=float(slots),
                ttft_ratio=USUAL_TTFT_RATIO,
                tpot_ratio=USUAL_TPOT_RATIO,
            )
        )
    return columns_of(rows)


def equals(fleet: Fleet) -> Economy[Column]:
    """The columns of a fleet of which nothing is known but its slots."""
    prior = prior_of(None, None)
    one = Economy(*prior.curves, prior.net_s, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0)
    return columns_of([replace(one, slots=float(slots)) for slots in fleet.slots.tolist()])


@dataclass(frozen=True, slots=True)
class Measured:
    """What was learned of one backend: its curves, and by how much they must be raised to hold most of the time."""

    curves: Coefficients
    ttft_ratio: float = USUAL_TTFT_RATIO
    tpot_ratio: float = USUAL_TPOT_RATIO


def measured(economy: Economy[Column], learned: Mapping[int, Measured]) -> Economy[Column]:
    """The same columns with what was learned of some backends, by index, in place of what was assumed.

    Copies what it changes: 20 us for a few backends.
    """
    changed: dict[str, Column] = {name: getattr(economy, name).copy() for name in _LEARNED}
    for index, found in learned.items():
        for name, value in zip(_LEARNED, (*found.curves, found.ttft_ratio, found.tpot_ratio), strict=True):
            changed[name][index] = value
    return replace(economy, **changed)


_LEARNED = (*Coefficients._fields, "ttft_ratio", "tpot_ratio")
