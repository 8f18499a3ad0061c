"""Gauges that stand still while the energy counter moves."""

from dataclasses import replace

from gpubalancer.telemetry.frozen import GAUGES, STILL_SAMPLES, Stillness, without_suspects
from gpubalancer.telemetry.gpus import Gpu

IDLE = Gpu(0, "GPU-0", power_watts=70.0, sm_clock_mhz=345.0, utilization_fraction=0.0, energy_joules=1000.0)


def verdicts(gpu: Gpu, drawn_watts: list[float]) -> list[bool]:
    """Whether each sample is doubted, one a second, while the card really draws so much."""
    still, energy, found = Stillness(), 1000.0, []
    for second, watts in enumerate(drawn_watts):
        sample = replace(gpu, energy_joules=energy)
        still = still.sampled(sample, float(second))
        found.append(still.doubts(sample, float(second)))
        energy += watts
    return found


def test_a_gauge_frozen_under_load_is_doubted() -> None:
    """Idle gauges while energy moves at 500 W are doubted from the fifth sample on."""
    assert verdicts(IDLE, [500.0] * 8) == [False] * (STILL_SAMPLES - 1) + [True] * (9 - STILL_SAMPLES)


def test_a_steady_card_is_believed() -> None:
    """An idle card that draws what it shows, night long, and a full one at the same 690 W are true."""
    assert not any(verdicts(IDLE, [70.0] * 50))
    assert not any(verdicts(IDLE, [85.0] * 50))
    assert not any(verdicts(replace(IDLE, power_watts=690.0), [650.0] * 50))


def test_a_frozen_gauge_of_a_busy_card_is_doubted_when_it_goes_idle() -> None:
    """Gauges that stay at 690 W while the card draws 70 W are doubted too."""
    assert verdicts(replace(IDLE, power_watts=690.0), [70.0] * 8)[-1]


def test_movement_ends_the_doubt() -> None:
    """As soon as one of the three moves, the sample is believed."""
    still = Stillness()
    for second in range(7):
        sample = replace(IDLE, energy_joules=1000.0 + 500 * second)
        still = still.sampled(sample, float(second))
    assert still.doubts(sample, 6.0)
    moved = replace(IDLE, energy_joules=4500.0, power_watts=505.0)
    assert not still.sampled(moved, 7.0).doubts(moved, 7.0)


def test_without_energy_or_power_nothing_is_judged() -> None:
    """A card without an energy counter or a power gauge is believed; so is one whose counter began anew."""
    for gpu in (replace(IDLE, energy_joules=None), replace(IDLE, power_watts=None)):
        still = Stillness()
        for second in range(20):
            still = still.sampled(gpu, float(second))
            assert not still.doubts(gpu, float(second))
    still = Stillness(tuple(getattr(IDLE, name) for name in GAUGES), 5000.0, 0.0, 10)
    assert not still.sampled(IDLE, 11.0).doubts(IDLE, 11.0)


def test_suspects_are_absent_and_named() -> None:
    """A doubted sample loses the three gauges and says which."""
    gpu = without_suspects(IDLE)
    assert (gpu.power_watts, gpu.sm_clock_mhz, gpu.utilization_fraction, gpu.suspect) == (None, None, None, GAUGES)
    assert gpu.energy_joules == IDLE.energy_joules
