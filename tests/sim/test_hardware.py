"""Durations of the hardware classes."""

import pytest

from gpubalancer.sim.hardware import HARDWARE

PUBLISHED = {  # class: (ms per prompt token, ms between tokens), 7-8B models, llm-d-inference-sim's table
    "h100": ((0.15, 0.30), (10, 15)),
    "a100": ((0.30, 0.55), (15, 25)),
    "l40s": ((0.65, 1.00), (25, 35)),
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_durations_lie_in_the_published_ranges(name: str) -> None:
    """A prompt of 1000 tokens and a lone token take what the published table says, the fixed overhead aside."""
    hardware = HARDWARE[name]
    (least_prompt, most_prompt), (least_between, most_between) = PUBLISHED[name]
    assert least_prompt <= hardware.chunk_s(0, 1000) <= most_prompt
    assert least_between <= hardware.step_s(1, 1000) * 1000 <= most_between


def test_chunks_add_up_to_the_whole() -> None:
    """Reading a prompt in two chunks takes as long as in one, the fixed part aside."""
    for hardware in HARDWARE.values():
        halves = hardware.chunk_s(0, 700) + hardware.chunk_s(700, 300)
        assert hardware.prefill_s(1000) == pytest.approx(hardware.a0_s + halves)


def test_faster_classes_are_faster() -> None:
    """H100 beats A100 beats L40S beats the CPU, reading and writing."""
    order = [HARDWARE[name] for name in ("h100", "a100", "l40s", "cpu")]
    assert [h.name for h in sorted(order, key=lambda h: h.prefill_s(1000))] == ["h100", "a100", "l40s", "cpu"]
    assert [h.name for h in sorted(order, key=lambda h: h.step_s(8, 8000))] == ["h100", "a100", "l40s", "cpu"]


def test_cpu_decodes_at_the_measured_rate() -> None:
    """One request on the CPU class gets 27 tokens a second."""
    assert 1 / HARDWARE["cpu"].step_s(1, 0) == pytest.approx(27, rel=0.02)


def test_only_the_cloud_is_far_away_and_silent() -> None:
    """Of all classes the cloud alone has a network in front and shows no metrics."""
    assert [h.name for h in HARDWARE.values() if h.network_s or not h.visible] == ["cloud"]
