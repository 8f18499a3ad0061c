"""Samples: sums over labels."""

from dataclasses import MISSING, fields, replace

from gpubalancer.board.layout import Hardware
from gpubalancer.domain.tally import Tally
from gpubalancer.telemetry.gpus import Gpu, Snapshot
from gpubalancer.telemetry.hardware import State
from gpubalancer.telemetry.samples import (
    Sources,
    backend_costs,
    by_genai,
    by_genai_and_error,
    by_model_and_backend,
    each,
    hardware_states,
    merged,
    of_gpus,
    one,
    powers,
    requests,
    speeds,
    throttles,
    tokens,
    usage,
    usage_disputed,
)

from .test_metrics import SERVED, sources


def counted(*tenants: str) -> Sources:
    """Sources after one request of each tenant."""
    tally = Tally()
    for tenant in tenants:
        tally.add(replace(SERVED, tenant=tenant))
    return sources(tally)


def test_requests_and_tokens_are_summed_over_apis() -> None:
    """Cells that differ in what a metric does not show become one sample."""
    made = counted("t")
    made.tally.add(replace(SERVED, tenant="t", api="completions", cached_tokens=0))
    assert dict(requests(made)) == {("t", "m", "b", "200"): 2}
    assert dict(tokens(made)) == {
        ("t", "m", "b", "prompt"): 200,
        ("t", "m", "b", "cached"): 60,
        ("t", "m", "b", "completion"): 10,
    }


def test_usage_has_every_source_even_when_nothing_came() -> None:
    """All values of the label are there from the start."""
    assert dict(usage(counted())) == {("reported",): 0, ("counted",): 0, ("estimated",): 0}


def test_disputed_usage_is_told_by_backend() -> None:
    """Reports that could not be true are summed over tenants; a backend without any has no sample."""
    made = counted("a", "b")
    assert dict(usage_disputed(made)) == {}
    for tenant in ("a", "b"):
        made.tally.add(replace(SERVED, tenant=tenant, usage_source="counted", usage_doubts=("huge",)))
    assert dict(usage_disputed(made)) == {("b",): 2}
    assert dict(usage(made)) == {("reported",): 2, ("counted",): 2, ("estimated",): 0}


def test_histograms_merge_without_touching_the_tally() -> None:
    """A merged histogram is a copy: asking twice gives the same, and empty ones are left out."""
    made = counted("a", "b")
    read = merged("request_s", by=by_model_and_backend)
    for _ in range(2):
        ((labels, histogram),) = read(made)
        assert (labels, sum(histogram.counts), histogram.sum) == (("m", "b"), 2, 6.0)
    assert list(merged("ttft_s", by=by_model_and_backend)(counted())) == []


def test_two_fields_get_the_token_type_as_last_label() -> None:
    """Prompt tokens are `input`, completion tokens `output`."""
    found = {
        labels: histogram.sum
        for labels, histogram in merged("prompt_tokens", "completion_tokens", by=by_genai)(counted("a"))
    }
    assert found == {("chat", "openai", "m", "input"): 100.0, ("chat", "openai", "m", "output"): 5.0}


def test_genai_labels_use_the_conventions_words() -> None:
    """Operations are renamed, the provider is the format that is spoken, success has no error type."""
    assert by_genai(("completions", "m", "b", 200)) == ("text_completion", "openai", "m")
    assert by_genai(("messages", "m", "b", 200)) == ("chat", "anthropic", "m")
    assert by_genai(("embeddings", "m", "b", 200)) == ("embeddings", "openai", "m")
    assert by_genai_and_error(("chat", "m", "b", 200))[-1] == ""
    assert by_genai_and_error(("chat", "m", "b", 502))[-1] == "502"


def test_states_become_samples() -> None:
    """A mapping gives one sample for each key, a number one without labels."""
    made = counted()
    assert dict(each(lambda at: at.in_flight())(made)) == {("b",): 3}
    assert dict(one(lambda at: at.workers())(made)) == {(): 2}


def test_costs_go_by_backend_and_term() -> None:
    """One sample for each term of each backend."""
    made = replace(counted(), backend_cost_s=lambda: {"b": {"net": 0.5, "harm": 0.0}})
    assert dict(backend_costs(made)) == {("b", "net"): 0.5, ("b", "harm"): 0.0}


def test_the_hardwares_state_is_one_of_all() -> None:
    """Every state has a sample, so that a change is one in two series; power is left out where it is not known."""
    told = {"a": State(Hardware.THROTTLED, 0.5, 300.0), "b": State(Hardware.UNKNOWN)}
    made = replace(counted(), hardware=lambda: told)
    states = dict(hardware_states(made))
    assert len(states) == 2 * len(Hardware)
    assert {labels for labels, value in states.items() if value} == {("a", "throttled"), ("b", "unknown")}
    assert dict(speeds(made)) == {("a",): 0.5, ("b",): 1.0}
    assert dict(powers(made)) == {("a",): 300.0}


REASONS = ("hw_thermal", "gpu_idle", "hw_thermal")


def test_each_gpu_has_a_sample_for_what_it_tells() -> None:
    """By backend and UUID; what a card does not say has none, what is told twice is one, and to idle is no throttle."""
    one_gpu, another = Gpu(0, "GPU-0", power_watts=10.0), Gpu(1, "GPU-1", throttle_reasons=REASONS)
    snapshot = Snapshot(1.0, "h", gpus=(one_gpu, another, one_gpu))
    made = replace(counted(), gpus=lambda: {"a": snapshot, "b": Snapshot(1.0, "h")})
    assert list(of_gpus(lambda gpu: gpu.power_watts)(made)) == [(("a", "GPU-0"), 10.0)]
    assert list(throttles(made)) == [(("a", "GPU-1", "hw_thermal"), 1)]


def test_nothing_is_told_of_hardware_unless_somebody_does() -> None:
    """The sources' defaults are empty."""
    made = replace(counted(), **{each.name: each.default for each in fields(Sources) if each.default is not MISSING})
    for read in (backend_costs, hardware_states, speeds, powers, throttles, of_gpus(lambda gpu: 1.0)):
        assert list(read(made)) == []
