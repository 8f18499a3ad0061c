"""The GPU under a simulated engine, as NVML would show it. Without clock or I/O: times are arguments.

What the engine computes decides what the card shows:

* power: idle draw while nothing is computed; else half of the way to the limit, and the other half by the tokens of
  the step per slot, so that long prompts and full batches draw the limit. Chosen, not measured, but of the right kind:
  a decoding card draws much at any batch, and a lone request draws less than a full one;
* energy: the same, integrated exactly over the engine's steps;
* clocks: the highest while busy, the idle clock else; memory: 19 GB of weights and working space, and the blocks that
  requests hold;
* a throttle slows the engine's steps, the clock and the power above idle by one fraction, and its reason is
  `sw_thermal`. XID 79 loses the card: it shows nothing more. The engine serves on, so that what a balancer makes of the
  card's word alone can be seen.

The JSON is the agent's (docs/agent.md), written by our own code.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

from gpubalancer.sim.engine import Engine

GIB = 1 << 30
WEIGHTS_BYTES = 19 * 10**9
"""Of an 8B model in 16 bits with its working space, as the classes' blocks assume."""
BLOCK_BYTES = 2 << 20
"""16 tokens of keys and values (hardware.py)."""
FALLEN_OFF_THE_BUS = 79
THROTTLED = "sw_thermal"

COOL_CELSIUS, WARM_CELSIUS, HOT_CELSIUS = 34.0, 66.0, 88.0


@dataclass(frozen=True, slots=True)
class Card:
    """The GPU of a hardware class, by its data sheet: name, memory, draw idle and at most, clocks idle and at most."""

    name: str
    memory_bytes: int
    idle_watts: float
    limit_watts: float
    idle_mhz: float
    most_mhz: float
    memory_mhz: float


CARDS: Mapping[str, Card] = MappingProxyType(
    {
        "h100": Card("NVIDIA H100 80GB HBM3", 80 * GIB, 70.0, 700.0, 345.0, 1980.0, 2619.0),
        "a100": Card("NVIDIA A100-SXM4-80GB", 80 * GIB, 60.0, 400.0, 210.0, 1410.0, 1593.0),
        "l40s": Card("NVIDIA L40S", 48 * GIB, 35.0, 350.0, 210.0, 2520.0, 9001.0),
    }
)
"""By the name of the class; the others have no GPU."""


class SimulatedGpu:
    """One card under one engine.

    Arguments:
        card: what it is.
        engine: what it computes.
        identity: its UUID follows from this.
        speedup: engine seconds per second.
        now_s: a steady clock's time, as in all methods.
    """

    def __init__(self, card: Card, engine: Engine, identity: str, speedup: float, now_s: float) -> None:
        digest = blake2b(identity.encode(), digest_size=16).digest()
        self.uuid = f"GPU-{uuid.UUID(bytes=digest)}"
        self.name = card.name
        self.lost = False
        self._card = card
        self._engine = engine
        self._speedup = speedup
        self._fraction = 1.0
        self._xids: list[tuple[int, float]] = []
        self._joules = 0.0
        self._settled = (now_s, 0.0, 0.0)

    def throttle(self, fraction: float, now_s: float) -> None:
        """Run at this fraction of the speed from now on; 1 ends it."""
        self._settle(now_s)
        self._fraction = fraction

    def fail(self, xid: int, at_s: float) -> None:
        """Tell an XID at this time of day."""
        self._xids.append((xid, at_s))
        self.lost = self.lost or xid == FALLEN_OFF_THE_BUS

    @property
    def is_throttled(self) -> bool:
        """It runs slower than it could."""
        return self._fraction < 1

    def record(self, now_s: float) -> dict[str, Any]:
        """It as an entry of `gpus` in the agent's JSON."""
        head = {"index": 0, "uuid": self.uuid, "name": self.name, "xids": self._xids, "lost": self.lost}
        if self.lost:
            return head
        card, busy = self._card, self._engine.step_tokens > 0
        warm_celsius = HOT_CELSIUS if self.is_throttled else WARM_CELSIUS
        return head | {
            "utilization_fraction": 1.0 if busy else 0.0,
            "memory_used_bytes": min(card.memory_bytes, WEIGHTS_BYTES + self._engine.pool.held * BLOCK_BYTES),
            "memory_total_bytes": card.memory_bytes,
            "power_watts": card.idle_watts + self._above_idle_watts(),
            "power_limit_watts": card.limit_watts,
            "energy_joules": self._settle(now_s),
            "temperature_celsius": warm_celsius if busy else COOL_CELSIUS,
            "sm_clock_mhz": card.most_mhz * self._fraction if busy else card.idle_mhz,
            "expected_sm_clock_mhz": card.most_mhz,
            "memory_clock_mhz": card.memory_mhz,
            "throttle_reasons": ([THROTTLED] if self.is_throttled else []) + ([] if busy else ["gpu_idle"]),
            "ecc_volatile": 0,
            "ecc_aggregate": 0,
            "retired_pages": 0,
            "recovery_action": "none",
        }

    def _above_idle_watts(self) -> float:
        tokens = self._engine.step_tokens
        share = 0.5 + 0.5 * min(1.0, tokens / self._engine.slots) if tokens else 0.0
        return (self._card.limit_watts - self._card.idle_watts) * share * self._fraction

    def _settle(self, now_s: float) -> float:
        """Add what was drawn since the last time; returns all of it."""
        then_s, busy_s, filled_s = self._settled
        engine = self._engine
        work_s = 0.5 * (engine.busy_s - busy_s) + 0.5 * (engine.filled_s - filled_s)
        above_watts = (self._card.limit_watts - self._card.idle_watts) * self._fraction
        self._joules += self._card.idle_watts * (now_s - then_s) + above_watts * work_s / self._speedup
        self._settled = (now_s, engine.busy_s, engine.filled_s)
        return self._joules
