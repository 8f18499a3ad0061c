"""From a host's GPUs to one backend's state."""

import pytest

from gpubalancer.board.layout import Hardware
from gpubalancer.telemetry.gpus import Gpu, Snapshot
from gpubalancer.telemetry.hardware import State, chosen, state_of


def gpu(index: int = 0, **said: object) -> Gpu:
    """A busy GPU at its full clock, but for what is said."""
    known = {"sm_clock_mhz": 1000.0, "expected_sm_clock_mhz": 1000.0, "utilization_fraction": 1.0, "power_watts": 300.0}
    return Gpu(index, f"GPU-{index}", **(known | said))  # type: ignore[arg-type] # a test's words


SLOW = {"sm_clock_mhz": 500.0, "throttle_reasons": ("hw_thermal",)}


@pytest.mark.parametrize(
    ("gpus", "state"),
    [
        ([], State(Hardware.UNKNOWN, 1.0, None)),
        ([gpu()], State(Hardware.WELL, 1.0, 300.0)),
        ([gpu(0), gpu(1)], State(Hardware.WELL, 1.0, 600.0)),
        ([gpu(0, **SLOW), gpu(1)], State(Hardware.THROTTLED, 0.5, 600.0)),
        ([gpu(0, **SLOW), gpu(1, **(SLOW | {"sm_clock_mhz": 250.0}))], State(Hardware.THROTTLED, 0.25, 600.0)),
        ([gpu(0, **SLOW), gpu(1, xids=((79, 1.0),))], State(Hardware.FAULTY, 0.5, 600.0)),
        ([gpu(lost=True, power_watts=None)], State(Hardware.FAULTY, 1.0, None)),
        ([gpu(0), gpu(1, power_watts=None)], State(Hardware.WELL, 1.0, None)),
        ([gpu(sm_clock_mhz=600.0, throttle_reasons=("sw_power_cap",))], State(Hardware.WELL, 1.0, 300.0)),
        ([gpu(sm_clock_mhz=210.0, throttle_reasons=("gpu_idle",))], State(Hardware.WELL, 1.0, 300.0)),
        ([gpu(sm_clock_mhz=None, throttle_reasons=("hw_slowdown",))], State(Hardware.THROTTLED, 1.0, 300.0)),
        ([gpu(xids=((31, 1.0), (43, 1.0)))], State(Hardware.WELL, 1.0, 300.0)),
        (
            [gpu(), Gpu(0, "MIG-1", parent_uuid="GPU-0"), Gpu(1, "MIG-2", parent_uuid="GPU-0")],
            State(Hardware.WELL, 1.0, 300.0),
        ),
    ],
)
def test_the_slowest_and_the_sickest_decide(gpus: list[Gpu], state: State) -> None:
    """Speed is the slowest's, and only while heat or power holds it; one fault is a fault; power is added up."""
    assert state_of(gpus) == state


def test_a_backend_has_its_own_gpus() -> None:
    """Indices choose whole GPUs, with the MIG instances in them; none chooses all; absent ones choose nothing."""
    zero, one = gpu(0), gpu(1)
    of_one = Gpu(0, "MIG-1", parent_uuid="GPU-1")
    host = Snapshot(1.0, "h", gpus=(zero, one, of_one))
    assert chosen(host, ()) == host
    assert chosen(host, (0,)).gpus == (zero,)
    assert chosen(host, (1,)).gpus == (one, of_one)
    assert chosen(host, (1, 0)).gpus == (zero, one, of_one)
    assert chosen(host, (7,)).gpus == ()
