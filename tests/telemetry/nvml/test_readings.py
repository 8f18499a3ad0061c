"""What cards say to the table of readings, through the real nvidia-ml-py."""

from pathlib import Path

import pytest

from gpubalancer.telemetry.gpus import RANGES, gpu_of
from gpubalancer.telemetry.nvml.driver import Nvml
from gpubalancer.telemetry.nvml.readings import (
    AT_A_GLANCE,
    COUNTERS,
    OF_A_THROTTLE,
    OF_AN_INSTANCE,
    READINGS,
    RECOVERY_ACTIONS,
)
from tests.telemetry.conftest import loaded
from tests.telemetry.fake_nvml import GIB, Script, build


def said(nvml: Nvml, index: int = 0) -> dict[str, object]:
    """What a card says, the driver opened for it alone."""
    nvml.open()
    try:
        return nvml.read(nvml.cards[index])
    finally:
        nvml.close()


def test_a_card_says_everything_in_our_units(nvml_script: Script) -> None:
    """Each reading arrives by the name of Gpu's field, in watts, joules, fractions and bytes."""
    nvml_script.gpu(0, reasons=0x4 | 0x40)
    answers = said(Nvml())
    assert answers.pop("processes") == [(4711, 70 * GIB)]
    assert answers == {
        "memory_used_bytes": 71 * GIB,
        "memory_total_bytes": 80 * GIB,
        "utilization_fraction": 0.97,
        "power_watts": pytest.approx(412.345),
        "power_limit_watts": pytest.approx(700.0),
        "energy_joules": pytest.approx(9000.0),
        "temperature_celsius": 61,
        "sm_clock_mhz": 1965,
        "expected_sm_clock_mhz": 1980,
        "memory_clock_mhz": 2619,
        "throttle_reasons": ("sw_power_cap", "hw_thermal"),
        "ecc_volatile": 0,
        "ecc_aggregate": 2,
        "retired_pages": 2,
        "recovery_action": "none",
        "pcie_tx": 5_000_000,
        "pcie_rx": 7_000_000,
    }


def test_an_older_driver_is_asked_in_its_own_way(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where newer calls are missing from the library, memory, reasons and retired pages come by the older ones."""
    script = loaded(build(tmp_path_factory.mktemp("old"), "-DOLD_DRIVER"), tmp_path, monkeypatch)
    script.gpu(0, reasons=0x20, retired_single=3, retired_double=0)
    answers = said(Nvml())
    assert (answers["memory_used_bytes"], answers["throttle_reasons"]) == (71 * GIB, ("sw_thermal",))
    assert answers["retired_pages"] == 3


@pytest.mark.parametrize(
    ("remapped", "action", "expected"),
    [("1 2 0 0", 0, "none"), ("1 2 1 0", 0, "drain"), ("1 2 1 1", 0, "reset"), ("0 0 0 0", 2, "reboot")]
    + [("0 0 0 0", 99, None)],
)
def test_rows_that_wait_for_a_reset_ask_for_it(
    nvml_script: Script, remapped: str, action: int, expected: str | None
) -> None:
    """A remap drains, a failed one wants a reset, whatever the recovery action says; what is unknown is absent."""
    nvml_script.gpu(0, remapped=remapped)
    nvml_script.set(gpu0__field__230=action)
    assert said(Nvml()).get("recovery_action") == expected


def test_garbage_is_absent(nvml_script: Script) -> None:
    """Values that NVML gives for not available, and those that can't be, come out as None."""
    bad = 0xFFFFFFFF
    nvml_script.gpu(
        0, power=bad, sm_clock=bad, temperature=bad, utilization=250, memory_used=(1 << 64) - 1, energy=(1 << 64) - 1
    )
    gpu = gpu_of(said(Nvml()) | {"index": 0, "uuid": "GPU-0"})
    assert gpu is not None
    found = {name: getattr(gpu, name) for name in RANGES}
    absent = {"power_watts", "sm_clock_mhz", "temperature_celsius", "utilization_fraction", "memory_used_bytes"}
    assert all(found[name] is None for name in absent | {"energy_joules"})
    assert (gpu.memory_total_bytes, gpu.memory_clock_mhz) == (80 * GIB, 2619)


def test_an_answer_that_fails_once_is_asked_again(nvml_script: Script) -> None:
    """A TIMEOUT makes one value absent once; a NOT_SUPPORTED one is not asked again until the driver is opened anew."""
    nvml_script.gpu(0, power="!10", temperature="!3", ecc_volatile="!4")
    nvml = Nvml()
    nvml.open()
    first = nvml.read(nvml.cards[0])
    calls = nvml.calls
    nvml_script.set(gpu0__power=1000, gpu0__temperature=50, gpu0__ecc_volatile=0)
    second = nvml.read(nvml.cards[0])
    assert "power_watts" not in first
    assert second["power_watts"] == 1
    assert "temperature_celsius" not in second
    assert "ecc_volatile" not in second
    assert nvml.calls - calls == len(READINGS) - 2
    nvml.close()
    assert said(nvml)["temperature_celsius"] == 50


def test_the_tables_hang_together() -> None:
    """Readings of a glance and of an instance are rows of the table, and counters are no fields of their own."""
    assert {*AT_A_GLANCE, *OF_A_THROTTLE, *OF_AN_INSTANCE} <= set(READINGS)
    assert {f"{name}_bytes_per_s" for name in COUNTERS} <= set(RANGES)
    assert len(RECOVERY_ACTIONS) == 8
