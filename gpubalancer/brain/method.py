"""How a fleet is chosen from: by policy, and by what was measured so far."""

from dataclasses import dataclass

from gpubalancer.brain.admission import is_bounding
from gpubalancer.brain.columns import Column, Economy, parts_of, rows_of
from gpubalancer.policy.routing import Routing, Slo, Weights

FEW = 20
"""Up to so many backends are weighed one by one (bench/results/decision.md)."""
BLOCK = 4096
"""So many are weighed at a time, in 32 bits: their columns (16 KiB each) stay in the processor's first cache, and their
memory is had from the process itself. Larger ones come from the kernel, page by page, and take up to 8 x as long."""


@dataclass(frozen=True, slots=True)
class Method:
    """The policy's part and the measured part. Made anew when either changes.

    Attributes:
        economy: all backends' speeds and prices.
        rows: the same one by one, empty in fleets of more than `FEW`.
        blocks: the same in parts of `BLOCK`, empty where there are rows.
        frugal: the cheapest that keeps the SLO, instead of the quickest.
        slo: None if nothing is held back.
        weights: of the policy.
    """

    economy: Economy[Column]
    rows: tuple[Economy[float], ...]
    blocks: tuple[tuple[slice, Economy[Column]], ...]
    frugal: bool
    slo: Slo | None
    weights: Weights


def method_of(routing: Routing, economy: Economy[Column]) -> Method:
    """The method of a policy with the economy of its fleet."""
    is_few = economy.slots.size <= FEW
    rows, blocks = (rows_of(economy), ()) if is_few else ((), parts_of(economy, BLOCK))
    slo = routing.slo if is_bounding(routing.slo) else None
    return Method(economy, rows, blocks, routing.mode == "frugal", slo, routing.weights)
