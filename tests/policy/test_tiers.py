"""The sections `tiers` and `sensitivity`."""

from ipaddress import ip_address

import pytest

from gpubalancer.policy.tiers import DEFAULT_TIERS, Pattern, Sensitivity, Tier


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
    [("(", "unterminated"), ("a*", "does not match the empty text"), ("x" * 1001, "at most 1000"), (5, "at most 1000")],
)
def test_wrong_patterns_are_refused(regex: object, said: str) -> None:
    """A pattern that is broken, or matches everything, is refused."""
    with pytest.raises(ValueError, match="a regular expression") as caught:
        Pattern.model_validate({"name": "x", "regex": regex, "tier": "a"})
    assert said in str(caught.value)


def test_a_deeply_nested_pattern_is_refused() -> None:
    """A pattern can't exhaust the stack."""
    with pytest.raises(ValueError, match="a regular expression"):
        Pattern.model_validate({"name": "x", "regex": "(" * 499 + "a" + ")" * 499, "tier": "a"})


def test_a_detector_without_a_tier_is_off() -> None:
    """Null switches one off."""
    assert Sensitivity.model_validate({"detectors": {"email": None}}).detectors == {"email": None}


def test_off_is_a_word() -> None:
    """The action `off` is the word, not a truth value."""
    assert Sensitivity.model_validate({"injection": {"action": "off"}}).injection.action == "off"
