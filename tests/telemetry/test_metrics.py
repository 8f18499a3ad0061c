"""The exposition: what a scrape shows of what was counted."""

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpubalancer.board.layout import Hardware
from gpubalancer.domain.outcome import Outcome
from gpubalancer.domain.tally import BOUNDS, Tally
from gpubalancer.telemetry.gpus import Gpu, Snapshot
from gpubalancer.telemetry.hardware import State
from gpubalancer.telemetry.metrics import METRICS, Counter, Exposition, page
from gpubalancer.telemetry.samples import Sources

SERVED = Outcome(
    request_id="r",
    started_s=10.0,
    tenant="acme",
    api="chat",
    model="m",
    backend="b",
    status=200,
    sent_s=10.25,
    first_token_s=10.5,
    last_token_s=12.5,
    ended_s=13.0,
    streamed=True,
    prompt_tokens=100,
    cached_tokens=60,
    completion_tokens=5,
    usage_source="reported",
)


GPU = Gpu(
    0,
    "GPU-0",
    utilization_fraction=0.75,
    memory_used_bytes=1 << 30,
    power_watts=300.0,
    temperature_celsius=91.0,
    energy_joules=5e6,
    throttle_reasons=("hw_thermal",),
)


def sources(tally: Tally) -> Sources:
    """A balancer with two workers and one backend that is up."""
    return Sources(
        tally=tally,
        in_flight=lambda: {"b": 3},
        backend_up=lambda: {"b": True, "dead": False},
        workers=lambda: 2,
        worker_restarts=lambda: 1,
        connections=lambda: 17,
        config_hash=lambda: "abc123",
        config_reloads=lambda: {"applied": 4, "failed": 1},
        log_lines_dropped=lambda: 5,
        telemetry_age_s=lambda: {"b": 1.5},
        backend_cost_s=lambda: {"b": {"prefill": 0.25, "decode": 2.5}},
        hardware=lambda: {"b": State(Hardware.THROTTLED, 0.5, 300.0)},
        gpus=lambda: {"b": Snapshot(1.0, "host", gpus=(GPU,))},
    )


def scrape(*outcomes: Outcome) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples of a scrape after these outcomes, by name and labels."""
    tally = Tally()
    for outcome in outcomes:
        tally.add(outcome)
    text = Exposition(sources(tally)).render().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labels(**pairs: str) -> tuple[tuple[str, str], ...]:
    """Labels as `scrape` has them."""
    return tuple(sorted(pairs.items()))


def test_requests_tokens_and_usage_are_counted_by_their_labels() -> None:
    """Counters have the labels of the table and sum what shares them."""
    found = scrape(SERVED, replace(SERVED, api="completions", usage_source="estimated"), replace(SERVED, tenant="t2"))
    at = {"tenant": "acme", "model": "m", "backend": "b"}
    assert found["gpubalancer_requests_total", labels(**at, code="200")] == 2
    assert found["gpubalancer_requests_total", labels(**at | {"tenant": "t2"}, code="200")] == 1
    assert found["gpubalancer_tokens_total", labels(**at, kind="prompt")] == 200
    assert found["gpubalancer_tokens_total", labels(**at, kind="cached")] == 120
    assert found["gpubalancer_tokens_total", labels(**at, kind="completion")] == 10
    assert found["gpubalancer_usage_source_total", labels(source="reported")] == 2
    assert found["gpubalancer_usage_source_total", labels(source="estimated")] == 1


def test_histograms_are_cumulative_and_end_with_all() -> None:
    """Buckets count what is at or below their bound; +Inf and the count are everything; the sum is in seconds."""
    found = scrape(SERVED, replace(SERVED, ended_s=500.0), replace(SERVED, api="messages", ended_s=10.01))
    at = {"model": "m", "backend": "b"}
    assert found["gpubalancer_request_seconds_bucket", labels(**at, le="0.01")] == 1
    assert found["gpubalancer_request_seconds_bucket", labels(**at, le="2.56")] == 1
    assert found["gpubalancer_request_seconds_bucket", labels(**at, le="5.12")] == 2
    assert found["gpubalancer_request_seconds_bucket", labels(**at, le="+Inf")] == 3
    assert found["gpubalancer_request_seconds_count", labels(**at)] == 3
    assert found["gpubalancer_request_seconds_sum", labels(**at)] == pytest.approx(493.01)
    assert found["gpubalancer_ttft_seconds_sum", labels(**at)] == 1.5
    assert found["gpubalancer_tpot_seconds_sum", labels(**at)] == 1.5
    assert found["gpubalancer_overhead_seconds_count", ()] == 3
    assert found["gpubalancer_overhead_seconds_bucket", labels(le="0.1")] == 0
    assert found["gpubalancer_overhead_seconds_bucket", labels(le="0.5")] == 3


def test_refusals_and_cut_answers_have_counters() -> None:
    """A refusal goes by tenant and reason; a client that left and a broken stream have totals."""
    found = scrape(
        replace(SERVED, status=429, reason="rate_limit_exceeded", backend="-"),
        replace(SERVED, reason="client_left"),
        replace(SERVED, reason="backend_failed"),
    )
    assert found["gpubalancer_refused_total", labels(tenant="acme", reason="rate_limit_exceeded")] == 1
    assert found["gpubalancer_upstream_cancelled_total", ()] == 1
    assert found["gpubalancer_streams_broken_total", ()] == 1
    at = {"tenant": "acme", "model": "m", "backend": "b"}
    assert found["gpubalancer_requests_total", labels(**at, code="499")] == 1
    assert found["gpubalancer_requests_total", labels(**at, code="502")] == 1


def test_states_are_asked_at_the_scrape() -> None:
    """Gauges and the counters that others keep come from the callables."""
    found = scrape()
    assert found["gpubalancer_in_flight", labels(backend="b")] == 3
    assert found["gpubalancer_backend_up", labels(backend="b")] == 1
    assert found["gpubalancer_backend_up", labels(backend="dead")] == 0
    assert found["gpubalancer_workers", ()] == 2
    assert found["gpubalancer_worker_restarts_total", ()] == 1
    assert found["gpubalancer_connections", ()] == 17
    assert found["gpubalancer_config_info", labels(hash="abc123")] == 1
    assert found["gpubalancer_config_reloads_total", labels(result="failed")] == 1
    assert found["gpubalancer_log_lines_dropped_total", ()] == 5
    assert found["process_resident_memory_bytes", ()] > 0


def test_genai_names_stand_beside_ours() -> None:
    """The same numbers under OpenTelemetry's names, with its operations, token types and error types."""
    found = scrape(SERVED, replace(SERVED, api="messages"), replace(SERVED, status=503, reason="no_backend"))
    at = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "openai", "gen_ai_request_model": "m"}
    name = "gen_ai_server_request_duration_seconds"
    assert found[f"{name}_count", labels(**at, error_type="")] == 1
    assert found[f"{name}_count", labels(**at, error_type="503")] == 1
    assert found[f"{name}_count", labels(**at | {"gen_ai_provider_name": "anthropic"}, error_type="")] == 1
    assert found["gen_ai_client_token_usage_sum", labels(**at, gen_ai_token_type="input")] == 200
    assert found["gen_ai_client_token_usage_sum", labels(**at, gen_ai_token_type="output")] == 10
    assert found["gen_ai_server_time_to_first_token_seconds_count", labels(**at)] == 2
    assert found["gen_ai_server_time_per_output_token_seconds_count", labels(**at)] == 2


def test_genai_buckets_are_those_of_the_conventions() -> None:
    """The bounds' ends and numbers are those that gen-ai-metrics.md recommends."""
    assert {name: (len(bounds), bounds[0], bounds[-1]) for name, bounds in BOUNDS.items()} == {
        "request_s": (14, 0.01, 81.92),
        "ttft_s": (16, 0.001, 10.0),
        "tpot_s": (13, 0.01, 2.5),
        "prompt_tokens": (14, 1, 67108864),
        "completion_tokens": (14, 1, 67108864),
    }


def test_a_name_that_a_client_made_up_cannot_break_the_page() -> None:
    """Quotes, newlines and backslashes in labels arrive as they were."""
    model = 'a"b\\c\nd'
    found = scrape(replace(SERVED, model=model))
    assert found["gpubalancer_requests_total", labels(tenant="acme", model=model, backend="b", code="200")] == 1


def test_every_row_is_named_once_and_by_the_rules() -> None:
    """Names are unique, counters alone end in `_total`, and every help is a sentence."""
    names = [row.name for row in METRICS]
    assert len(set(names)) == len(names)
    assert all(row.name.endswith("_total") == isinstance(row, Counter) for row in METRICS)
    assert all(row.help.endswith(".") for row in METRICS)


def test_a_scrape_shows_every_row() -> None:
    """No row of the table is missing from the page, also when nothing has happened."""
    tally = Tally()
    text = Exposition(sources(tally)).render().decode()
    assert all(f"# TYPE {row.name} " in text for row in METRICS)


def test_two_expositions_do_not_meet() -> None:
    """There is no registry that they share."""
    first, second = Tally(), Tally()
    first.add(SERVED)
    pages = [Exposition(sources(tally)).render().decode() for tally in (first, second)]
    assert "gpubalancer_requests_total{" in pages[0]
    assert "gpubalancer_requests_total{" not in pages[1]


def test_the_documentation_is_the_table() -> None:
    """`docs/metrics.md` is what `page` writes."""
    assert (Path(__file__).parents[2] / "docs" / "metrics.md").read_text() == page()


def test_what_telemetry_and_the_cost_say_is_shown_by_backend() -> None:
    """Age, terms of the cost, state, speed and power of the hardware."""
    found = scrape()
    assert found["gpubalancer_telemetry_age_seconds", labels(backend="b")] == 1.5
    assert found["gpubalancer_backend_cost_seconds", labels(backend="b", term="decode")] == 2.5
    assert found["gpubalancer_backend_hardware", labels(backend="b", state="throttled")] == 1
    assert found["gpubalancer_backend_hardware", labels(backend="b", state="well")] == 0
    assert found["gpubalancer_backend_speed_ratio", labels(backend="b")] == 0.5
    assert found["gpubalancer_backend_power_watts", labels(backend="b")] == 300


def test_each_gpu_is_shown_under_its_backend() -> None:
    """By UUID, with the names that agents use; what the card does not say is absent."""
    found, at = scrape(), labels(backend="b", gpu="GPU-0")
    assert found["gpubalancer_gpu_utilization_ratio", at] == 0.75
    assert found["gpubalancer_gpu_memory_used_bytes", at] == 1 << 30
    assert found["gpubalancer_gpu_power_watts", at] == 300
    assert found["gpubalancer_gpu_temperature_celsius", at] == 91
    assert found["gpubalancer_gpu_energy_joules_total", at] == 5e6
    assert found["gpubalancer_gpu_throttled", labels(backend="b", gpu="GPU-0", reason="hw_thermal")] == 1
    assert ("gpubalancer_gpu_memory_total_bytes", at) not in found


def test_disputed_usage_is_counted_by_backend() -> None:
    """An engine that reports what can't be true shows."""
    found = scrape(replace(SERVED, usage_source="counted", usage_doubts=("huge",)))
    assert found["gpubalancer_usage_disputed_total", labels(backend="b")] == 1
