"""Rules that could never do anything: each is told with its line."""

import pytest

from tests.policy.reading import BACKEND, faults

FLEET = """\
backends:
  - {name: a, url: 'http://10.0.0.1', models: [m], kind: gpu, engine: vllm, hardware: h100, labels: {site: cellar}}
  - {name: b, url: 'http://10.0.0.2', models: [n], kind: cpu, engine: llamacpp, labels: {site: attic}}
tenants:
  - {name: t, tier: internal, max_tier: confidential, models: [m], priority: batch}
  - {name: u, priority: standard}
anonymous: t
routing: {rules: [{name: r, %s}]}
"""
AT = "p.yaml:8: routing.rules[0]"
ACT = "deny_kinds: [cloud]"

CASES = {
    "nothing changes": (
        "when: {api: chat}",
        ": found a rule that changes nothing, expected `set`, `require`, `prefer` or `deny_kinds`",
    ),
    "an empty set": ("set: {}", ": found a rule that changes nothing"),
    "an empty selector": (
        "require: {}",
        ".require: found nothing to choose by, expected `kind`, `name`, `engine`, `hardware` or `labels`",
    ),
    "a price for nothing": ("prefer: {seconds: 5}", ".prefer: found nothing to choose by"),
    "an empty list": (
        f"when: {{api: []}}, {ACT}",
        ".when.api: found an empty list, expected at least one, or no `api` at all for any",
    ),
    "an empty list of kinds": ("require: {kind: []}", ".require.kind: found an empty list"),
    "an empty list of hours": (f"when: {{time: []}}, {ACT}", ".when.time: found an empty list"),
    "an empty list for a header": (
        f"when: {{header: {{x-a: []}}}}, {ACT}",
        '.when.header.x-a: found an empty list, expected at least one, or "*" for any',
    ),
    "contradictory bounds": (
        f"when: {{prompt_tokens: ['> 10', '< 5']}}, {ACT}",
        '.when.prompt_tokens: found "> 10", "< 5", expected comparisons that some number fulfils, since all must hold',
    ),
    "bounds without a whole number between": (
        f"when: {{output_tokens: ['> 10', '< 11']}}, {ACT}",
        ".when.output_tokens: found",
    ),
    "below zero": (f"when: {{prompt_tokens: '< 0'}}, {ACT}", '.when.prompt_tokens: found "< 0"'),
    "an empty time": (
        f"when: {{time: '08:00-08:00'}}, {ACT}",
        '.when.time: found "08:00-08:00", expected a time of day',
    ),
    "an unknown zone": (f"when: {{time: '08:00-09:00 X/Y'}}, {ACT}", ".when.time: found"),
    "a header twice": (
        f"when: {{header: {{x-a: b, X-A: c}}}}, {ACT}",
        '.when.header.X-A: found "X-A" a second time, expected each header once',
    ),
    "a credential": (
        f"when: {{header: {{Authorization: 'Bearer *'}}}}, {ACT}",
        '.when.header.Authorization: found "Authorization", expected a header that holds no credential',
    ),
    "a tier that the tenant may not send": (
        f"when: {{tenant: t, tier: restricted}}, {ACT}",
        '.when.tier: found "restricted", expected a tier that tenant "t" may send',
    ),
    "a tier below the tenant's": (f"when: {{tenant: t, tier: public}}, {ACT}", '.when.tier: found "public"'),
    "a model that the tenant may not use": (
        f"when: {{tenant: t, model: n}}, {ACT}",
        '.when.model: found "n", expected a model that tenant "t" may use',
    ),
    "another model that the tenant may not use": (
        "when: {tenant: t}, set: {model: n}",
        '.set.model: found "n", expected a model that tenant "t" may use',
    ),
    "a class that nobody has": (
        f"when: {{priority: interactive}}, {ACT}",
        '.when.priority: found "interactive", expected a class that some tenant or an earlier rule gives: "batch"',
    ),
    "a class above the tenant's": (
        f"when: {{tenant: t, priority: [interactive, standard]}}, {ACT}",
        '.when.priority: found "interactive", "standard", expected a class that tenant "t" or an earlier rule gives: "',
    ),
    "an unknown backend": (
        "require: {name: [a, c]}",
        '.require.name[1]: found "c", expected a backend\'s name: "a", "b"',
    ),
    "an unknown engine": (
        "prefer: {engine: vlm}",
        '.prefer.engine[0]: found "vlm", expected a backend\'s engine: "vllm"',
    ),
    "unknown hardware": (
        "require: {hardware: h200}",
        '.require.hardware[0]: found "h200", expected a backend\'s hardware: "h100"',
    ),
    "an unknown label": (
        "require: {labels: {zone: x}}",
        '.require.labels.zone: found "zone", expected a label that a backend carries: "site"',
    ),
    "an unknown value of a label": (
        "require: {labels: {site: celar}}",
        '.require.labels.site: found "celar", expected a value that a backend\'s label has: "cellar"',
    ),
    "a kind that no backend is": (
        "require: {kind: cloud}",
        ".require: found a choice that no backend fits, expected at least one backend that fits all of it",
    ),
    "a preference for a kind that no backend is": (
        "prefer: {kind: cloud}",
        ".prefer: found a choice that no backend fits, expected at least one backend that fits all of it",
    ),
    "a choice that fits none together": (
        "require: {name: a, labels: {site: attic}}",
        ".require: found a choice that no backend fits",
    ),
    "a required kind that is denied": (
        "require: {kind: gpu}, deny_kinds: [gpu]",
        ".require: found a choice that no backend fits, expected at least one backend that fits it and what",
    ),
    "a preferred kind that is denied": ("prefer: {kind: gpu}, deny_kinds: [gpu]", ".prefer: found a choice"),
    "a preference beside what is required": (
        "require: {kind: gpu}, prefer: {name: b}",
        ".prefer: found a choice that no backend fits, expected at least one backend that fits it and what",
    ),
    "every kind denied": (
        "deny_kinds: [gpu, cpu]",
        '.deny_kinds: found "gpu", "cpu", expected kinds without which there is still a backend',
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_rules_that_could_never_act(case: str) -> None:
    """Each is told once, on its line, with what would act."""
    rule, line = CASES[case]
    found = faults(FLEET % rule)
    assert len(found) == 1
    assert found[0].startswith(AT + line)


@pytest.mark.parametrize(
    "rule",
    [
        "when: {api: [chat, embeddings], stream: false}, set: {priority: batch}",
        "when: {prompt_tokens: ['>= 5', '<= 5']}, set: {tier: restricted}",
        "when: {header: {X-Team: 'a*', cookies: x}, time: ['22:00-06:00', 'sat-sun 00:00-24:00 UTC']}, set: {model: m}",
        "when: {tenant: [t, u], tier: restricted, model: n}, deny_kinds: [gpu]",
        "when: {priority: [interactive, batch], risk: injection}, require: {kind: [gpu, cloud]}",
        "require: {labels: {site: attic}}, prefer: {engine: llamacpp, seconds: 0.25}, deny_kinds: [cloud, gpu]",
        "set: {priority: interactive}}, {name: s, when: {priority: interactive}, deny_kinds: [cpu]",
    ],
)
def test_rules_that_may_act(rule: str) -> None:
    """None of these is a fault."""
    assert faults(FLEET % rule) == []


@pytest.mark.parametrize("action", ["off", "refuse"])
def test_a_risk_that_is_not_labelled(action: str) -> None:
    """A rule on a risk can only match where requests are labelled with it."""
    text = FLEET % f"when: {{risk: injection}}, {ACT}"
    assert faults(text) == []
    (found,) = faults(text + f"sensitivity: {{injection: {{action: {action}}}}}")
    assert found.startswith(f'{AT}.when.risk: found "injection", expected sensitivity.injection.action: label, since')


@pytest.mark.parametrize("selector", ["kind: cloud", "engine: sglang", "kind: [cpu], engine: ollama"])
def test_what_a_server_may_say_is_left_open(selector: str) -> None:
    """A backend whose kind and engine the file leaves open may turn out to be what a rule asks for."""
    assert faults(BACKEND + f"routing: {{rules: [{{name: r, require: {{{selector}}}, deny_kinds: [gpu]}}]}}") == []


def test_what_no_server_says_is_not_left_open() -> None:
    """Hardware and labels are known from the file alone."""
    rule = "routing: {rules: [{name: r, require: {hardware: h100, labels: {a: b}}}]}"
    assert [line.split(": found")[0] for line in faults(BACKEND + rule)] == [
        "p.yaml:2: routing.rules[0].require.hardware[0]",
        "p.yaml:2: routing.rules[0].require.labels.a",
    ]
