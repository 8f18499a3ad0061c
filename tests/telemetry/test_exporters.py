"""GPUs on the pages of other vendors' exporters, with lines as their documentation has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.telemetry.exporters import EXPORTERS, snapshot_of
from gpubalancer.telemetry.gpus import Gpu, Remedy

H100 = 'gpu="{0}",UUID="GPU-{0}",pci_bus_id="0",device="nvidia{0}",modelName="NVIDIA H100 80GB HBM3",Hostname="h"'
MI300 = 'gpu_id="{0}",serial_number="S{0}",card_model="MI300X",hostname="h"'
ARC = 'uuid="u{0}",dev_name="Max 1550",pci_bdf="0000:4{0}:00.0",vendor="Intel"'


def page(labels: str, *lines: tuple[str, str, float]) -> bytes:
    """A page of lines, each a name, the GPU's number or further labels, and the value."""
    made = []
    for name, more, number in lines:
        gpu, _, further = more.partition(",")
        inner = labels.format(gpu) + (f",{further}" if further else "")
        made.append(f"{name}{{{inner}}} {number!r}\n")
    return "".join(made).encode()


def test_dcgm_tells_what_it_does_by_default() -> None:
    """Numbers come in our units, the GPUs in the order of their index, and what is not told is None."""
    text = page(
        H100,
        ("DCGM_FI_DEV_SM_CLOCK", "1", 1980),
        ("DCGM_FI_DEV_SM_CLOCK", "0", 1755),
        ("DCGM_FI_DEV_POWER_USAGE", "0", 310.5),
        ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "0", 31035500),
        ("DCGM_FI_DEV_GPU_UTIL", "0", 73),
        ("DCGM_FI_DEV_FB_USED", "0", 1024),
        ("DCGM_FI_DEV_GPU_TEMP", "0", 45),
        ("DCGM_FI_DEV_XID_ERRORS", "0", 0),
    )
    first, second = snapshot_of(text, 9.0).gpus
    name = "NVIDIA H100 80GB HBM3"
    assert first == Gpu(
        0,
        "GPU-0",
        name,
        utilization_fraction=0.73,
        memory_used_bytes=1 << 30,
        power_watts=310.5,
        energy_joules=31035.5,
        temperature_celsius=45.0,
        sm_clock_mhz=1755.0,
    )
    assert second == Gpu(1, "GPU-1", name, sm_clock_mhz=1980.0)
    assert not first.is_faulty
    assert not first.is_throttled


@pytest.mark.parametrize(("xid", "remedy"), [(0, None), (31, None), (79, Remedy.EJECT), (94, Remedy.DRAIN), (-1, None)])
def test_dcgm_tells_the_last_xid(xid: int, remedy: Remedy | None) -> None:
    """Errors of the hardware are faults, those of applications are not."""
    (gpu,) = snapshot_of(page(H100, ("DCGM_FI_DEV_XID_ERRORS", "0", xid)), 9.0).gpus
    assert gpu.remedy is remedy
    assert gpu.xids == (((xid, 9.0),) if xid > 0 else ())


@pytest.mark.parametrize("name", ["DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS"])
def test_dcgm_tells_why_clocks_are_low_if_asked_to(name: str) -> None:
    """The bits of the mask become reasons, and with the highest clock a speed follows."""
    text = page(
        H100,
        (name, "0", 0x44),
        ("DCGM_FI_DEV_SM_CLOCK", "0", 990),
        ("DCGM_FI_DEV_MAX_SM_CLOCK", "0", 1980),
        ("DCGM_FI_DEV_GPU_UTIL", "0", 100),
    )
    (gpu,) = snapshot_of(text, 9.0).gpus
    assert gpu.throttle_reasons == ("sw_power_cap", "hw_thermal")
    assert gpu.is_throttled
    assert gpu.speed_fraction == 0.5


def test_mig_instances_are_their_gpu() -> None:
    """What DCGM repeats for each instance counts once."""
    text = page(
        H100,
        ("DCGM_FI_DEV_POWER_USAGE", '0,GPU_I_PROFILE="1g.10gb",GPU_I_ID="7"', 300),
        ("DCGM_FI_DEV_POWER_USAGE", '0,GPU_I_PROFILE="1g.10gb",GPU_I_ID="8"', 300),
    )
    (gpu,) = snapshot_of(text, 9.0).gpus
    assert gpu.power_watts == 300.0


def test_blank_values_of_dcgm_are_none() -> None:
    """What DCGM writes for "not supported" is no reading."""
    text = page(H100, ("DCGM_FI_DEV_GPU_TEMP", "0", 9223372036854775794), ("DCGM_FI_DEV_POWER_USAGE", "0", 2147483632))
    (gpu,) = snapshot_of(text, 9.0).gpus
    assert (gpu.temperature_celsius, gpu.power_watts) == (None, None)


@pytest.mark.parametrize("prefix", ["", "amd_"])
@pytest.mark.parametrize("kind", ["system", "GPU_CLOCK_TYPE_SYSTEM"])
def test_amd_tells_clocks_power_and_limits(prefix: str, kind: str) -> None:
    """Old and new spellings give the same card; a limit that held a third of the time is a throttle."""
    text = page(
        MI300,
        (f"{prefix}gpu_package_power", "3", 748.0),
        (f"{prefix}gpu_gfx_activity", "3", 50.0),
        (f"{prefix}gpu_energy_consumed", "3", 2e6),
        (f"{prefix}gpu_used_vram", "3", 2.0),
        (f"{prefix}gpu_total_vram", "3", 4.0),
        (f"{prefix}gpu_junction_temperature", "3", 76.0),
        (f"{prefix}gpu_clock", f'3,clock_index="0",clock_type="{kind}"', 1000.0),
        (f"{prefix}gpu_clock", f'3,clock_index="1",clock_type="{kind}"', 1100.0),
        (f"{prefix}gpu_max_clock", f'3,clock_index="0",clock_type="{kind}"', 2100.0),
        (f"{prefix}gpu_violation_socket_thermal_residency_percentage", "3", 33.0),
        (f"{prefix}gpu_violation_ppt_residency_percentage", "3", 3.0),
        (f"{prefix}gpu_health", "3", 1.0),
    )
    (gpu,) = snapshot_of(text, 9.0).gpus
    assert (gpu.index, gpu.uuid, gpu.name) == (3, "S3", "MI300X")
    assert (gpu.power_watts, gpu.energy_joules, gpu.temperature_celsius) == (748.0, 2.0, 76.0)
    assert (gpu.memory_used_bytes, gpu.memory_total_bytes) == (2 << 20, 4 << 20)
    assert gpu.throttle_reasons == ("hw_thermal",)
    assert gpu.speed_fraction == 0.5
    assert not gpu.is_faulty


def test_an_unhealthy_amd_card_is_drained() -> None:
    """Health 0 asks for no new work; a health that is not told asks for nothing."""
    sick = page(MI300, ("gpu_package_power", "0", 100.0), ("gpu_health", "0", 0.0))
    assert snapshot_of(sick, 9.0).gpus[0].remedy is Remedy.DRAIN
    assert snapshot_of(page(MI300, ("gpu_package_power", "0", 100.0)), 9.0).gpus[0].remedy is None


def test_intel_tells_frequency_and_power() -> None:
    """Tiles are folded, cards are numbered by their bus address, and throttling is a reason."""
    text = page(
        ARC,
        ("xpum_power_watts", "1", 400.0),
        ("xpum_power_watts", "0", 350.0),
        ("xpum_engine_ratio", "0", 0.9),
        ("xpum_temperature_celsius", '0,location="gpu"', 60.0),
        ("xpum_temperature_celsius", '0,location="memory"', 70.0),
        ("xpum_memory_used_bytes", '0,sub_dev="0"', 5.0),
        ("xpum_memory_used_bytes", '0,sub_dev="1"', 6.0),
        ("xpum_frequency_mhz", '0,location="gpu",type="actual",sub_dev="0"', 800.0),
        ("xpum_frequency_mhz", '0,location="gpu",type="request",sub_dev="0"', 1600.0),
        ("xpum_frequency_throttling_ratio", '0,location="gpu"', 0.4),
    )
    first, second = snapshot_of(text, 9.0).gpus
    assert (first.index, first.uuid, second.index, second.uuid) == (0, "u0", 1, "u1")
    assert (first.power_watts, first.temperature_celsius, first.memory_used_bytes) == (350.0, 60.0, 11)
    assert first.is_throttled
    assert first.speed_fraction == 0.5
    assert not second.is_throttled


@pytest.mark.parametrize("text", [b"", b"python_info 1\n", b'DCGM_OTHER{gpu="0"} 1\n', b"<html>"])
def test_other_pages_are_a_problem(text: bytes) -> None:
    """A page of no exporter has no GPUs, and says so."""
    snapshot = snapshot_of(text, 9.0)
    assert snapshot.gpus == ()
    assert snapshot.problem


@given(st.sampled_from(sorted(EXPORTERS)), st.data())
def test_any_numbers_give_gpus(vendor: str, data: st.DataObject) -> None:
    """Whatever stands behind the names, nothing raises, and ratios are ratios."""
    exporter = EXPORTERS[vendor]
    parts = (exporter.fields, exporter.reasons, exporter.extra)
    names = sorted({series.name for part in parts for rows in part.values() for series in rows})
    labels = {"dcgm": H100, "amd": MI300, "intel": ARC}[vendor].format(0)
    lines = data.draw(st.lists(st.tuples(st.sampled_from(names), st.floats()), min_size=1, max_size=9))
    text = "".join(f"{name}{{{labels}}} {number!r}\n" for name, number in lines).encode()
    for gpu in snapshot_of(text, 9.0).gpus:
        assert gpu.speed_fraction is None or 0 < gpu.speed_fraction <= 1
        assert gpu.power_watts is None or gpu.power_watts >= 0
