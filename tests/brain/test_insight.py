"""What a policy makes of a request's text."""

from typing import Any

import pytest

from gpubalancer.brain.content import read_content
from gpubalancer.brain.insight import build_insight, note_findings, note_unread, texts_of
from gpubalancer.brain.sensitivity.scan import Scan
from gpubalancer.brain.tokens.tokenizer import TokenizerError
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Finding, Work
from gpubalancer.policy.schema import Policy

CARD = "4111 1111 1111 1111"


def policy(**sections: Any) -> Policy:
    """One backend, a tenant that may go up to confidential, and what the test adds."""
    tenants = [{"name": "acme", "max_tier": "confidential"}]
    return Policy.model_validate({"backends": [{"url": "http://127.0.0.1:9"}], "tenants": tenants, **sections})


def work() -> Work:
    """A request of the lowest tier."""
    return Work(api="chat", model="m", tier=0, streamed=False, deadline_s=float("inf"), tenant="acme")


def noted(made: Work, scan: Scan, settings: Policy) -> Work:
    """The work after its findings."""
    note_findings(made, scan, build_insight(settings, 1, None), settings.tenants[0], settings.tier_ranks)
    return made


def test_the_highest_finding_decides_the_tier_and_is_its_source() -> None:
    """Lower findings stay on record."""
    scan = Scan((Finding("email", 3, 0, 1), Finding("payment_card", 1, 2, 2)))
    made = noted(work(), scan, policy())
    assert (made.tier, made.tier_source, made.findings) == (2, "detector:payment_card", scan.findings)


def test_a_finding_below_the_tier_changes_nothing() -> None:
    """The tier is the highest of all, and keeps its source."""
    made = work()
    made.tier = 2
    noted(made, Scan((Finding("email", 1, 0, 1),)), policy())
    assert (made.tier, made.tier_source) == (2, "tenant")


def test_a_finding_above_what_the_tenant_may_send_is_refused() -> None:
    """The request goes nowhere."""
    with pytest.raises(RequestError) as caught:
        noted(work(), Scan((Finding("secrets", 1, 0, 3),)), policy())
    assert (caught.value.code, caught.value.status) == ("tier_not_served", 403)


@pytest.mark.parametrize(("action", "refused"), [("label", False), ("refuse", True)])
def test_an_injection_is_a_label_or_a_refusal(action: str, refused: bool) -> None:
    """The policy says which."""
    settings = policy(sensitivity={"injection": {"action": action}})
    made = work()
    if refused:
        with pytest.raises(RequestError, match="inject"):
            noted(made, Scan(risk="injection"), settings)
    else:
        noted(made, Scan(risk="injection"), settings)
    assert made.risk == "injection"


@pytest.mark.parametrize(("unread", "tier", "source"), [("max_tier", 2, "unread"), ("tier", 0, "tenant")])
def test_what_is_not_read_takes_the_tier_that_the_policy_says(unread: str, tier: int, source: str) -> None:
    """An upload may hold anything, so by default it is as sensitive as the tenant may be."""
    settings, made = policy(sensitivity={"unread": unread}), work()
    note_unread(made, build_insight(settings, 1, None), settings.tenants[0], settings.tier_ranks)
    assert (made.tier, made.tier_source) == (tier, source)


def test_everything_that_a_body_says_is_looked_at() -> None:
    """Messages, tools and fields that nobody knows."""
    said = read_content(
        "chat",
        {
            "messages": [{"role": "user", "content": "one"}],
            "tools": [{"type": "function", "function": {"name": "two"}}],
            "surprise": "three",
        },
    )
    texts = "\n".join(text for message in texts_of(said) for text in message)
    assert all(word in texts for word in ("one", "two", "three"))


def test_a_policys_detectors_find_in_a_body() -> None:
    """Scanner, texts and tiers belong together."""
    settings = policy(sensitivity={"detectors": {"payment_card": "confidential"}})
    insight = build_insight(settings, 1, None)
    said = read_content("chat", {"messages": [{"role": "user", "content": f"my card is {CARD}"}]})
    for scanner in (insight.scanner, insight.scanner_apart):
        scan = scanner.scan(texts_of(said))
        assert [(finding.detector, finding.tier) for finding in scan.findings] == [("payment_card", 2)]


def test_a_tokenizer_that_cannot_be_had_is_an_error_of_the_policy() -> None:
    """Nothing is fetched, and nothing is guessed."""
    with pytest.raises(TokenizerError, match="nonsense"):
        build_insight(policy(models={"m": {"tokenizer": "nonsense"}}), 1, None)


def test_expressions_are_compiled_anew_only_where_they_change() -> None:
    """A reload keeps the scanners of a policy that looks for the same, and makes others for one that does not."""
    first = build_insight(policy(), 1, None)
    again = build_insight(policy(models={"m": {"context_tokens": 4096}}), 1, first)
    assert (again.scanner, again.scanner_apart) == (first.scanner, first.scanner_apart)
    other = build_insight(policy(sensitivity={"detectors": {"email": "internal"}}), 1, again)
    assert other.scanner is not first.scanner
