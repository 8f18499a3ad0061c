"""What a request becomes when its budget is spent."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from gpubalancer.brain.columns import build_economy
from gpubalancer.brain.downgrade import downgrade
from gpubalancer.brain.fleet import build_fleet
from gpubalancer.brain.rules import compile_rules
from gpubalancer.domain.work import Work
from gpubalancer.policy.schema import Policy

CLOUD = {"usd_per_million_tokens": {"prompt": 0.1, "completion": 1}}


def became(
    work: Work,
    models: dict[str, Any],
    backends: list[dict[str, Any]],
    tenant: dict[str, Any] | None = None,
    rules: Sequence[dict[str, Any]] = (),
) -> str:
    """What a request becomes under a policy whose rules it has met."""
    named = [
        {"name": f"b{number}", "url": f"http://127.0.0.1:{number + 1}", **backend}
        for number, backend in enumerate(backends)
    ]
    policy = Policy.model_validate(
        {
            "models": models,
            "backends": named,
            "tenants": [{"name": "t", **(tenant or {})}],
            "anonymous": "t",
            "routing": {"rules": rules},
        }
    )
    apply_rules = partial(compile_rules(policy).apply, fields={}, wall_s=0.0)
    apply_rules(work)
    fleet = build_fleet(policy, {backend["name"]: 0 for backend in named}, {})
    return downgrade(work, policy, fleet, build_economy(policy, fleet), policy.tenants[0], apply_rules)


def chat(**more: Any) -> Work:
    """A counted chat with the large model."""
    return Work("chat", "large", more.pop("tier", 0), False, 1.0, tenant="t", prompt_tokens=100, counted=True, **more)


BOTH = [{"models": ["large"]}, {"models": ["small"]}]
SMALLER: dict[str, dict[str, Any]] = {
    "large": {"downgrade_to": "small", "tokenizer": "llama3"},
    "small": {"context_tokens": 4096},
}


def test_the_cheaper_model_answers() -> None:
    """Its tokens are no longer counted by its own tokenizer."""
    work = chat()
    assert became(work, SMALLER, BOTH) == "model=small"
    assert (work.model, work.counted, work.kinds) == ("small", False, None)


def test_a_model_with_the_same_tokenizer_keeps_the_count() -> None:
    """It is as exact as before."""
    work = chat()
    same = {name: settings | {"tokenizer": "llama3"} for name, settings in SMALLER.items()}
    assert became(work, same, BOTH) == "model=small"
    assert work.counted


@pytest.mark.parametrize(
    ("work", "tenant"),
    [
        (chat(), {"models": ["large"]}),
        (chat(tier=3), {}),
        (chat(sent_name="large"), {}),
        (chat(batch=1, output_tokens=5), {"labels": {"zone": "a"}}),
    ],
)
def test_what_holds_for_a_request_holds_for_the_cheaper_one(work: Work, tenant: dict[str, Any]) -> None:
    """A model that its tenant may not use, a tier, labels, a name that can't change: then nothing does."""
    if tenant.get("labels"):
        work.labels = frozenset({("zone", "a")})
    large = {"models": ["large"], "clearance": "restricted", "labels": {"zone": "a"}}
    assert became(work, SMALLER, [large, {"models": ["small"], "clearance": "public"}], tenant) == ""
    assert (work.model, work.kinds) == ("large", None)


def test_a_prompt_that_the_cheaper_model_can_not_hold_stays() -> None:
    """It would only be refused there."""
    work = chat()
    work.prompt_tokens = 5000
    assert became(work, SMALLER, BOTH) == ""


SMALL = {"name": "small ones", "when": {"model": "small"}}
HOME = {"kind": "gpu", "models": ["small"], "clearance": "internal"}
ABROAD = {"kind": "cloud", "models": ["large", "small"], "clearance": "public"}


@pytest.mark.parametrize(
    "does", [{"deny_kinds": ["cloud"]}, {"require": {"kind": "gpu"}}, {"set": {"tier": "internal"}}]
)
def test_the_rules_for_the_cheaper_model_hold(does: dict[str, Any]) -> None:
    """As if it had been asked for: it is not served where it may not be, and not at all if there is nobody else."""
    work, rule = chat(), {**SMALL, **does}
    assert became(work, SMALLER, [ABROAD, HOME], {"tier": "public"}, [rule]) == "model=small"
    assert work.rules == ("small ones",)
    assert (work.denied_kinds, len(work.required), work.tier_source) == (
        frozenset(does.get("deny_kinds", ())),
        int("require" in does),
        "rule:small ones" if "set" in does else "tenant",
    )
    alone = chat()
    elsewhere = {**HOME, "models": ["other"]}
    assert became(alone, SMALLER, [ABROAD, elsewhere], {"tier": "public"}, [rule]) == ""
    assert alone == chat()


def test_the_rules_for_the_model_that_was_asked_for_still_hold() -> None:
    """Those that match both are not counted twice."""
    work = chat()
    rules = [
        {
            "name": "large ones",
            "when": {"model": "large"},
            "deny_kinds": ["cloud"],
            "prefer": {"kind": "gpu", "seconds": 1},
        },
        {"name": "all", "when": {"api": "chat"}, "require": {"kind": "gpu"}, "prefer": {"kind": "gpu", "seconds": 2}},
    ]
    assert became(work, SMALLER, [ABROAD, HOME], {}, rules) == "model=small"
    assert (work.denied_kinds, work.rules) == (frozenset(("cloud",)), ("large ones", "all"))
    assert [each.kinds for each in work.required] == [{"gpu"}]
    assert [each.worth_s for each in work.preferred] == [2]


@pytest.mark.parametrize("does", [{"set": {"tier": "restricted"}}, {"set": {"model": "large"}}])
def test_a_model_that_the_rules_do_not_let_answer_does_not(does: dict[str, Any]) -> None:
    """A tier above the tenant's highest, or another model: it stays as it was."""
    work = chat()
    assert became(work, SMALLER, BOTH, {"tier": "public", "max_tier": "internal"}, [{**SMALL, **does}]) == ""
    assert work == chat()


KINDS: list[dict[str, Any]] = [
    {"models": ["large"], "kind": "gpu", "hardware": "h100", "price": {"usd_per_hour": 3}},
    {"models": ["large"], "kind": "cloud", "price": CLOUD},
]


def test_without_a_cheaper_model_the_cheapest_kind_answers() -> None:
    """By what this request would cost there, alone."""
    work = chat(output_tokens_high=200)
    assert became(work, {}, KINDS) == "kind=cloud"
    assert work.kinds == frozenset(("cloud",))
    dear = [KINDS[0], {**KINDS[1], "price": {"usd_per_million_tokens": {"prompt": 1000, "completion": 1000}}}]
    assert became(chat(output_tokens_high=200), {}, dear) == "kind=gpu"


def test_where_nothing_has_a_price_machines_of_ones_own_come_first() -> None:
    """CPU, GPU, cloud."""
    kinds = [{"models": ["large"], "kind": kind} for kind in ("cloud", "gpu", "cpu")]
    assert became(chat(), {}, kinds) == "kind=cpu"
    assert became(chat(kinds=frozenset(("cloud", "gpu"))), {}, kinds) == "kind=gpu"


def test_where_there_is_one_kind_nothing_is_cheaper() -> None:
    """Nor where no kind is known."""
    assert became(chat(), {}, [KINDS[0], KINDS[0]]) == ""
    assert became(chat(), {}, [{"models": ["large"]}, {"models": ["large"]}]) == ""
