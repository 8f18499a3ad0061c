"""Snapshots, their JSON, and what faults mean."""

from dataclasses import fields, replace

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpubalancer.telemetry.gpus import (
    RANGES,
    RECOVERY,
    XIDS,
    Alarm,
    AlarmKind,
    Gpu,
    Remedy,
    Snapshot,
    alarm_json,
    alarms_of,
    gpu_of,
    snapshot_of,
)

BUSY = Gpu(0, "GPU-0", utilization_fraction=1.0, sm_clock_mhz=990.0, expected_sm_clock_mhz=1980.0)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
names = [field.name for field in fields(Gpu)]
entries = st.fixed_dictionaries({"index": json_values, "uuid": json_values}) | st.dictionaries(
    st.sampled_from(names), json_values, max_size=len(names)
)


# How long an example takes says how busy the machine is, and nothing of the reader.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@patient
@given(entry=entries)
def test_whatever_is_told_only_true_numbers_are_kept(entry: dict[str, object]) -> None:
    """Any JSON object becomes a card whose numbers are absent or within their ranges, or no card."""
    data = orjson.dumps({"gpus": [entry | {"index": 0, "uuid": "GPU-0"}]})
    (gpu,) = snapshot_of(data).gpus
    for name, bounds in RANGES.items():
        value = getattr(gpu, name)
        assert value is None or bounds.low <= value <= bounds.high
    assert all(isinstance(reason, str) for reason in gpu.throttle_reasons)
    assert snapshot_of(orjson.dumps({"gpus": [entry]})).gpus in ((), (gpu_of(entry),))


@patient
@given(data=st.binary(max_size=40) | json_values.map(orjson.dumps))
def test_what_is_no_snapshot_is_a_value_error(data: bytes) -> None:
    """Bytes that are no snapshot raise ValueError and nothing else."""
    for read in (snapshot_of, alarms_of):
        try:
            read(data)
        except ValueError:
            continue


def test_a_snapshot_survives_its_json() -> None:
    """A snapshot read from its own JSON is equal to it, XIDs, processes and absent values included."""
    gpu = replace(
        BUSY, ecc_volatile=3, processes=((7, None), (8, 1024)), xids=((79, 5.5),), throttle_reasons=("hw_thermal",)
    )
    instance = Gpu(1, "MIG-1", mig="3g.40gb", parent_uuid="GPU-0", lost=True, suspect=("power_watts",))
    snapshot = Snapshot(1700000000.25, "host", "580.65", (gpu, instance), 0.5, "a reason")
    assert snapshot_of(snapshot.json()) == snapshot
    alarm = Alarm(AlarmKind.XID, "GPU-0", "79", 5.5)
    assert alarms_of(alarm_json([alarm], snapshot)) == ((alarm,), snapshot)


def test_unknown_fields_and_alarms_are_ignored() -> None:
    """What a newer agent adds does not disturb an older reader."""
    entry = {"index": 0, "uuid": "GPU-0", "aura": "green"}
    snapshot = {"at_s": 1, "gpus": [entry, {"index": 1}, 5], "mood": 1}
    alarm = {"kind": "xid", "uuid": "GPU-0", "detail": "31", "at_s": 1}
    alarms, read = alarms_of(orjson.dumps({"alarms": [alarm, alarm | {"kind": "omen"}, 3], "snapshot": snapshot}))
    assert read == Snapshot(1.0, "", gpus=(Gpu(0, "GPU-0"),))
    assert [each.detail for each in alarms] == ["31"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("power_watts", 0xFFFFFFFF),
        ("power_watts", -1),
        ("power_watts", float("nan")),
        ("power_watts", "300"),
        ("power_watts", True),
        ("utilization_fraction", 1.01),
        ("memory_used_bytes", 0xFFFFFFFF),
        ("memory_used_bytes", 1 << 63),
        ("memory_used_bytes", 101),
        ("ecc_volatile", 0xFFFFFFFFFFFFFFFF),
        ("ecc_volatile", 1.5),
        ("sm_clock_mhz", float("inf")),
    ],
)
def test_lies_are_absent(name: str, value: object) -> None:
    """A number that can't be true is None, and the rest of the card stays."""
    gpu = gpu_of({"index": 0, "uuid": "GPU-0", "memory_total_bytes": 100, "temperature_celsius": 50, name: value})
    assert gpu is not None
    assert getattr(gpu, name) is None
    assert gpu.temperature_celsius == 50


def test_speed_is_the_clock_by_the_expected_one() -> None:
    """Half the clock is half the speed, more than expected is 1, and idle or unknown is None."""
    assert BUSY.speed_fraction == 0.5
    assert replace(BUSY, sm_clock_mhz=2000.0).speed_fraction == 1.0
    for change in ({"sm_clock_mhz": None}, {"sm_clock_mhz": 0.0}, {"expected_sm_clock_mhz": None}):
        assert replace(BUSY, **change).speed_fraction is None
    assert replace(BUSY, utilization_fraction=0.0).speed_fraction is None
    assert replace(BUSY, throttle_reasons=("gpu_idle",)).speed_fraction is None


@pytest.mark.parametrize(
    ("reasons", "throttled"),
    [
        ((), False),
        (("sw_power_cap",), False),
        (("applications_clocks", "sync_boost"), False),
        (("hw_slowdown",), True),
        (("sw_thermal",), True),
        (("sw_power_cap", "hw_thermal"), True),
        (("hw_power_brake",), True),
    ],
)
def test_heat_and_power_supply_throttle_and_a_power_cap_does_not(reasons: tuple[str, ...], throttled: bool) -> None:
    """A power cap alone is how a busy card runs."""
    assert replace(BUSY, throttle_reasons=reasons).is_throttled is throttled


@pytest.mark.parametrize(
    ("xid", "remedy"),
    [(79, "eject"), (48, "eject"), (64, "eject"), (74, "eject"), (95, "eject"), (63, "drain"), (94, "drain")]
    + [(xid, None) for xid in (13, 31, 43, 45, 68, 109)],
)
def test_each_xid_has_its_remedy(xid: int, remedy: str | None) -> None:
    """Hardware errors eject or drain; the application's own errors say nothing of the card."""
    gpu = replace(BUSY, xids=((xid, 1.0),))
    assert gpu.remedy == remedy
    assert gpu.is_faulty is (remedy is not None)


def test_the_hardest_remedy_counts() -> None:
    """Of several faults the hardest decides, and a lost card is ejected."""
    assert replace(BUSY, xids=((63, 1.0), (79, 1.0), (13, 2.0))).remedy is Remedy.EJECT
    assert replace(BUSY, recovery_action="drain", xids=((31, 1.0),)).remedy is Remedy.DRAIN
    assert replace(BUSY, lost=True).remedy is Remedy.EJECT
    assert replace(BUSY, recovery_action="none").remedy is None
    assert replace(BUSY, recovery_action="sing").remedy is Remedy.DRAIN
    assert set(XIDS.values()) | set(RECOVERY.values()) == {*Remedy, None}


def test_more_memory_in_use_than_there_is_is_no_fraction() -> None:
    """The fraction of memory in use is between 0 and 1, or absent."""
    assert replace(BUSY, memory_used_bytes=50, memory_total_bytes=100).memory_fraction == 0.5
    assert replace(BUSY, memory_used_bytes=101, memory_total_bytes=100).memory_fraction is None
    assert BUSY.memory_fraction is None
