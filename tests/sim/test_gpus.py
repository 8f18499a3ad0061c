"""The simulated card, as our own reader of GPUs sees it."""

import pytest

from gpubalancer.sim.engine import Engine, Request
from gpubalancer.sim.gpus import BLOCK_BYTES, CARDS, WEIGHTS_BYTES, SimulatedGpu
from gpubalancer.sim.hardware import HARDWARE
from gpubalancer.telemetry.gpus import FIELDS, Gpu, gpu_of


def simulated(name: str = "h100", speedup: float = 1.0) -> tuple[SimulatedGpu, Engine]:
    """A card and its engine, at time zero."""
    engine = Engine(HARDWARE[name], slots=10)
    return SimulatedGpu(CARDS[name], engine, "first 0", speedup, 0.0), engine


def seen(gpu: SimulatedGpu, now_s: float) -> Gpu:
    """What telemetry makes of its record: every field known there, and none lost to a range."""
    record = gpu.record(now_s)
    assert set(record) <= set(FIELDS)
    read = gpu_of(record)
    assert read is not None
    assert all(getattr(read, name) is not None for name in record)
    return read


def busy(engine: Engine, tokens: int = 100) -> None:
    """Begin a step."""
    engine.submit(Request(range(tokens), lambda i: i, 5), 0.0)
    engine.begin_step(0.0)


@pytest.mark.parametrize("name", sorted(CARDS))
def test_an_idle_card_draws_idle_power(name: str) -> None:
    """Idle: idle draw and clock, the weights in memory, energy by time alone."""
    gpu, _ = simulated(name)
    card, read = CARDS[name], seen(gpu, 10.0)
    assert (read.is_idle, read.speed_fraction, read.is_faulty, read.is_throttled) == (True, None, False, False)
    assert (read.power_watts, read.sm_clock_mhz) == (card.idle_watts, card.idle_mhz)
    assert read.energy_joules == pytest.approx(10 * card.idle_watts)
    assert read.memory_used_bytes == WEIGHTS_BYTES
    assert read.name == card.name


def test_a_full_card_draws_its_limit() -> None:
    """A long prompt: limit, highest clock, memory by its blocks; a lone decoding request draws a little over half."""
    gpu, engine = simulated()
    busy(engine)
    read = seen(gpu, 0.0)
    assert (read.power_watts, read.utilization_fraction, read.speed_fraction) == (700.0, 1.0, 1.0)
    assert read.memory_used_bytes == WEIGHTS_BYTES + 7 * BLOCK_BYTES
    engine.end_step()
    engine.begin_step(0.0)
    assert seen(gpu, 0.0).power_watts == pytest.approx(70 + 630 * 0.55)


@pytest.mark.parametrize("speedup", [1.0, 4.0])
def test_energy_is_power_over_the_steps(speedup: float) -> None:
    """Energy is idle draw by time and the steps' draw above it by their duration on the wall clock."""
    gpu, engine = simulated(speedup=speedup)
    busy(engine)
    step = engine.end_step()
    assert seen(gpu, 2.0).energy_joules == pytest.approx(70 * 2 + 630 * step.duration_s / speedup)
    assert seen(gpu, 3.0).energy_joules == pytest.approx(70 * 3 + 630 * step.duration_s / speedup)


def test_a_throttled_card_shows_it() -> None:
    """Clock and power above idle fall by the fraction, the reason is thermal, and what was drawn before stays drawn."""
    gpu, engine = simulated()
    busy(engine)
    before = engine.end_step()
    gpu.throttle(0.5, 1.0)
    engine.begin_step(1.0)
    read = seen(gpu, 1.0)
    assert (read.is_throttled, read.speed_fraction, read.throttle_reasons) == (True, 0.5, ("sw_thermal",))
    assert read.power_watts == pytest.approx(70 + 630 * 0.55 / 2)
    assert read.energy_joules == pytest.approx(70 + 630 * before.duration_s)
    gpu.throttle(1.0, 2.0)
    assert not seen(gpu, 2.0).is_throttled


def test_xids_are_told_and_79_loses_the_card() -> None:
    """An application's XID leaves the card sound; XID 79 leaves nothing but its name."""
    gpu, _ = simulated()
    gpu.fail(31, 5.0)
    read = seen(gpu, 0.0)
    assert (read.xids, read.is_faulty, read.lost) == (((31, 5.0),), False, False)
    gpu.fail(79, 6.0)
    read = seen(gpu, 0.0)
    assert (read.lost, read.is_faulty, read.power_watts) == (True, True, None)
    assert read.xids == ((31, 5.0), (79, 6.0))


def test_the_uuid_follows_from_the_identity() -> None:
    """The same identity has the same UUID, another one another."""
    engine = Engine(HARDWARE["h100"])
    uuids = [SimulatedGpu(CARDS["h100"], engine, name, 1.0, 0.0).uuid for name in ("a 0", "a 0", "a 1")]
    assert uuids[0] == uuids[1] != uuids[2]
    assert uuids[0].startswith("GPU-")
