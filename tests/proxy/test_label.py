"""What a slot tells of a request whose worker has died."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.board.budget_layout import LABEL_BYTES
from gpubalancer.board.budget_recovery import Left
from gpubalancer.domain.budget import NOTHING, Spending
from gpubalancer.domain.outcome import NOBODY, Outcome
from gpubalancer.domain.work import Finding, Priority, Work
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.label import describe, label_of, outcome_of, server_of

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1, max_size=20)
LEFT = Left(b"", b"", 5_000_000_000, Spending(10, 2, 30, 1, 4, 5), was_sent=True, was_settled=False)


@given(st.lists(NAMES, min_size=11, max_size=11))
def test_what_is_written_when_it_begins_is_read_when_its_worker_died(names: list[str]) -> None:
    """Ids, payer, model, tier and backend; a model's name may have a newline."""
    began = Outcome(names[0], 1.0, decision_id=names[1], tenant=names[2], key_id=names[3], api=names[4], tier=names[5])
    began.tier_source, began.model, began.model_asked = names[6], names[7], f"{names[8]}\n"
    began.backend, began.kind = names[9], names[10]
    found = outcome_of(replace(LEFT, label=label_of(began), server=server_of(began)), 7_000_000_000)
    for name in ("request_id", "decision_id", "tenant", "key_id", "api", "tier", "tier_source", "model", "model_asked"):
        assert getattr(found, name) == getattr(began, name)
    assert (found.backend, found.kind) == (began.backend, began.kind)


def test_a_record_tells_what_the_policy_has_made_of_a_request() -> None:
    """Names in the place of ranks; what the request does not name stays as it was."""
    outcome = Outcome("r", 1.0)
    work = Work("chat", None, 1, False, 1.0, priority=Priority.BATCH, prompt_tokens=3, rules=("a",))
    work.findings = (Finding("email", 2, 0, 1),)
    describe(outcome, work, Policy.model_validate({"backends": [{"name": "e", "url": "http://127.0.0.1:9"}]}))
    assert (outcome.model, outcome.tier, outcome.priority, outcome.risk) == (NOBODY, "internal", "batch", "")
    assert (outcome.rules, outcome.findings, outcome.expected_prompt_tokens) == (("a",), (("email", 2),), 3)


def test_its_end_is_what_was_settled() -> None:
    """It failed, through nobody's fault but ours, after what it had taken."""
    found = outcome_of(LEFT, 7_000_000_000)
    assert (found.reason, found.status, found.code, found.attempts) == ("worker_killed", 0, 502, 1)
    assert (found.prompt_tokens, found.cached_tokens, found.completion_tokens) == (10, 2, 30)
    assert (found.usage_source, found.usd, found.joules) == ("estimated", 4e-9, 0.005)
    assert found.ended_s - found.started_s == 2.0
    unsent = outcome_of(replace(LEFT, spending=NOTHING, was_sent=False), 7_000_000_000)
    assert (unsent.attempts, unsent.usage_source, unsent.backend) == (0, "", NOBODY)


def test_a_label_that_was_cut_off_loses_what_clients_chose() -> None:
    """Who pays stands in front."""
    began = Outcome("r", 1.0, decision_id="d", tenant="acme", model_asked="\u00e9" * 1000)
    found = outcome_of(replace(LEFT, label=label_of(began)[:LABEL_BYTES]), 7_000_000_000)
    assert (found.decision_id, found.tenant, found.request_id) == ("d", "acme", "r")
    assert outcome_of(replace(LEFT, label=b"d"), 1).tenant == NOBODY
