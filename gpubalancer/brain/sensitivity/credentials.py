"""Secrets that only their surroundings give away: keys in armour, URLs with a password, assignments, signed tokens.

A password has no form, so a value must be mixed and varied enough not to be a word, a variable or a placeholder, and
must be assigned to something called a password, secret, token or key.
"""

import base64
import binascii
import math
import re

import orjson

from gpubalancer.brain.sensitivity.rule import Match, Rule

_PLACEHOLDER_TEXT = (
    "example placeholder changeme change_me change-me changeit your dummy sample redacted xxxx *** ... null none "
    "undefined password passwd secret process.env os.environ getenv config. config[ settings. self. this. this@ ${ {{ "
    "$( 0123456789 12345678 abcdef"
)
_PLACEHOLDERS = tuple(_PLACEHOLDER_TEXT.split())
"""In lower case: what documentation and code write where the secret belongs."""
_REFERENCE = re.compile(
    rb"[<{]|\$[A-Za-z_]+\Z|%[sd(]|(?:env|vault|file|arn|https?):|env\.|ref\+|/[a-z]+/", re.IGNORECASE
)
_ABOUT_IT = tuple(
    b"id name audience variable path file url uri type count length limit policy hash field ref expir".split()
)
"""What follows in names of things that are no secrets themselves."""
_JUDGED_BYTES = 64
"""How much of a long value is looked at."""
_LOWER, _UPPER, _DIGIT = re.compile(rb"[a-z]"), re.compile(rb"[A-Z]"), re.compile(rb"[0-9]")
_SIGN = re.compile(rb"[^A-Za-z0-9_.\-]")
_CASE_CHANGE = re.compile(rb"[a-z](?=[A-Z])|[A-Z](?=[a-z])")
_CALL = re.compile(rb"[A-Za-z_][A-Za-z0-9_.:>-]*[(\[]")


def entropy_bits(text: bytes) -> float:
    """Shannon's entropy per character, from the text's own counts."""
    shares = [text.count(code) / len(text) for code in set(text)]
    return -sum(share * math.log2(share) for share in shares)


def is_placeholder(value: bytes) -> bool:
    """True for a value that stands for a secret and is none: a variable, a reference, a word of documentation."""
    # Text is searched ten times as fast as bytes are.
    lower = value.lower().decode("latin-1")
    return _REFERENCE.match(value) is not None or any(word in lower for word in _PLACEHOLDERS)


def _is_random(value: bytes, least_length: int, least_bits: float) -> bool:
    """True for a value that a person would not write as a name or a word."""
    value = value[:_JUDGED_BYTES]
    if len(value) < least_length or is_placeholder(value) or _CALL.match(value):
        return False
    if not _DIGIT.search(value):
        # Names change case once a word, random letters at every second one.
        return len(value) >= 20 and 3 * len(_CASE_CHANGE.findall(value)) >= len(value)
    kinds = sum(bool(kind.search(value)) for kind in (_LOWER, _UPPER, _DIGIT, _SIGN))
    return kinds >= 2 and entropy_bits(value) >= least_bits


def _is_assigned_secret(match: Match) -> bool:
    """A random value of a name that is not just about a secret (`tokenType`), nor ends in one by chance."""
    name, suffix, value = match.groups()
    before = match.string[max(0, match.start() - 1) : match.start()]
    if suffix.lower().strip(b"_-").startswith(_ABOUT_IT) or (before.islower() and name.islower() and name[:1] == b"t"):
        return False
    is_password = name[:1] in b"pP"
    return _is_random(value, 8 if is_password else 16, 2.5 if is_password else 3.0)


def _has_password(match: Match) -> bool:
    """A password in a URL that is no variable and no placeholder."""
    value = match[1]
    return len(value) >= 3 and not is_placeholder(value) and len(set(value)) > 2 and value.lower() != b"pass"


def _is_signed_token(match: Match) -> bool:
    """A JSON Web Token (RFC 7519): its first part is a JSON object that names an algorithm."""
    head = match[1]
    try:
        header = orjson.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))
    except (binascii.Error, orjson.JSONDecodeError):
        return False
    return isinstance(header, dict) and isinstance(header.get("alg"), str)


def _is_bearer(match: Match) -> bool:
    return _is_random(match[1], 16, 3.0)


def _is_key(match: Match) -> bool:
    return len(set(match[1])) >= 12 and b"EXAMPLE" not in match[1]


_NAMES = (
    rb"pass(?:word|wd|phrase)|pwd|secret(?:[_-]?key)?|(?:api|access|auth)[_-]?key"
    rb"|(?:(?:api|access|auth|refresh|bearer|session)[_-]?)?token|credentials?"
)
_ASSIGNED = rb"(_?[a-z]{0,12})[\"']?\]?\s{0,2}(?::=|=>|==?|:)\s{0,2}[\"'`]?"

CREDENTIAL_RULES = (
    Rule(  # RFC 7468, OpenSSH, PGP; with escaped line ends too, as in a service account's JSON
        rb"-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY",
        re.compile(
            rb"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
            rb"(?:(?:\\[nr]|[\s\"'+,>|#*])++(?:[A-Z][A-Za-z-]{2,20}: [^\n]{1,80}+)?){1,6}+([A-Za-z0-9+/]{16})"
        ),
    ),
    Rule(  # RFC 7519
        rb"\beyJ[A-Za-z0-9_-]{8}",
        re.compile(rb"(?<![A-Za-z0-9_-])(eyJ[A-Za-z0-9_-]{8,1000})\.[A-Za-z0-9_-]{8,}"),
        _is_signed_token,
    ),
    Rule(  # RFC 3986: a URL with a user's password
        rb"[a-z0-9]://[^\s:@/?#\"'<>]{0,48}:[^\s@/\"'<>]{1,96}@[a-z0-9\[]",
        re.compile(rb"[a-z0-9]://[^\s:@/?#\"'<>]{0,48}:([^\s@/\"'<>]{1,96})@[A-Za-z0-9\[]", re.IGNORECASE),
        _has_password,
        caseless=True,
    ),
    Rule(
        rb"(?:" + _NAMES + rb")" + _ASSIGNED + rb"[^\s\"'`,;]{8}",
        re.compile(rb"(" + _NAMES + rb")" + _ASSIGNED + rb"([^\s\"'`,;]{8,200})", re.IGNORECASE),
        _is_assigned_secret,
        caseless=True,
    ),
    Rule(  # RFC 7617, RFC 6750
        rb"authorization[\"']?\s{0,2}[:=]\s{0,2}[\"']?(?:basic|bearer|token)\s{1,2}[a-z0-9._~+/=-]{16}",
        re.compile(
            rb"authorization[\"']?\s{0,2}[:=]\s{0,2}[\"']?(?:basic|bearer|token)\s{1,2}([A-Za-z0-9._~+/=-]{16,200})",
            re.IGNORECASE,
        ),
        _is_bearer,
        caseless=True,
    ),
    Rule(  # AWS secret access key: 40 letters of base64 after its name
        rb"secret.?(?:access.?)?key[^\n]{0,12}[a-z0-9/+]{40}\b",
        re.compile(
            rb"secret.?(?:access.?)?key[^\nA-Za-z0-9/+]{1,12}([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])", re.IGNORECASE
        ),
        _is_key,
        caseless=True,
    ),
    Rule(  # Azure storage and service bus: 64 or 32 bytes in base64
        rb"(?:account|shared(?:access)?)key=[a-z0-9+/]{42,86}=",
        re.compile(rb"(?:account|shared(?:access)?)key=([A-Za-z0-9+/]{42,86})={1,2}", re.IGNORECASE),
        _is_key,
        caseless=True,
    ),
    Rule(  # Azure shared access signature: an HMAC-SHA256 in base64, escaped for a URL
        rb"[?&]sig=[a-z0-9%+/]{40}",
        re.compile(rb"[?&]sig=([A-Za-z0-9%+/]{40,90})(?:%3D|=)", re.IGNORECASE),
        _is_key,
        caseless=True,
    ),
)
