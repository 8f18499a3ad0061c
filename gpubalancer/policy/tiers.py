"""How sensitive a request can be, where it may be served, and what raises its tier: `tiers`, `sensitivity`.

Tiers stand from low to high in the file; their order is their rank.
"""

import ipaddress
import re
import warnings
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Literal

from pydantic import Field

from gpubalancer.policy.fields import Name, Part, Reading, Title

Network = IPv4Network | IPv6Network
Detector = Literal["secrets", "payment_card", "national_id", "iban", "email", "phone"]
MAX_PATTERN_LENGTH = 1000


def _read_network(value: object) -> Network:
    expected = "a network such as 10.0.0.0/8 or fc00::/7"
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str) or "%" in value:
        raise ValueError(expected)
    try:
        loose = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(expected) from None
    if str(loose.network_address) != str(ipaddress.ip_address(value.partition("/")[0])):
        raise ValueError(
            f'the network\'s own address, "{loose}", or one host as "{value.partition("/")[0]}/{loose.max_prefixlen}"'
        )
    return loose


def _read_regex(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_PATTERN_LENGTH:
        raise ValueError(f"a regular expression of at most {MAX_PATTERN_LENGTH} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pattern = re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"a regular expression ({error})") from None
    if pattern.match(""):
        raise ValueError("a regular expression that does not match the empty text, since it would match every request")
    return value


PRIVATE_NETWORKS: tuple[Network, ...] = tuple(
    map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "::1/128", "fc00::/7"))
)
"""Private use (RFC 1918, RFC 4193) and loopback. Link-local is left out: cloud metadata services live there."""


class Tier(Part):
    """One level of sensitivity."""

    name: Name = Field(description="The tier's name, as requests, tenants and backends refer to it.")
    networks: tuple[Annotated[Network, Reading("a network", _read_network, {"type": "string"}, str)], ...] = Field(
        default=(), description="Where a backend cleared for this tier must really be; none means anywhere."
    )

    def admits(self, address: IPv4Address | IPv6Address) -> bool:
        """True if a backend at `address` may be cleared for this tier."""
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return not self.networks or any(address in network for network in self.networks)


DEFAULT_TIERS = (
    Tier(name="public"),
    Tier(name="internal", networks=PRIVATE_NETWORKS),
    Tier(name="confidential", networks=PRIVATE_NETWORKS),
    Tier(name="restricted", networks=PRIVATE_NETWORKS),
)


class Pattern(Part):
    """A text that gives a request away."""

    name: Title = Field(description="Name of the pattern, shown in explanations.")
    regex: Annotated[str, Reading("a regular expression", _read_regex, {"type": "string"})] = Field(
        description="Regular expression; a request whose text matches anywhere gets at least the tier."
    )
    tier: Name = Field(description="The tier that a match raises the request to.")


class Injection(Part):
    """What a suspected prompt injection leads to."""

    action: Literal["label", "refuse", "off"] = Field(
        default="label",
        description="`label` marks the request `risk: injection` for rules, `refuse` refuses it, `off` does not look.",
    )


class Sensitivity(Part):
    """What raises a request's tier besides its tenant, its rules and its own header."""

    detectors: dict[Detector, Name | None] = Field(
        default={}, description="What is looked for in requests, and the tier that finding it raises the request to."
    )
    patterns: tuple[Pattern, ...] = Field(default=(), description="Your own texts to look for.")
    unread: Literal["max_tier", "tier"] = Field(
        default="max_tier",
        description="Which of the tenant's tiers uploads and upgraded connections get, whose content is not read.",
    )
    injection: Injection = Field(default=Injection(), description="What a suspected prompt injection leads to.")
