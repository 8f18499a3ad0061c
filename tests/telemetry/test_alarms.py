"""What is told at once, and what is remembered."""

from dataclasses import replace

import pytest

from gpubalancer.telemetry.alarms import CALM_S, REMEMBER_S, XIDS_LIMIT, AlarmWatch
from gpubalancer.telemetry.gpus import Alarm, Gpu, Snapshot

SOUND = Gpu(0, "GPU-0", "card", energy_joules=100.0, memory_total_bytes=100, memory_used_bytes=50, ecc_volatile=0)
HOT = replace(SOUND, throttle_reasons=("hw_thermal",))


class Story:
    """Snapshots, one after another, and what was told."""

    def __init__(self, *gpus: Gpu) -> None:
        self.watch = AlarmWatch(Snapshot(0.0, "host"))
        self.at(0.0, *(gpus or (SOUND,)))

    def at(self, at_s: float, *gpus: Gpu) -> list[str]:
        """The alarms of a snapshot, as `kind uuid detail`."""
        return [_line(alarm) for alarm in self.watch.sampled(Snapshot(at_s, "host", gpus=gpus))]

    def xid(self, at_s: float, xid: int, uuid: str = "GPU-0") -> list[str]:
        """The alarms of an XID."""
        return [_line(alarm) for alarm in self.watch.told(uuid, xid, at_s)]

    def xids(self) -> list[int]:
        """The XIDs that the first card has now."""
        return [xid for xid, _ in self.watch.snapshot.gpus[0].xids]


def _line(alarm: Alarm) -> str:
    return f"{alarm.kind} {alarm.uuid} {alarm.detail}"


def test_sound_cards_are_silent() -> None:
    """Nothing is told of cards that come up sound and stay so, power cap or not."""
    story = Story()
    assert story.at(1.0, SOUND) == []
    assert story.at(2.0, replace(SOUND, throttle_reasons=("sw_power_cap", "gpu_idle"))) == []


def test_a_throttle_is_told_when_it_comes_and_when_it_has_gone() -> None:
    """Its beginning at once, a further reason at once, its end when a second has passed without any."""
    story = Story()
    assert story.at(1.0, HOT) == ["throttle GPU-0 hw_thermal"]
    assert story.at(1.1, HOT) == []
    both = replace(SOUND, throttle_reasons=("hw_thermal", "hw_slowdown", "sw_power_cap"))
    assert story.at(1.2, both) == ["throttle GPU-0 hw_slowdown,hw_thermal"]
    assert story.at(1.2 + CALM_S / 2, SOUND) == []
    assert story.at(1.3 + CALM_S, SOUND) == ["released GPU-0 hw_slowdown,hw_thermal"]
    assert story.at(3.0, HOT) == ["throttle GPU-0 hw_thermal"]


def test_a_throttle_that_flickers_is_one_alarm() -> None:
    """Twenty changes a second on the edge of a temperature are told once."""
    story = Story()
    told = [story.at(1.0 + tick / 20, HOT if tick % 2 else SOUND) for tick in range(100)]
    assert [each for each in told if each] == [["throttle GPU-0 hw_thermal"]]


def test_a_card_that_comes_up_bad_is_told() -> None:
    """A card that is hot, full or lost in the first sample is told of."""
    full = replace(SOUND, uuid="GPU-1", memory_used_bytes=99)
    watch = AlarmWatch(Snapshot(0.0, "host"))
    told = watch.sampled(Snapshot(1.0, "host", gpus=(HOT, full, Gpu(2, "GPU-2", "card", lost=True))))
    assert [_line(alarm) for alarm in told] == [
        "throttle GPU-0 hw_thermal",
        "memory GPU-1 0.990",
        "lost GPU-2 card",
    ]
    assert {alarm.at_s for alarm in told} == {1.0}


def test_a_lost_card_and_its_return_are_told_once_each() -> None:
    """Lost once, found once, whatever comes in between."""
    story = Story()
    gone = Gpu(0, "GPU-0", "card", lost=True)
    assert story.at(1.0, gone) == ["lost GPU-0 card"]
    assert story.at(2.0, gone) == []
    assert story.at(3.0, SOUND) == ["found GPU-0 card"]
    assert story.at(4.0, SOUND) == []


def test_full_memory_is_told_again_only_after_there_was_room() -> None:
    """Memory around the limit is one alarm; after room it is another one; a card that does not say changes nothing."""
    story = Story()
    used = [97, 98, 96, 99, None, 98, 94, 98]
    told = [story.at(float(at), replace(SOUND, memory_used_bytes=each)) for at, each in enumerate(used, 1)]
    assert told == [[], ["memory GPU-0 0.980"], [], [], [], [], [], ["memory GPU-0 0.980"]]


def test_new_memory_errors_are_told_with_their_number() -> None:
    """A counter that grew is told; one that fell, or came from nowhere, is not."""
    story = Story()
    assert story.at(1.0, replace(SOUND, ecc_volatile=2, retired_pages=1)) == ["ecc GPU-0 ecc_volatile 2"]
    assert story.at(2.0, replace(SOUND, ecc_volatile=0, retired_pages=2)) == ["ecc GPU-0 retired_pages 2"]
    assert story.at(3.0, replace(SOUND, ecc_volatile=None)) == []


def test_an_xid_is_told_and_remembered() -> None:
    """An XID is an alarm at once, and stands in the snapshots that follow, at the card and its MIG instances."""
    instance = Gpu(0, "MIG-0", mig="3g.40gb", parent_uuid="GPU-0")
    story = Story(SOUND, instance)
    assert story.xid(1.0, 79) == ["xid GPU-0 79"]
    assert [gpu.is_faulty for gpu in story.watch.snapshot.gpus] == [True, True]
    assert story.at(2.0, SOUND, instance) == []
    assert [gpu.xids for gpu in story.watch.snapshot.gpus] == [((79, 1.0),)] * 2


def test_the_applications_errors_are_forgotten_and_hardware_faults_are_not() -> None:
    """XID 31 goes after some minutes; XID 94 stays until a reset."""
    story = Story()
    story.xid(1.0, 31)
    story.xid(2.0, 94)
    story.at(REMEMBER_S, SOUND)
    assert story.xids() == [31, 94]
    story.at(REMEMBER_S + 1.5, SOUND)
    assert story.xids() == [94]


@pytest.mark.parametrize("after", [[Gpu(0, "GPU-0", lost=True), SOUND], [replace(SOUND, energy_joules=1.0)]])
def test_a_reset_forgets_the_faults_of_before(after: list[Gpu]) -> None:
    """A card that was lost and is back, or whose energy counter begins anew, was reset."""
    story = Story()
    story.xid(1.0, 79)
    for at, gpu in enumerate(after, 2):
        story.at(float(at), gpu)
    assert story.xids() == []


def test_a_lost_energy_counter_is_no_reset() -> None:
    """A sample without energy does not clear a fault."""
    story = Story()
    story.xid(1.0, 79)
    story.at(2.0, replace(SOUND, energy_joules=None))
    assert story.xids() == [79]


def test_a_storm_of_xids_is_bounded() -> None:
    """However many errors a card tells, the last few are kept."""
    story = Story()
    for number in range(1000):
        story.xid(1.0, 1 + number)
    assert story.xids() == list(range(1001 - XIDS_LIMIT, 1001))


def test_instances_repeat_nothing_of_their_card() -> None:
    """A card's throttle is told once, not for each of its MIG instances; their own memory is told."""
    instance = replace(HOT, uuid="MIG-0", mig="3g.40gb", parent_uuid="GPU-0", memory_used_bytes=99)
    story = Story()
    assert story.at(1.0, HOT, instance) == ["throttle GPU-0 hw_thermal", "memory MIG-0 0.990"]
