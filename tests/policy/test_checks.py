"""What must agree between sections: each disagreement has its line."""

import pytest

from tests.policy.reading import BACKEND, faults

KEY = "sha256:" + "ab" * 32
B = "backends:\n"
A = "  - {name: a, url: 'http://10.0.0.1', models: [m]}\n"
T = "tenants: [{name: t}]\nanonymous: t\n"


def rules(rule: str) -> str:
    """A file with one rule."""
    return B + A + T + f"routing: {{rules: [{{name: r, {rule}}}]}}\n"


CASES = {
    "no backends": ("backends: []", "1: backends: found an empty list, expected at least one backend"),
    "no tiers": (BACKEND + "tiers: []", "2: tiers: found an empty list, expected at least one tier"),
    "backend twice": (
        B + A + A,
        '3: backends[1].name: found "a" a second time, expected each name in backends once: give',
    ),
    "address twice": (
        B + "  - {url: 'http://h:1/a'}\n  - {url: 'http://h:1/b'}\n",
        '3: backends[1].name: found "h:1" a second time, expected each name in backends once: give one of them another',
    ),
    "tenant twice": (
        BACKEND + "tenants: [{name: t}, {name: t}]\nanonymous: t",
        '2: tenants[1].name: found "t" a second time, expected each name in tenants once',
    ),
    "tier twice": (
        BACKEND + "tiers: [{name: x}, {name: x}]",
        '2: tiers[1].name: found "x" a second time, expected each name in tiers once',
    ),
    "rule twice": (
        BACKEND + "routing: {rules: [{name: r, set: {tier: public}}, {name: r, set: {tier: public}}]}",
        '2: routing.rules[1].name: found "r" a second time',
    ),
    "pattern twice": (
        BACKEND + "sensitivity: {patterns: [{name: p, regex: a, tier: public}, {name: p, regex: b, tier: public}]}",
        '2: sensitivity.patterns[1].name: found "p" a second time',
    ),
    "same port": (BACKEND + "admin: {port: 8080}", "2: admin.port: found 8080, expected another port than listen.port"),
    "same port on all addresses": (
        BACKEND + "listen: {host: 0.0.0.0}\nadmin: {port: 8080}\nanonymous: anonymous",
        "3: admin.port: found 8080, expected another port than listen.port",
    ),
    "no admin token": (
        BACKEND + "admin:\n  host: 10.0.0.1\n",
        '2: admin.token: found nothing, expected a token, because admin.host "10.0.0.1" can be reached',
    ),
    "empty admin token": (
        BACKEND + "admin: {host: '::', token: ''}",
        "2: admin.token: found nothing, expected a token",
    ),
    "half of TLS": (
        BACKEND + "listen: {tls: {certificate: a.pem}}",
        "2: listen.tls.key: found nothing, expected a PEM file: certificate and key come together",
    ),
    "half of a backend's TLS": (
        B + "  - {url: 'https://h', tls: {key: a.pem}}",
        "2: backends[0].tls.certificate: found nothing, expected a PEM file",
    ),
    "TLS without https": (
        B + "  - {url: 'http://h', tls: {ca: a.pem}}",
        "2: backends[0].tls: found TLS settings, expected none, because the URL is not https",
    ),
    "unknown clearance": (
        B + "  - {url: 'http://h', clearance: intrenal}",
        '2: backends[0].clearance: found "intrenal", expected a declared tier: "internal"',
    ),
    "unknown tenant's tier": (
        BACKEND + "tenants: [{name: t, tier: xx}]\nanonymous: t",
        '2: tenants[0].tier: found "xx", expected a declared tier: "public", "internal", "confidential", "restricted"',
    ),
    "unknown highest tier": (
        BACKEND + "tenants: [{name: t, max_tier: xx}]\nanonymous: t",
        "2: tenants[0].max_tier: found",
    ),
    "tier above the highest": (
        BACKEND + "tenants: [{name: t, tier: restricted, max_tier: internal}]\nanonymous: t",
        '2: tenants[0].tier: found "restricted", expected a tier not above max_tier, "internal"',
    ),
    "unknown detector's tier": (
        BACKEND + "sensitivity: {detectors: {iban: xx}}",
        '2: sensitivity.detectors.iban: found "xx", expected a declared tier',
    ),
    "unknown pattern's tier": (
        BACKEND + "sensitivity: {patterns: [{name: p, regex: a, tier: xx}]}",
        '2: sensitivity.patterns[0].tier: found "xx", expected a declared tier',
    ),
    "a label that points elsewhere": (
        B + "  - {url: 'http://8.8.8.8', clearance: internal}",
        '2: backends[0].clearance: found "internal", expected a tier whose networks hold 8.8.8.8, or another address',
    ),
    "unknown anonymous": (
        BACKEND + "anonymous: bob",
        '2: anonymous: found "bob", expected a declared tenant: "anonymous"',
    ),
    "unknown downgrade": (
        B + A + "models: {m: {downgrade_to: n}}",
        '3: models.m.downgrade_to: found "n", expected a model of `models` or of a backend: "m"',
    ),
    "downgrade to an alias": (
        B + A + "models: {m: {aliases: [n]}, x: {downgrade_to: n}}",
        '3: models.x.downgrade_to: found the alias "n", expected the model\'s own name, "m"',
    ),
    "downgrade in a circle": (
        B + A + "models: {m: {downgrade_to: n}, n: {}, o: {downgrade_to: o}}",
        '3: models.o.downgrade_to: found "o", expected a model from which no downgrade leads back',
    ),
    "alias of a model's name": (
        B + A + "models: {x: {aliases: [m]}}",
        '3: models.x.aliases[0]: found "m", expected an alias that is not itself a model\'s name',
    ),
    "alias twice": (
        BACKEND + "models: {x: {aliases: [z]}, y: {aliases: [z]}}",
        '2: models.y.aliases[0]: found "z", already an alias of "x", expected each alias once',
    ),
    "tenant's unknown model": (
        B + A + "tenants: [{name: t, models: ['m*', n]}]\nanonymous: t",
        '3: tenants[0].models[1]: found "n", expected a model of',
    ),
    "rule's unknown model": (rules("when: {model: n}, deny_kinds: [cpu]"), "5: routing.rules[0].when.model[0]: found"),
    "rule's unknown tier": (rules("when: {tier: n}, deny_kinds: [cpu]"), "5: routing.rules[0].when.tier[0]: found"),
    "rule to an unknown tier": (
        rules("set: {tier: n}"),
        '5: routing.rules[0].set.tier: found "n", expected a declared tier',
    ),
    "rule to an unknown model": (
        rules("set: {model: n}"),
        '5: routing.rules[0].set.model: found "n", expected a model of',
    ),
    "rule's unknown tenant": (
        rules("when: {tenant: u}, deny_kinds: [cpu]"),
        '5: routing.rules[0].when.tenant[0]: found "u", expected a declared tenant: "t"',
    ),
    "key of two tenants": (
        BACKEND + f"tenants:\n  - {{name: t, keys: ['{KEY}']}}\n  - {{name: u, keys: ['{KEY}']}}",
        '4: tenants[1].keys[0]: found the same key as tenant "t", expected each key once, since it says who pays',
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_disagreements(case: str) -> None:
    """Each is told once, on its line, with what would agree."""
    text, line = CASES[case]
    found = faults(text)
    assert len(found) == 1
    assert found[0].startswith(f"p.yaml:{line}")


@pytest.mark.parametrize(
    "text",
    [
        BACKEND + "listen: {port: 0}\nadmin: {port: 0}",
        BACKEND + "listen: {port: 9}\nadmin: {host: '::1', port: 9}",
        BACKEND + "admin: {host: 10.0.0.1, token: abc}",
        BACKEND + "models: {m: {downgrade_to: whatever-the-server-has}}",
        B + A + "models: {m: {downgrade_to: n}, n: {downgrade_to: o}, o: {}}",
        B + "  - {url: 'http://10.0.0.1', clearance: internal}",
        B + "  - {url: 'http://gpu.lan', clearance: restricted}",
        BACKEND + "routing: {rules: [{name: r, when: {model: whatever}, set: {model: another}}]}",
        BACKEND + "tenants: [{name: t, tier: internal, max_tier: internal}]\nanonymous: t",
        BACKEND + f"tenants: [{{name: t, keys: ['{KEY}']}}]",
    ],
)
def test_what_agrees(text: str) -> None:
    """None of these is a fault."""
    assert faults(text) == []
