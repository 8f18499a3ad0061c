"""Samples through resets, losses, lies and silence, through the real nvidia-ml-py."""

import itertools

from gpubalancer.telemetry.frozen import GAUGES
from gpubalancer.telemetry.gpus import Snapshot
from gpubalancer.telemetry.nvml.driver import Nvml
from gpubalancer.telemetry.sampler import Sampler
from tests.telemetry.fake_nvml import GIB, Script


def sampler() -> Sampler:
    """A sampler whose timer ticks a millisecond at each look."""
    ticks = itertools.count()
    return Sampler(Nvml(), "host", lambda: next(ticks) / 1000)


def lost(snapshot: Snapshot) -> dict[str, bool]:
    """Which cards are lost."""
    return {gpu.uuid: gpu.lost for gpu in snapshot.gpus}


def test_a_sample_is_everything_about_every_card(nvml_script: Script) -> None:
    """Two cards, their driver, the time of day, and what it cost."""
    nvml_script.gpu(0)
    nvml_script.gpu(1, utilization=0, reasons=1)
    one = sampler()
    snapshot = one.sample(1.0, 1700.0)
    assert (snapshot.at_s, snapshot.host, snapshot.driver, snapshot.problem) == (1700.0, "host", "580.65.06", None)
    assert [(gpu.index, gpu.is_idle, gpu.speed_fraction) for gpu in snapshot.gpus] == [
        (0, False, 1965 / 1980),
        (1, True, None),
    ]
    assert (one.cost.samples, one.cost.calls, one.cost.seconds) == (1, 30, 0.001)
    one.close()


def test_without_a_driver_there_are_no_cards_and_a_reason(nvml_script: Script) -> None:
    """No driver is one sentence; it is tried again a second later, not at every sample, and found then."""
    nvml_script.set(init="!9")
    one = sampler()
    snapshot = one.sample(0.0, 0.0)
    assert (snapshot.gpus, snapshot.problem) == ((), "no NVIDIA driver: Driver Not Loaded")
    assert one.glance(0.0, 0.0) is None
    nvml_script.set(init=None)
    nvml_script.gpu(0)
    assert one.sample(0.9, 0.9) == Snapshot(0.9, "host", problem=snapshot.problem)
    found = one.sample(1.0, 1.0)
    assert (len(found.gpus), found.problem) == (1, None)
    one.close()


def test_a_reset_driver_is_opened_anew_within_the_sample(nvml_script: Script) -> None:
    """After a reset the next sample, or glance, has all cards: nobody sees that the handles died."""
    nvml_script.gpu(0)
    one = sampler()
    one.sample(0.0, 0.0)
    nvml_script.set(generation=1)
    assert lost(one.sample(1.0, 1.0)) == {"GPU-0": False}
    nvml_script.set(generation=2, gpu0__reasons=0x40)
    seen = one.glance(1.1, 1.1)
    assert seen is not None
    assert [gpu.is_throttled for gpu in seen.gpus] == [True]
    one.close()


def test_a_driver_that_went_away_loses_its_cards_and_finds_them_again(nvml_script: Script) -> None:
    """While the driver is unloaded its cards are lost, by name; when it is back they are found."""
    nvml_script.gpu(0)
    one = sampler()
    one.sample(0.0, 0.0)
    nvml_script.set(generation=1, init="!9")
    gone = one.sample(1.0, 1.0)
    assert (lost(gone), gone.driver, gone.gpus[0].is_faulty) == ({"GPU-0": True}, None, True)
    nvml_script.set(init=None)
    back = one.sample(60.0, 60.0)
    assert (lost(back), back.driver) == ({"GPU-0": False}, "580.65.06")
    one.close()


def test_a_lost_card_is_seen_at_a_glance_and_others_go_on(nvml_script: Script) -> None:
    """A card that falls off the bus is lost at the next glance, the other keeps its values, and it comes back."""
    nvml_script.gpu(0)
    nvml_script.gpu(1)
    one = sampler()
    one.sample(0.0, 0.0)
    nvml_script.set(gpu0__lost=1, gpu1__power=500_000)
    seen = one.glance(0.05, 0.05)
    assert seen is not None
    assert lost(seen) == {"GPU-0": True, "GPU-1": False}
    assert one.glance(0.1, 0.1) is None
    later = one.sample(1.0, 1.0)
    assert lost(later) == {"GPU-0": True, "GPU-1": False}
    assert later.gpus[0].power_watts is None
    assert later.gpus[1].power_watts == 500
    nvml_script.set(gpu0__lost=None)
    assert lost(one.sample(100.0, 100.0)) == {"GPU-0": False, "GPU-1": False}
    one.close()


def test_a_card_that_was_never_alive_has_a_name_by_its_place(nvml_script: Script) -> None:
    """A card that is lost from the start is shown as lost, and under its own name once it answers."""
    nvml_script.gpu(0)
    nvml_script.gpu(1, lost=1)
    one = sampler()
    assert lost(one.sample(0.0, 0.0)) == {"GPU-0": False, "GPU-lost-1": True}
    nvml_script.set(gpu1__lost=None)
    assert lost(one.sample(10.0, 10.0)) == {"GPU-0": False, "GPU-1": False}
    one.close()


def test_a_card_that_stops_saying_anything_has_a_dead_handle(nvml_script: Script) -> None:
    """Where every reading of a card fails it is lost, the others are not, and it is found with a new handle."""
    nvml_script.gpu(0)
    nvml_script.gpu(1)
    one = sampler()
    one.sample(0.0, 0.0)
    said = dict(nvml_script.lines)
    failing = {key: "!2" for key in said if key.startswith("gpu0.") and not key.endswith(("uuid", "name", "events"))}
    nvml_script.lines |= failing
    nvml_script.write()
    assert lost(one.sample(1.0, 1.0)) == {"GPU-0": True, "GPU-1": False}
    nvml_script.lines |= said
    nvml_script.write()
    assert lost(one.sample(100.0, 100.0)) == {"GPU-0": False, "GPU-1": False}
    one.close()


def test_a_glance_tells_what_an_alarm_may_hang_on_and_nothing_else(nvml_script: Script) -> None:
    """A throttle, its end and full memory are told, with the clock of then; a power cap and a warmer chip are not."""
    nvml_script.gpu(0)
    one = sampler()
    one.sample(0.0, 0.0)
    nvml_script.set(gpu0__reasons=0x4, gpu0__temperature=80, gpu0__power=699_000)
    assert one.glance(0.05, 0.05) is None
    nvml_script.set(gpu0__reasons=0x44, gpu0__sm_clock=990)
    seen = one.glance(0.1, 0.1)
    assert seen is not None
    assert (seen.at_s, seen.gpus[0].throttle_reasons, seen.gpus[0].speed_fraction) == (
        0.1,
        ("sw_power_cap", "hw_thermal"),
        0.5,
    )
    assert one.glance(0.15, 0.15) is None
    nvml_script.set(gpu0__reasons=0)
    assert one.glance(0.2, 0.2) is not None
    nvml_script.set(gpu0__memory_used=79 * GIB)
    full = one.glance(0.25, 0.25)
    assert full is not None
    assert full.gpus[0].memory_used_bytes == 79 * GIB
    nvml_script.set(gpu0__memory_used=81 * GIB)
    assert one.glance(0.3, 0.3) is not None
    assert one.cost.glances == 6
    one.close()


def test_mig_instances_share_their_card(nvml_script: Script) -> None:
    """Instances have their own memory and their card's clocks and throttle; power and energy stand at the card only."""
    nvml_script.gpu(0, mig=1, utilization="!3", reasons=0x40)
    for place, used in ((0, 10 * GIB), (1, 20 * GIB)):
        nvml_script.lines[f"gpu0.mig{place}.uuid"] = f"MIG-{place}"
        nvml_script.lines[f"gpu0.mig{place}.name"] = "NVIDIA H100 80GB HBM3 MIG 3g.40gb"
        nvml_script.lines[f"gpu0.mig{place}.memory_used"] = used
        nvml_script.lines[f"gpu0.mig{place}.memory_total"] = 40 * GIB
    nvml_script.write()
    one = sampler()
    card, first, second = one.sample(0.0, 0.0).gpus
    assert (card.utilization_fraction, card.power_watts) == (None, 412.345)
    assert [(each.uuid, each.mig, each.parent_uuid) for each in (first, second)] == [
        ("MIG-0", "3g.40gb", "GPU-0"),
        ("MIG-1", "3g.40gb", "GPU-0"),
    ]
    assert (first.memory_used_bytes, second.memory_used_bytes) == (10 * GIB, 20 * GIB)
    assert (first.power_watts, first.energy_joules, first.sm_clock_mhz, first.is_throttled) == (None, None, 1965, True)
    nvml_script.set(gpu0__reasons=0)
    seen = one.glance(0.05, 0.05)
    assert seen is not None
    assert [gpu.is_throttled for gpu in seen.gpus] == [False] * 3
    nvml_script.set(gpu0__lost=1)
    gone = one.glance(0.1, 0.1)
    assert gone is not None
    assert list(lost(gone).values()) == [True] * 3
    assert list(lost(one.sample(0.2, 0.2)).values()) == [True] * 3
    one.close()


def test_an_instance_that_was_destroyed_is_gone(nvml_script: Script) -> None:
    """An instance that the operator takes away is no fault."""
    nvml_script.gpu(0, mig=1)
    nvml_script.set(gpu0__mig0__uuid="MIG-0")
    one = sampler()
    assert list(lost(one.sample(0.0, 0.0))) == ["GPU-0", "MIG-0"]
    nvml_script.set(gpu0__mig0__uuid=None)
    assert lost(one.sample(1.0, 1.0)) == {"GPU-0": False}
    one.close()


def test_bytes_of_the_bus_become_a_rate(nvml_script: Script) -> None:
    """Two samples give bytes per second; a counter that went back gives none, and never a negative one."""
    nvml_script.gpu(0)
    one = sampler()
    assert one.sample(0.0, 0.0).gpus[0].pcie_tx_bytes_per_s is None
    nvml_script.set(gpu0__field__197=7_000_000, gpu0__field__198=1, gpu0__field__138=1)
    gpu = one.sample(2.0, 2.0).gpus[0]
    assert (gpu.pcie_tx_bytes_per_s, gpu.pcie_rx_bytes_per_s, gpu.nvlink_tx_bytes_per_s) == (1_000_000, None, None)
    nvml_script.set(gpu0__field__138=1001)
    assert one.sample(4.0, 4.0).gpus[0].nvlink_tx_bytes_per_s == 512_000
    one.close()


def test_frozen_gauges_are_absent_in_samples_and_glances(nvml_script: Script) -> None:
    """Gauges that stand still while the energy counter moves are None and named, until they move again."""
    nvml_script.gpu(0, power=70_000, sm_clock=345, utilization=0)
    one = sampler()
    for second in range(6):
        nvml_script.set(gpu0__energy=1_000_000 + 500_000 * second)
        gpu = one.sample(float(second), float(second)).gpus[0]
    assert (gpu.suspect, gpu.power_watts, gpu.utilization_fraction) == (GAUGES, None, None)
    nvml_script.set(gpu0__reasons=0x40)
    seen = one.glance(5.1, 5.1)
    assert seen is not None
    assert (seen.gpus[0].is_throttled, seen.gpus[0].sm_clock_mhz) == (True, None)
    nvml_script.set(gpu0__power=510_000)
    assert one.sample(6.0, 6.0).gpus[0].suspect == ()
    one.close()
