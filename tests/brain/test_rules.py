"""Rules applied to work: what each does, and that a slow interpreter of the file does the same."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.rules import compile_rules
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Preference, Priority, Selection, Work
from tests.brain.rule_book import FIELDS, ORDERED_RULES, POLICY, RULES, WALLS_S, WORKS, interpreted, ruled

MONDAY_NOON_S = 4 * 86_400 + 12 * 3600.0

WORK = Work("chat", "m", 0, False, float("inf"), tenant="u", prompt_tokens=100, output_tokens=50)


def applied(
    work: Work, *rules: Mapping[str, Any], fields: Mapping[bytes, bytes] | None = None, wall_s: float = MONDAY_NOON_S
) -> Work:
    """A copy of the work as the rules leave it."""
    left = replace(work)
    compile_rules(ruled(*rules)).apply(left, fields or {}, wall_s)
    return left


DENY = {"deny_kinds": ["cloud"]}


@pytest.mark.parametrize(
    ("when", "work", "matches"),
    [
        ({}, {}, True),
        ({"api": "chat"}, {}, True),
        ({"api": ["rerank", "embeddings"]}, {}, False),
        ({"tenant": ["t", "u"]}, {}, True),
        ({"tenant": "t"}, {}, False),
        ({"model": "m"}, {}, True),
        ({"model": "n"}, {}, False),
        ({"model": "m"}, {"model": None}, False),
        ({"tier": ["public", "secret"]}, {"tier": 2}, True),
        ({"tier": "internal"}, {"tier": 2}, False),
        ({"priority": "standard"}, {}, True),
        ({"priority": "batch"}, {}, False),
        ({"risk": "injection"}, {"risk": "injection"}, True),
        ({"risk": "injection"}, {}, False),
        ({"prompt_tokens": "<= 100"}, {}, True),
        ({"prompt_tokens": ["> 10", "< 100"]}, {}, False),
        ({"output_tokens": "= 50"}, {"output_tokens_high": 900}, True),
        ({"stream": True}, {"streamed": True}, True),
        ({"stream": True}, {}, False),
        ({"stream": False}, {}, True),
        ({"time": "mon 11:00-13:00"}, {}, True),
        ({"time": ["tue 11:00-13:00", "22:00-06:00"]}, {}, False),
        ({"api": "chat", "model": "m", "stream": True}, {}, False),
    ],
)
def test_conditions(when: dict[str, object], work: dict[str, Any], matches: bool) -> None:
    """All that is given must hold, of a list one, of comparisons all."""
    left = applied(replace(WORK, **work), {"when": when, **DENY})
    assert left.rules == (("0",) if matches else ())
    assert left.denied_kinds == ({"cloud"} if matches else frozenset())


@pytest.mark.parametrize(
    ("header", "fields", "matches"),
    [
        ({"x-team": "red"}, {b"x-team": b"red"}, True),
        ({"X-Team": "red"}, {b"x-team": b"red"}, True),
        ({"x-team": "red"}, {b"x-team": b"Red"}, False),
        ({"x-team": "red"}, {b"x-team": b"redder"}, False),
        ({"x-team": "red"}, {}, False),
        ({"x-team": ["red", "blue"]}, {b"x-team": b"blue"}, True),
        ({"x-team": "*"}, {b"x-team": b""}, True),
        ({"x-team": "*"}, {}, False),
        ({"x-team": "r*d"}, {b"x-team": b"rd"}, True),
        ({"x-team": "r*r"}, {b"x-team": b"r"}, False),
        ({"x-team": "*ed*b*"}, {b"x-team": b"red and blue"}, True),
        ({"x-team": "*b*ed*"}, {b"x-team": b"red and blue"}, False),
        ({"x-team": "*ab*b"}, {b"x-team": b"ab"}, False),
        ({"x-team": "*ab*b"}, {b"x-team": b"aabb"}, True),
        ({"x-team": "r?d"}, {b"x-team": b"red"}, False),
        ({"x-team": "[r]ed"}, {b"x-team": b"[r]ed"}, True),
        ({"x-team": "grün"}, {b"x-team": "grün".encode()}, True),
        ({"x-team": "red", "x-job": "*"}, {b"x-team": b"red"}, False),
        ({"x-team": "red", "x-job": "*"}, {b"x-team": b"red", b"x-job": b"1"}, True),
    ],
)
def test_headers(header: dict[str, object], fields: dict[bytes, bytes], matches: bool) -> None:
    """Names are equal in any case, values exactly, and only * stands for something else."""
    left = applied(WORK, {"when": {"header": header}, **DENY}, fields=fields)
    assert bool(left.rules) is matches


@given(st.text("ab*", min_size=1, max_size=8), st.text("ab", max_size=10))
def test_stars(pattern: str, value: str) -> None:
    """A header's pattern matches what a file's pattern of the same stars does."""
    left = applied(WORK, {"when": {"header": {"x": pattern}}, **DENY}, fields={b"x": value.encode()})
    assert bool(left.rules) is fnmatchcase(value, pattern)


def test_all_that_a_rule_can_do() -> None:
    """Each part of a rule has its place in the work."""
    left = applied(
        WORK,
        {
            "set": {"priority": "batch", "tier": "secret", "model": "n"},
            "require": {"kind": ["gpu", "cpu"], "labels": {"x": "y"}},
            "prefer": {"name": "a", "engine": "vllm", "hardware": "h100", "seconds": 2.5},
            "deny_kinds": ["cloud"],
        },
    )
    wanted = replace(
        WORK,
        priority=Priority.BATCH,
        tier=2,
        tier_source="rule:0",
        model="n",
        required=(Selection(kinds=frozenset({"gpu", "cpu"}), labels=frozenset({("x", "y")})),),
        preferred=(
            Preference(
                Selection(names=frozenset({"a"}), engines=frozenset({"vllm"}), hardware=frozenset({"h100"})), 2.5
            ),
        ),
        denied_kinds=frozenset({"cloud"}),
        rules=("0",),
    )
    assert left == wanted


def test_rules_add_up() -> None:
    """What several rules require, prefer and deny holds together, in their order."""
    left = applied(
        WORK,
        {"require": {"kind": "gpu"}, "deny_kinds": ["cloud"]},
        {"require": {"name": "a"}, "prefer": {"name": "a"}},
        {"deny_kinds": ["cpu"], "prefer": {"kind": "gpu"}},
    )
    assert [bool(selection.kinds) for selection in left.required] == [True, False]
    assert [bool(preference.selection.kinds) for preference in left.preferred] == [False, True]
    assert left.denied_kinds == {"cloud", "cpu"}
    assert left.rules == ("0", "1", "2")


def test_later_rules_see_what_earlier_ones_set() -> None:
    """The tier, the class and the model are those that the rules before left; the last class and model stay."""
    rules: list[dict[str, Any]] = [
        {"set": {"tier": "internal", "priority": "batch", "model": "n"}},
        {"when": {"tier": "internal", "priority": "batch", "model": "n"}, "set": {"priority": "interactive"}},
        {"when": {"tier": "public"}, "set": {"model": "m"}},
    ]
    left = applied(WORK, *rules)
    assert (left.tier, left.priority, left.model, left.rules) == (1, Priority.INTERACTIVE, "n", ("0", "1"))
    left = applied(WORK, *reversed(rules))
    assert (left.tier, left.priority, left.model, left.rules) == (1, Priority.BATCH, "n", ("0", "2"))


def test_a_tier_is_not_lowered_and_keeps_its_source() -> None:
    """A rule for a tier that the work has or exceeds changes neither the tier nor what it came from."""
    for tier in (1, 2):
        left = applied(replace(WORK, tier=tier, tier_source="header"), {"set": {"tier": "internal"}})
        assert (left.tier, left.tier_source, left.rules) == (tier, "header", ("0",))


def test_a_tier_above_the_tenants_is_refused() -> None:
    """A rule may raise to the tenant's highest tier, not above it."""
    asked = replace(WORK, tenant="t")
    assert applied(asked, {"set": {"tier": "internal"}}).tier == 1
    with pytest.raises(RequestError) as error:
        applied(asked, {"set": {"tier": "secret"}})
    assert (error.value.code, error.value.status) == ("tier_not_served", 403)


def test_a_model_that_the_tenant_may_not_use_is_refused() -> None:
    """A rule opens no model to a tenant."""
    asked = replace(WORK, tenant="t")
    assert applied(asked, {"set": {"model": "m"}}).model == "m"
    with pytest.raises(RequestError) as error:
        applied(asked, {"set": {"model": "n"}})
    assert (error.value.code, error.value.status) == ("model_not_allowed", 403)


def test_work_without_a_model_gets_none() -> None:
    """Where the request names no model, there is none to replace."""
    assert applied(replace(WORK, model=None, tenant="t"), {"set": {"model": "n"}}).model is None


def test_without_rules_nothing_changes() -> None:
    """A policy without rules leaves the work as it is, and says so by its length."""
    rules = compile_rules(POLICY)
    left = replace(WORK)
    rules.apply(left, {}, 0.0)
    assert left == WORK
    assert len(rules) == 0
    assert len(compile_rules(ruled(DENY))) == 1


def test_work_of_different_kinds_does_not_mix() -> None:
    """What is kept for one API, tenant, risk and way of answering is not used for another."""
    conditions: list[dict[str, object]] = [{"api": "chat"}, {"tenant": "t"}, {"risk": "injection"}, {"stream": True}]
    rules = compile_rules(ruled(*({"when": when, **DENY} for when in conditions)))
    for _ in range(2):
        for matches in itertools.product((True, False), repeat=4):
            left = replace(
                WORK,
                api="chat" if matches[0] else "rerank",
                tenant="t" if matches[1] else "u",
                risk="injection" if matches[2] else None,
                streamed=matches[3],
            )
            rules.apply(left, {}, 0.0)
            assert left.rules == tuple(str(index) for index, is_match in enumerate(matches) if is_match)


@given(st.lists(RULES, max_size=6), st.lists(st.tuples(WORKS, FIELDS, WALLS_S), min_size=1, max_size=5))
def test_rules_do_what_the_file_says(
    rules: list[dict[str, Any]], requests: list[tuple[Work, dict[bytes, bytes], float]]
) -> None:
    """Compiled once and applied to one request after the other, they do what a slow interpreter of the file does."""
    policy_ = ruled(*rules)
    compiled = compile_rules(policy_)
    for work, fields, wall_s in requests:
        left: Work | str = replace(work)
        try:
            compiled.apply(left, fields, wall_s)  # type: ignore[arg-type]  # it is still the work
        except RequestError as error:
            left = error.code
        assert left == interpreted(work, policy_.routing.rules, fields, wall_s)


@given(st.lists(RULES, max_size=6), WORKS, FIELDS, WALLS_S)
def test_no_rule_lowers_a_tier(
    rules: list[dict[str, Any]], work: Work, fields: dict[bytes, bytes], wall_s: float
) -> None:
    """Whatever rules there are, a tier that they leave is at least the one that they found, and its source is true."""
    left = replace(work)
    try:
        compile_rules(ruled(*rules)).apply(left, fields, wall_s)
    except RequestError:
        return
    assert left.tier >= work.tier
    assert (left.tier_source == work.tier_source) is (left.tier == work.tier)


@given(ORDERED_RULES, WORKS, FIELDS, WALLS_S)
def test_rules_that_set_nothing_are_independent(
    drawn: tuple[list[dict[str, Any]], list[int]], work: Work, fields: dict[bytes, bytes], wall_s: float
) -> None:
    """Rules that only choose backends do in any order, and among any others, what each does alone."""
    rules, order = drawn
    named = [{"name": f"r{index}"} | rule for index, rule in enumerate(rules)]
    alone = [applied(work, rule, fields=fields, wall_s=wall_s) for rule in named]
    left = applied(work, *(named[index] for index in order), fields=fields, wall_s=wall_s)
    assert left.rules == tuple(f"r{index}" for index in order if alone[index].rules)
    assert left.required == tuple(selection for index in order for selection in alone[index].required)
    assert left.preferred == tuple(preference for index in order for preference in alone[index].preferred)
    assert left.denied_kinds == frozenset().union(*(one.denied_kinds for one in alone))
