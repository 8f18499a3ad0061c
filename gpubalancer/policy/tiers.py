"""How sensitive a request can be, where it may be served, and what raises its tier: `tiers`, `sensitivity`.

Tiers stand from low to high in the file; their order is their rank.
"""

import ipaddress
import re
import unicodedata
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Literal

import hyperscan
from pydantic import Field

from gpubalancer.policy.fields import Name, Part, Reading, Title

Network = IPv4Network | IPv6Network
Detector = Literal["secrets", "payment_card", "national_id", "iban", "passport", "medical_record", "email", "phone"]
MAX_PATTERN_LENGTH = 1000
_PATTERN_FLAGS = hyperscan.HS_FLAG_UTF8 | hyperscan.HS_FLAG_MULTILINE | hyperscan.HS_FLAG_SINGLEMATCH
_ABSOLUTE = re.compile(r"(?<!\\)(?:\\\\)*(\\[AZzG])")
_WORD_EDGE = re.compile(r"(?<!\\)(?:\\\\)*\\[bB]")


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
    if absolute := _ABSOLUTE.search(value):
        raise ValueError(f"a regular expression without {absolute[1]}: texts are read joined, ^ and $ stand for lines")
    if any(_shows_nothing(char) for char in value):
        raise ValueError("a regular expression without invisible characters, which are taken out of texts too")
    if _WORD_EDGE.search(value) and not value.isascii():
        raise ValueError(r"a regular expression without \b, which knows letters of ASCII only, or of ASCII alone")
    try:
        hyperscan.Database().compile(expressions=[value.encode()], ids=[0], elements=1, flags=[pattern_flags(value)])
    except UnicodeEncodeError:
        raise ValueError("a regular expression of whole characters") from None
    except hyperscan.error as error:
        raise ValueError(f"a regular expression that hyperscan can compile ({str(error).rstrip('.')})") from None
    return value


def _shows_nothing(char: str) -> bool:
    return unicodedata.category(char) in ("Cf", "Cc") or "\ufe00" <= char <= "\ufe0f" or char == "\u034f"


def pattern_flags(regex: str) -> int:
    r"""How hyperscan reads an operator's expression.

    The syntax is PCRE's without look-around, back-references, possessive and atomic groups: what can be matched in one
    pass whatever the text. `^` and `$` stand for lines, and a match is reported once for a request: an expression that
    matches at each byte costs no more than one that matches once. `\w`, `\s` and `\d` take characters of any script,
    but hyperscan does not know word edges (`\b`) of other scripts: with one, all of them are ASCII's.
    """
    return _PATTERN_FLAGS if _WORD_EDGE.search(regex) else _PATTERN_FLAGS | hyperscan.HS_FLAG_UCP


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
        description="Regular expression in hyperscan's syntax (PCRE without look-around and back-references); "
        "a request whose text matches anywhere gets at least the tier."
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
