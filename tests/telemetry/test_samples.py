"""Samples: sums over labels."""

from dataclasses import replace

from gpubalancer.domain.tally import Tally
from gpubalancer.telemetry.samples import (
    Sources,
    by_genai,
    by_genai_and_error,
    by_model_and_backend,
    each,
    merged,
    one,
    requests,
    tokens,
    usage,
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


def test_usage_has_both_sources_even_when_nothing_came() -> None:
    """Both values of the label are there from the start."""
    assert dict(usage(counted())) == {("reported",): 0, ("estimated",): 0}


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
