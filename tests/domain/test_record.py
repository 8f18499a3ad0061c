"""What is told of a request that has ended."""

import json

from gpubalancer.domain.outcome import Outcome
from gpubalancer.domain.record import record_of


def test_a_record_is_plain_json_and_tells_what_was_found_without_the_text() -> None:
    """Detectors and counts, the tier and its source, expectation and fact."""
    outcome = Outcome("r-1", 10.0, tenant="acme", model="m", backend="b", tier="confidential")
    outcome.tier_source, outcome.findings = "detector:iban", (("iban", 2),)
    outcome.sent_s, outcome.first_token_s, outcome.ended_s, outcome.status = 10.001, 10.25, 11.0, 200
    outcome.expected_prompt_tokens, outcome.prompt_tokens = 90, 100
    told = json.loads(json.dumps(record_of(outcome, 1234.5678)))
    assert (told["time"], told["request_id"], told["tier_source"]) == (1234.568, "r-1", "detector:iban")
    assert told["findings"] == {"iban": 2}
    assert (told["overhead_ms"], told["ttft_ms"], told["duration_ms"]) == (1.0, 250.0, 1000.0)
    assert (told["expected_prompt_tokens"], told["prompt_tokens"], told["code"]) == (90, 100, 200)
