"""Opening, closing and listening, through the real nvidia-ml-py."""

import threading

import pynvml  # type: ignore[import-untyped]  # ships no types
import pytest

from gpubalancer.telemetry.nvml.calls import CardLostError, DriverGoneError, NoDriverError
from gpubalancer.telemetry.nvml.driver import Nvml, Told
from tests.telemetry.fake_nvml import GIB, Script


def test_without_the_library_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no library is, opening says so; closing does no harm."""
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setattr(pynvml, "CDLL", _no_library)
    nvml = Nvml()
    with pytest.raises(NoDriverError, match="NVML Shared Library Not Found"):
        nvml.open()
    nvml.close()


def _no_library(name: str) -> None:
    raise OSError(f"{name}: cannot open shared object file")


@pytest.mark.parametrize("code", [9, 18, 999])
def test_a_library_without_a_driver_is_no_driver(nvml_script: Script, code: int) -> None:
    """A driver that is not loaded, of another version, or failing, is one sentence too; it may come later."""
    nvml_script.set(init=f"!{code}")
    nvml = Nvml()
    with pytest.raises(NoDriverError):
        nvml.open()
    nvml_script.set(init=None)
    nvml_script.gpu(0)
    nvml.open()
    assert (nvml.driver, [card.uuid for card in nvml.cards]) == ("580.65.06", ["GPU-0"])
    nvml.close()
    assert (nvml.driver, nvml.cards) == (None, [])


def test_a_lost_card_leaves_the_others(nvml_script: Script) -> None:
    """A card that is lost while the driver is opened has no handle; one lost later raises; others answer."""
    nvml_script.gpu(0)
    nvml_script.gpu(1, lost=1)
    nvml = Nvml()
    nvml.open()
    assert [card.handle is None for card in nvml.cards] == [False, True]
    nvml_script.set(gpu0__lost=1, gpu1__lost=None)
    with pytest.raises(CardLostError):
        nvml.read(nvml.cards[0])
    nvml.close()


def test_after_a_reset_handles_are_dead_until_opened_anew(nvml_script: Script) -> None:
    """A driver reset raises DriverGoneError, and opening again finds the card."""
    nvml_script.gpu(0)
    nvml = Nvml()
    nvml.open()
    nvml_script.set(generation=1)
    with pytest.raises(DriverGoneError):
        nvml.read(nvml.cards[0])
    nvml.close()
    nvml.open()
    assert nvml.read(nvml.cards[0])["temperature_celsius"] == 61
    nvml.close()


def test_mig_instances_have_their_profile(nvml_script: Script) -> None:
    """Instances are found under their card, with the profile from their name or, without one, from their size."""
    nvml_script.gpu(0, mig=1, utilization="!3")
    nvml_script.set(
        gpu0__mig0__uuid="MIG-a",
        gpu0__mig0__name="NVIDIA H100 80GB HBM3 MIG 3g.40gb",
        gpu0__mig2__uuid="MIG-b",
        gpu0__mig2__attributes="1 9856",
    )
    nvml = Nvml()
    nvml.open()
    card = nvml.cards[0]
    found = nvml.instances(card)
    assert [(one.uuid, one.index, one.mig, one.parent) for one in found] == [
        ("MIG-a", 0, "3g.40gb", card),
        ("MIG-b", 2, "1g.10gb", card),
    ]
    assert nvml.instances(card) == found
    nvml_script.set(gpu0__mig=0)
    assert nvml.instances(card) == []
    nvml.close()


def test_each_error_is_told_once_with_its_card(nvml_script: Script) -> None:
    """XIDs arrive with their card, lost or not; a double-bit event is XID 48; silence is an empty list."""
    nvml_script.gpu(0)
    nvml_script.gpu(1)
    nvml = Nvml()
    assert nvml.wait_events(0.01) is None
    nvml.open()
    nvml_script.set(gpu1__lost=1)
    for index, xid in ((1, 79), (0, 0), (9, 13)):
        nvml_script.xid(index, xid)
    assert nvml.wait_events(0.01) == [Told("GPU-1", 79)]
    assert nvml.wait_events(0.01) == [Told("GPU-0", 48)]
    assert nvml.wait_events(0.01) == []
    assert nvml.wait_events(0.01) == []
    nvml_script.set(generation=1)
    assert nvml.wait_events(0.01) is None
    nvml.close()


def test_cards_that_tell_no_errors_are_not_waited_for(nvml_script: Script) -> None:
    """Where no card supports events there is nothing to wait for."""
    nvml_script.gpu(0, events="!3")
    nvml = Nvml()
    nvml.open()
    assert nvml.wait_events(5.0) is None
    nvml.close()


def test_closing_waits_for_the_thread_in_the_driver(nvml_script: Script) -> None:
    """The driver is closed after the thread that waits for events has left it, never under it."""
    nvml_script.gpu(0)
    nvml = Nvml()
    nvml.open()
    got: list[list[Told] | None] = []
    entered = threading.Event()

    def wait() -> None:
        entered.set()
        got.append(nvml.wait_events(0.3))

    thread = threading.Thread(target=wait)
    thread.start()
    entered.wait(5)
    nvml.close()
    thread.join(5)
    assert not thread.is_alive()
    assert got in ([[]], [None])


def test_unnamed_cards_are_read_all_the_same(nvml_script: Script) -> None:
    """A card without a name is there with an empty one."""
    nvml_script.gpu(0, name="!3", memory_used=GIB)
    nvml = Nvml()
    nvml.open()
    assert nvml.cards[0].name == ""
    assert nvml.read(nvml.cards[0], ("memory",))["memory_used_bytes"] == GIB
    nvml.close()
