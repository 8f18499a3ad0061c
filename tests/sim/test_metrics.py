"""The metrics page against one captured from vLLM 0.32.0."""

from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from gpubalancer.sim.engine import Engine, Reason, Request
from gpubalancer.sim.hardware import HARDWARE
from gpubalancer.sim.metrics import EngineMetrics

CAPTURED = Path(__file__).parent / "data" / "vllm-0.32.0.metrics.txt"
NOT_SIMULATED = {
    "estimated_flops_per_gpu",
    "estimated_read_bytes_per_gpu",
    "estimated_write_bytes_per_gpu",
    "num_requests_waiting_by_reason",
    "engine_sleep_state",
    "external_prefix_cache_queries",
    "external_prefix_cache_hits",
    "mm_cache_queries",
    "mm_cache_hits",
    "prompt_tokens_cached_by_source",
}
PARTLY = {"vllm:cache_config_info", "vllm:admission_rejections"}
"""Families that show a part of vLLM's labels or label values."""


def families(text: str) -> dict[str, Metric]:
    """The families of a page by name, without the creation times that the library adds."""
    parsed = {family.name: family for family in text_string_to_metric_families(text)}
    return {name: family for name, family in parsed.items() if not name.endswith("_created")}


def series(family: Metric) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Every sample's name and labels, the model's name aside."""
    return {
        (sample.name, tuple(sorted((k, v) for k, v in sample.labels.items() if k != "model_name")))
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def page(metrics: EngineMetrics) -> dict[str, Metric]:
    """The families of a page."""
    return families(metrics.page().decode())


def value(metrics: EngineMetrics, sample: str, **labels: str) -> float:
    """One sample's value."""
    for family in page(metrics).values():
        for each in family.samples:
            if each.name == f"vllm:{sample}" and labels.items() <= each.labels.items():
                return float(each.value)
    raise AssertionError(sample)


def made(engine: Engine, wall_s: float = 1.0) -> EngineMetrics:
    """Metrics of an engine."""
    return EngineMetrics(engine, "m", 1000, wall_s)


def test_names_types_labels_and_buckets_are_vllm_s() -> None:
    """Every family of the page is in the capture with the same type, labels, label values and buckets."""
    real, ours = families(CAPTURED.read_text()), page(made(Engine(HARDWARE["h100"])))
    assert set(ours) == set(real) - {f"vllm:{name}" for name in NOT_SIMULATED}
    for name, family in ours.items():
        assert family.type == real[name].type, name
        if name not in PARTLY:
            assert series(family) == series(real[name]), name
            assert {k for s in family.samples for k in s.labels} == {k for s in real[name].samples for k in s.labels}


def test_the_parts_shown_are_vllm_s() -> None:
    """The cache's description has only labels that vLLM's has, and a full queue is counted under vLLM's reason."""
    real, ours = families(CAPTURED.read_text()), page(made(Engine(HARDWARE["h100"])))
    name = "vllm:cache_config_info"
    assert set(ours[name].samples[0].labels) < set(real[name].samples[0].labels)
    assert series(ours["vllm:admission_rejections"]) < series(real["vllm:admission_rejections"])


def test_a_request_s_life_in_numbers() -> None:
    """Counters and times follow one request from its arrival to its end, in wall-clock seconds."""
    engine = Engine(HARDWARE["h100"])
    metrics = made(engine, wall_s=0.5)
    for arrived_s in (0.0, 100.0):
        engine.submit(Request(range(40), lambda i: i, 3, Reason.STOP), arrived_s)
        now_s = arrived_s + 1
        while (step := engine.begin_step(now_s)) is not None:
            assert value(metrics, "num_requests_running") == 1
            metrics.stepped(engine.end_step())
            now_s = step.ends_s
    assert value(metrics, "prompt_tokens_total") == 80
    assert value(metrics, "prefix_cache_queries_total") == 80
    assert value(metrics, "prefix_cache_hits_total") == 32
    assert value(metrics, "prompt_tokens_by_source_total", source="local_cache_hit") == 32
    assert value(metrics, "prompt_tokens_by_source_total", source="local_compute") == 48
    assert value(metrics, "generation_tokens_total") == 6
    assert value(metrics, "request_success_total", finished_reason="stop") == 2
    assert value(metrics, "inter_token_latency_seconds_count") == 4
    assert value(metrics, "iteration_tokens_total_sum") == 40 + 8 + 2 * 2
    assert value(metrics, "request_queue_time_seconds_sum") == pytest.approx(1.0)
    parts = ("request_queue_time", "request_prefill_time", "request_decode_time")
    total_s = sum(value(metrics, f"{part}_seconds_sum") for part in parts)
    assert value(metrics, "e2e_request_latency_seconds_sum") == pytest.approx(total_s)
    assert value(metrics, "num_requests_running") == value(metrics, "kv_cache_usage_perc") == 0


def test_cancelled_refused_and_preempted_are_counted() -> None:
    """An aborted request, a full queue, an embedding and a preemption each have their number."""
    engine = Engine(HARDWARE["h100"], kv_blocks=4)
    metrics = made(engine)
    asks = [Request(range(100 * n, 100 * n + 30), lambda i: i, 20) for n in (1, 2)]
    for ask in [*asks, Request(range(5), lambda i: i, 0, Reason.STOP)]:
        engine.submit(ask, 0.0)
    assert value(metrics, "num_requests_waiting") == 3
    while (step := engine.begin_step(0.0)) is not None:
        metrics.stepped(engine.end_step())
        if engine.load == 1 and engine.cancel(asks[1]):
            metrics.aborted(asks[1], step.ends_s)
    metrics.asked(1, 20)
    metrics.rejected()
    assert value(metrics, "num_preemptions_total") >= 1
    assert value(metrics, "request_success_total", finished_reason="stop") == 1
    assert value(metrics, "admission_rejections_total") == 1
    assert value(metrics, "request_params_max_tokens_sum") == 20
    assert value(metrics, "prompt_tokens_total") == 65


def test_a_request_cancelled_in_the_queue_has_a_whole_life() -> None:
    """A request that never started counts as aborted, and all its time as waiting."""
    engine = Engine(HARDWARE["h100"])
    metrics, ask = made(engine), Request(range(5), lambda i: i, 1)
    engine.submit(ask, 1.0)
    engine.cancel(ask)
    metrics.aborted(ask, 3.0)
    assert value(metrics, "request_success_total", finished_reason="abort") == 1
    assert value(metrics, "request_queue_time_seconds_sum") == 2
    assert value(metrics, "request_inference_time_seconds_sum") == 0
