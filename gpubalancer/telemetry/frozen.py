"""Gauges that stand still while the card works: a decision over samples, without clock or driver.

A gauge may rightly stand still: a decoding engine is 100 % busy at its highest clock for hours, and an idle card draws
the same 70 W all night. What can't be is that power, clock and utilisation are all the same for `STILL_SAMPLES` samples
while the energy counter, which is another sensor, says that the card drew something else. Then all three are suspect,
until one of them moves again. A card without an energy counter can't be judged.
"""

from dataclasses import dataclass, replace

from gpubalancer.telemetry.gpus import Gpu

STILL_SAMPLES = 5
"""Samples in a row with the same values before they are doubted."""
APART_FRACTION = 0.3
APART_WATTS = 30.0
"""Energy and power must differ by both: the counter steps every 100 ms, and power is a mean over a second."""

GAUGES = ("power_watts", "sm_clock_mhz", "utilization_fraction")


@dataclass(frozen=True, slots=True)
class Stillness:
    """Since when the gauges of one card show the same: their values, the energy and the time then, samples since."""

    shown: tuple[float | None, ...] = ()
    energy_joules: float = 0.0
    since_s: float = 0.0
    samples: int = 0

    def sampled(self, gpu: Gpu, now_s: float) -> "Stillness":
        """After one more sample, taken at `now_s` of a steady clock."""
        shown = tuple(getattr(gpu, name) for name in GAUGES)
        energy = gpu.energy_joules
        if energy is None:
            return Stillness()
        if shown != self.shown or energy < self.energy_joules:
            return Stillness(shown, energy, now_s, 1)
        return replace(self, samples=self.samples + 1)

    def doubts(self, gpu: Gpu, now_s: float) -> bool:
        """The gauges of this sample, already counted, can't be true."""
        passed_s = now_s - self.since_s
        if self.samples < STILL_SAMPLES or gpu.power_watts is None or gpu.energy_joules is None or passed_s <= 0:
            return False
        drawn_watts = (gpu.energy_joules - self.energy_joules) / passed_s
        apart_watts = abs(drawn_watts - gpu.power_watts)
        return apart_watts > APART_WATTS and apart_watts > APART_FRACTION * max(drawn_watts, gpu.power_watts)


def without_suspects(gpu: Gpu) -> Gpu:
    """The card with its suspect gauges absent and named."""
    return replace(gpu, power_watts=None, sm_clock_mhz=None, utilization_fraction=None, suspect=GAUGES)
