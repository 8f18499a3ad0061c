"""All faults at once, and none that is only the echo of another."""

from tests.policy.reading import BACKEND, faults


def test_all_faults_come_at_once_in_order() -> None:
    """Wrong values, unset references, doubled keys and sections that disagree, by line."""
    text = """
listen: {port: x}
admin: {host: 10.0.0.1, token: "${TOKEN}"}
backends:
  - url: http://127.0.0.1:8000
    slots: many
    clearance: secret
    slots: 5
tenants:
  - {name: acme, tier: intrenal}
anonymous: nobody
"""
    assert [line.removeprefix("p.yaml:").split(": found")[0] for line in faults(text)] == [
        "2: listen.port",
        "3: admin.token",
        "7: backends[0].clearance",
        "8: backends[0].slots",
        "10: tenants[0].tier",
        "11: anonymous",
    ]


def test_a_wrong_name_has_no_echo() -> None:
    """Where a tier's name cannot be read, those who use the tier are not blamed."""
    text = BACKEND + "tiers: [{name: lo w}]\ntenants: [{name: a, tier: low}]\nanonymous: a\n"
    assert [line.split(": found")[0] for line in faults(text)] == ["p.yaml:2: tiers[0].name"]


def test_a_missing_url_has_no_echo() -> None:
    """What can only be told with the rest in place waits for it."""
    text = "backends: [{name: a}]\nanonymous: nobody\n"
    assert [line.split(": found")[0] for line in faults(text)] == ["p.yaml:1: backends[0].url"]


def test_a_wrong_part_has_no_echo_in_its_whole() -> None:
    """A rule whose selector cannot be read is not blamed for changing nothing."""
    text = BACKEND + "routing: {rules: [{name: r, require: {kind: tpu}}, {name: s}]}"
    assert [line.split(": found")[0] for line in faults(text)] == [
        "p.yaml:2: routing.rules[0].require.kind",
        "p.yaml:2: routing.rules[1]",
    ]


def test_an_unset_token_is_told_once() -> None:
    """Not also as a missing token."""
    assert len(faults(BACKEND + 'admin: {host: 10.0.0.1, token: "${TOKEN}"}')) == 1


def test_faults_of_the_tree_alone_refuse_the_file() -> None:
    """A doubled key is a fault even where both values are fine."""
    assert faults(BACKEND + "version: 1\nversion: 1\n") == [
        "p.yaml:3: version: found the key a second time (first on line 2), expected each key once"
    ]
