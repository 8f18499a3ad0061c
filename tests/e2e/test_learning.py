"""What was learned of tokens outlives the processes that learned it."""

from pathlib import Path
from typing import Any

from tests.e2e.clients import ask, chat
from tests.e2e.processes import Balancer, engine, policy, running

TEXT = "0123456789-+*/" * 60
"""Digits and signs: the simulated engine counts them in another way than the prior does."""


def expected(balancer: Balancer) -> tuple[int, int]:
    """The prompt and output tokens that were expected of one more request."""
    body = chat(messages=[{"role": "user", "content": TEXT}])
    answer = ask(balancer.port, "/v1/chat/completions", body)
    assert answer.status == 200
    line: dict[str, Any] = balancer.logged(request_id=answer.fields["x-request-id"])
    return line["expected_prompt_tokens"], line["expected_output_tokens"]


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    """After 40 answers the expectation has moved; a new supervisor and worker begin where the old ones ended."""
    with engine("m") as url:
        settings = policy(tmp_path, [{"name": "a", "url": url, "kind": "gpu", "models": ["m"]}])
        with running(tmp_path, settings) as balancer:
            first = expected(balancer)
            for _ in range(39):
                last = expected(balancer)
        with running(tmp_path, settings) as balancer:
            again = expected(balancer)
    moved = abs(last[0] - first[0])
    assert moved > 20
    assert abs(again[0] - last[0]) < moved / 4
    assert abs(again[1] - last[1]) <= 0.2 * last[1]
