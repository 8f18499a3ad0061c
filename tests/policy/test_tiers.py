"""The sections `tiers` and `sensitivity`."""

from ipaddress import ip_address
from typing import get_args

import pytest

from gpubalancer.policy.tiers import DEFAULT_TIERS, Detector, Pattern, Sensitivity, Tier


def test_the_usual_tiers() -> None:
    """Four, of which all but the lowest ask for private or loopback networks."""
    assert [tier.name for tier in DEFAULT_TIERS] == ["public", "internal", "confidential", "restricted"]
    for address in ("10.1.2.3", "172.31.0.1", "192.168.1.1", "127.0.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"):
        assert all(tier.admits(ip_address(address)) for tier in DEFAULT_TIERS)
    for address in ("8.8.8.8", "172.32.0.1", "169.254.169.254", "2001:db8::1", "::ffff:8.8.8.8", "fe80::1"):
        assert [tier.admits(ip_address(address)) for tier in DEFAULT_TIERS] == [True, False, False, False]


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("10.0.0.5/8", 'own address, "10.0.0.0/8", or one host as "10.0.0.5/32"'),
        ("10.0.0.0/33", "a network such as"),
        ("lan", "a network such as"),
        ("fe80::%eth0/64", "a network such as"),
        (10, "a network such as"),
    ],
)
def test_a_wrong_network_says_what_was_expected(network: object, said: str) -> None:
    """Bits to the right of the mask are a slip, and the message has what was meant."""
    with pytest.raises(ValueError, match="network") as caught:
        Tier.model_validate({"name": "a", "networks": [network]})
    assert said in str(caught.value)


def test_one_address_is_a_network() -> None:
    """An address without a mask is that one host."""
    tier = Tier.model_validate({"name": "a", "networks": ["10.0.0.5"]})
    assert tier.admits(ip_address("10.0.0.5"))
    assert not tier.admits(ip_address("10.0.0.6"))


@pytest.mark.parametrize(
    ("regex", "said"),
    [
        ("(", "Missing close parenthesis"),
        ("a*", "matches empty buffer"),
        ("x" * 1001, "at most 1000"),
        ("", "at most 1000"),
        (5, "at most 1000"),
        ("a(?=b)", "Zero-width assertions are not supported"),
        ("(?<!a)b", "Zero-width assertions are not supported"),
        (r"(a)\1", "Back-references are unsupported"),
        ("a++b", "Possessive quantifiers are not supported"),
        ("\\bcaf\u00e9\\b", "of ASCII alone"),
        (r"\Asecret", "without \\A"),
        (r"secret\z", "without \\z"),
        ("a\u200bb", "without invisible characters"),
        ("\u2764\ufe0f", "without invisible characters"),
        ("a\nb", "without invisible characters"),
        ("a\ud800", "whole characters"),
    ],
)
def test_wrong_patterns_are_refused(regex: object, said: str) -> None:
    """A pattern that is broken, matches everything, or that hyperscan can't look for says what is not supported."""
    with pytest.raises(ValueError, match="a regular expression") as caught:
        Pattern.model_validate({"name": "x", "regex": regex, "tier": "a"})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "regex",
    [
        "(?i)project falcon",
        r"\bAC-[0-9]{4,6}\b",
        "^Betreff: .*geheim",
        r"\x{e9}t\x{e9}",
        r"\p{Greek}+ secret",
        r"path\\Area",
        "(?P<word>alpha|beta) team",
        "caf\u00e9",
    ],
)
def test_what_hyperscan_can_look_for_is_taken(regex: str) -> None:
    """Alternatives, classes, properties of characters, anchors of lines and named groups are fine."""
    assert Pattern.model_validate({"name": "x", "regex": regex, "tier": "a"}).regex == regex


def test_a_deeply_nested_pattern_ends_in_an_answer() -> None:
    """A pattern can't exhaust the stack."""
    with pytest.raises(ValueError, match="a regular expression"):
        Pattern.model_validate({"name": "x", "regex": "(" * 499 + "a" + ")" * 498, "tier": "a"})


def test_the_detectors() -> None:
    """The names that a policy can give are these, and none is on by itself."""
    names = "secrets payment_card national_id iban passport medical_record email phone"
    assert list(get_args(Detector)) == names.split()
    assert Sensitivity().detectors == {}


def test_a_detector_without_a_tier_is_off() -> None:
    """Null switches one off."""
    assert Sensitivity.model_validate({"detectors": {"email": None}}).detectors == {"email": None}


def test_off_is_a_word() -> None:
    """The action `off` is the word, not a truth value."""
    assert Sensitivity.model_validate({"injection": {"action": "off"}}).injection.action == "off"
