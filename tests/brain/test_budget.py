"""Which budgets a request counts in, and what a refusal becomes."""

import pytest

from gpubalancer.brain.budget import BudgetPlan, expected, refused, token_nano_usd
from gpubalancer.domain.budget import Claims, Refusal, Spending, Standing
from gpubalancer.domain.work import Work
from gpubalancer.policy.backends import TokenPrice
from gpubalancer.policy.budgets import Budget
from tests.policy.reading import read

HASH = "sha256:" + "ab" * 32
POLICY = f"""
backends: [{{url: 'http://127.0.0.1:8000', models: [small, large], price: {{usd_per_hour: 1}}}}]
tenants:
  - {{name: org, budgets: [{{unit: usd, limit: 500, per: month, overrun: stop}}]}}
  - name: team
    parent: org
    keys:
      - {{hash: "{HASH}", budgets: [{{unit: requests, limit: 5, per: 1m}}]}}
      - "sha256:{"cd" * 32}"
    budgets: [{{unit: tokens, limit: 100, per: 1m}}, {{unit: tokens, limit: 9, per: 1m, models: [large]}}]
  - {{name: other, budgets: [{{unit: tokens, limit: 9, per: 1m, overrun: stop, shadow: true}}]}}
  - {{name: free}}
"""
KEY, PLAIN = bytes.fromhex("ab" * 32), bytes.fromhex("cd" * 32)


@pytest.fixture(name="plan")
def made_plan() -> BudgetPlan:
    """The budgets of the policy above."""
    return BudgetPlan(read(POLICY))


def shown(claims: Claims | None) -> list[str]:
    """Owner, unit and limit of each budget."""
    return [f"{terms.owner} {terms.unit} {terms.limit}" for terms in claims.terms] if claims else []


def test_a_request_counts_for_its_key_its_team_and_its_organisation(plan: BudgetPlan) -> None:
    """In this order, and in a model's own budget where it asks for that model."""
    assert shown(plan.claims("team", "large", KEY)) == [
        "team requests 5",
        "team tokens 100",
        "team tokens 9",
        "org usd 500000000000",
    ]
    assert shown(plan.claims("team", "small", PLAIN)) == ["team tokens 100", "org usd 500000000000"]
    assert shown(plan.claims("team", None)) == ["team tokens 100", "org usd 500000000000"]
    assert shown(plan.claims("org", "small")) == ["org usd 500000000000"]


def test_who_has_no_budgets_claims_none(plan: BudgetPlan) -> None:
    """Neither has somebody unknown."""
    assert plan.claims("free", "small") is None
    assert plan.claims("nobody", "small") is None


def test_equal_questions_have_the_very_same_answer(plan: BudgetPlan) -> None:
    """A worker remembers where the rows of claims are by their identity."""
    assert plan.claims("team", "small", KEY) is plan.claims("team", "small", KEY)
    assert plan.claims("team", "small", PLAIN) is plan.claims("team", "small", None)
    one, other = plan.claims("team", "small"), plan.claims("org", "large")
    assert one is not None
    assert other is not None
    assert one.terms[1] is other.terms[0]


def test_a_claim_stops_if_a_budget_that_refuses_does(plan: BudgetPlan) -> None:
    """A shadow stops nothing."""
    stopping, shadow = plan.claims("org", "small"), plan.claims("other", "small")
    assert stopping is not None
    assert shadow is not None
    assert (stopping.stops, shadow.stops) == (True, False)


def test_terms_are_found_by_their_id(plan: BudgetPlan) -> None:
    """For what a dead worker left."""
    every = list(plan.every())
    assert len({terms.id for terms in every}) == 5
    assert all(plan.terms_of(terms.id) is terms for terms in every)
    assert plan.terms_of(bytes(16)) is None


def test_what_is_expected_is_the_most_that_is_likely() -> None:
    """The prompt, and the high estimate of the answer."""
    work = Work("chat", "m", 0, False, 1.0, prompt_tokens=10, output_tokens=20, output_tokens_high=50)
    assert expected(work, 7e-9, 0.008) == Spending(10, 0, 50, 1, 7, 8)


@pytest.mark.parametrize(
    ("price", "tokens", "nano_usd"),
    [
        ({"prompt": 1.0, "completion": 4.0}, (1000, 0, 10), 1_040_000),
        ({"prompt": 1.0, "cached": 0.1}, (1000, 400, 0), 640_000),
        ({"prompt": 1.0}, (1000, 400, 0), 1_000_000),
        ({"prompt": 1.0, "cached": 0.0}, (10, 400, 0), 0),
        ({"prompt": 0.0001}, (1, 0, 0), 1),
    ],
)
def test_prices_of_tokens(price: dict[str, float], tokens: tuple[int, int, int], nano_usd: int) -> None:
    """In nano-dollars, rounded up; cached tokens have their own price."""
    assert token_nano_usd(TokenPrice.model_validate(price), *tokens) == nano_usd


@pytest.mark.parametrize(
    ("retry_after_s", "code"),
    [
        (0.3, "rate_limit_exceeded"),
        (60.0, "rate_limit_exceeded"),
        (61.0, "insufficient_quota"),
        (None, "insufficient_quota"),
    ],
)
def test_refusals(retry_after_s: float | None, code: str) -> None:
    """What heals within a minute is a rate limit, all else a spent quota."""
    settings = {"unit": "tokens", "limit": 100, "per": "1m"}
    terms = Budget.model_validate(settings).terms("t", "", "UTC")
    error = refused(Refusal(Standing(terms, 100, -20, 5.0), retry_after_s))
    assert (error.code, error.retry_after_s, error.status) == (code, retry_after_s, 429)
    assert "0 of 100 tokens per 1m are left" in error.message
