"""The agent's Prometheus page."""

from prometheus_client.parser import text_string_to_metric_families

from gpubalancer.telemetry.gpu_page import METRICS, page
from gpubalancer.telemetry.gpus import Gpu, Snapshot
from gpubalancer.telemetry.sampler import Cost

CARD = Gpu(
    0,
    'GPU-"0"\\',
    utilization_fraction=0.97,
    memory_used_bytes=100,
    memory_total_bytes=200,
    power_watts=412.5,
    power_limit_watts=700.0,
    energy_joules=9000.0,
    temperature_celsius=61.0,
    sm_clock_mhz=990.0,
    expected_sm_clock_mhz=1980.0,
    memory_clock_mhz=2619.0,
    throttle_reasons=("sw_power_cap", "hw_thermal"),
    ecc_aggregate=2,
    retired_pages=1,
)


def parsed(*gpus: Gpu) -> dict[str, list[tuple[dict[str, str], float]]]:
    """The page read by Prometheus's own parser: labels and value of each sample, by name."""
    text = page(Snapshot(1.0, "host", gpus=gpus, age_s=0.25), Cost(3, 40, 100, 0.5)).decode()
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), float(sample.value)))
    return found


def test_every_metric_of_a_card_that_says_everything_has_a_sample() -> None:
    """All names are there with the card's UUID, odd signs in it escaped, and the values in units of their names."""
    found = parsed(CARD)
    assert {metric.name for metric in METRICS} <= set(found)
    (labels, watts) = found["gpubalancer_gpu_power_watts"][0]
    assert (labels, watts) == ({"gpu": CARD.uuid, "index": "0"}, 412.5)
    assert found["gpubalancer_gpu_utilization_ratio"][0][1] == 0.97
    assert found["gpubalancer_gpu_speed_ratio"][0][1] == 0.5
    assert found["gpubalancer_gpu_faulty"][0][1] == 0
    assert found["gpubalancer_gpu_energy_joules_total"][0][1] == 9000


def test_each_reason_is_a_sample() -> None:
    """Every reason that holds the clock stands there with 1, and none that does not."""
    found = parsed(CARD)["gpubalancer_gpu_throttled"]
    assert [(labels["reason"], value) for labels, value in found] == [("sw_power_cap", 1.0), ("hw_thermal", 1.0)]


def test_what_is_absent_has_no_sample() -> None:
    """A lost card is faulty and says nothing else; a MIG instance has its profile as a label."""
    found = parsed(Gpu(1, "GPU-1", lost=True), Gpu(0, "MIG-0", mig="3g.40gb", parent_uuid="GPU-1", power_watts=None))
    assert [value for _, value in found["gpubalancer_gpu_faulty"]] == [1.0, 0.0]
    assert found["gpubalancer_gpu_faulty"][1][0]["mig"] == "3g.40gb"
    assert "gpubalancer_gpu_power_watts" not in found


def test_the_cost_of_sampling_is_told() -> None:
    """Age, samples, glances, calls and seconds stand there even without any card."""
    found = {name: samples[0][1] for name, samples in parsed().items()}
    assert found == {
        "gpubalancer_telemetry_age_seconds": 0.25,
        "gpubalancer_agent_samples_total": 3,
        "gpubalancer_agent_glances_total": 40,
        "gpubalancer_agent_driver_calls_total": 100,
        "gpubalancer_agent_driver_seconds_total": 0.5,
    }
