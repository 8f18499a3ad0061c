"""From the schema's refusals to lines."""

import pytest

from gpubalancer.policy.explain import Tree
from tests.policy.reading import BACKEND, faults

U = "backends: [{url: 'http://127.0.0.1:8000', "


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (U + "slots: many}]", '1: backends[0].slots: found "many", expected a whole number of at least 1'),
        (U + "slot: 5}]", '1: backends[0].slot: found an unknown key, expected "slots"'),
        (U + "kind: gqu}]", '1: backends[0].kind: found "gqu", expected gpu, cpu or cloud (did you mean "gpu"?)'),
        (U + "kind: 5}]", "1: backends[0].kind: found 5, expected gpu, cpu or cloud"),
        (U + "apis: chat}]", '1: backends[0].apis: found "chat", expected a list, with in it chat, completions'),
        (U + "labels: [a]}]", "1: backends[0].labels: found a list, expected a mapping, with in it a short text"),
        (U + "models: [a, b c]}]", "1: backends[0].models: found the name 'b c', expected a model's name"),
        ("backends:\n- name: a", "2: backends[0].url: found nothing, expected a URL such as"),
        ("backends:\n- \n", "2: backends[0]: found nothing, expected a mapping with keys such as url, name"),
        ("backends: 5", "1: backends: found 5, expected a list of mappings"),
        ("{}", "1: backends: found nothing, expected a list of mappings"),
        ("[]", "1: found an empty list, expected settings, at least backends:"),
        (BACKEND + "version: 2", "2: version: found 2, expected 1"),
        (BACKEND + "listen: 5", "2: listen: found 5, expected a mapping with keys such as host, port"),
        (BACKEND + "listen: {port: 70000}", "2: listen.port: found 70000, expected a whole number from 0 to 65535"),
        (
            BACKEND + "listen:\n  limits: {head_timeout_s: 5s}",
            '3: listen.limits.head_timeout_s: found an unknown key, expected "head_timeout"',
        ),
        (BACKEND + "qwertz: 5", '2: qwertz: found an unknown key, expected "version", "listen"'),
        (BACKEND + "models: {a b: {}}", '2: models["a b"]: found "a b", expected a model\'s name without spaces or *'),
        (
            BACKEND + "sensitivity: {detectors: {mail: public}}",
            '2: sensitivity.detectors.mail: found "mail", expected secrets',
        ),
        (
            BACKEND + "routing: {rules: [{name: r, set: {tier: public}, when: {api: chatt}}]}",
            '2: routing.rules[0].when.api: found "chatt", expected chat',
        ),
    ],
)
def test_what_is_wrong_and_where(text: str, line: str) -> None:
    """Each kind of slip has its line, and exactly one."""
    found = faults(text)
    assert len(found) == 1
    assert found[0].startswith(f"p.yaml:{line}")


@pytest.mark.parametrize(
    "text",
    [
        "admin: {token: [hush-hush]}",
        "admin: {token: 12345678}",
        "admin: {token: 'hush hush'}",
        "admin: {token: {hush: 12345678}}",
        "state: {ledger: 'postgres://u:hush@h'}",
        "state: {budgets: 'hush://x'}",
        "tenants: [{name: a, keys: [hush]}]",
        "tenants: [{name: a, keys: hush}]",
        "tenants: [{name: a, keys: {hush: hush}}]",
        U[:-2].replace("127.0.0.1", "user:hush@127.0.0.1") + "}]",
        U + "credential: 'hush hush'}]",
        U + "slots: '${HUSH}'}]",
        "listen: {port: 'file:/proc/self/cmdline'}",
        "listen: {host: '${HUSH}'}",
    ],
)
def test_no_secret_is_shown(text: str) -> None:
    """What stands in a secret's place, or came from the environment, is not in the message."""
    given = text if text.startswith("backends") else BACKEND + text
    found = faults(given, {"HUSH": "hush and hush"})
    assert found
    assert not any("hush" in line or "12345678" in line or "pytest" in line for line in found)


def test_what_came_from_the_environment_is_shown_as_it_was_written() -> None:
    """The reference, not the value."""
    assert faults(BACKEND + 'listen: {port: "${PORT}"}', {"PORT": "x1"}) == [
        'p.yaml:2: listen.port: found "${PORT}", expected a whole number from 0 to 65535'
    ]


def test_a_fault_without_a_line_stands_on_its_nearest_one() -> None:
    """What is missing has no line; what misses it has."""
    tree = Tree("p", lines={(): 1, ("a",): 3, ("a", 0): 4})
    assert tree.fault(("a", 0, "b", "c"), "x", "y").line_number == 4
    assert tree.fault(("a", 1), "x", "y").line_number == 3
    assert tree.fault(("z",), "x", "y").line_number == 1
