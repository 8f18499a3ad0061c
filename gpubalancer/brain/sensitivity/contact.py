"""E-mail addresses and phone numbers.

E-mail: an RFC 5321 address with a dotted domain (ASCII, or letters of any script as bytes) whose last part is two or
more letters and not a file's ending; the user of a URL and a method call (`this@Main.run()`) are none.

Phone numbers, as ITU-T E.123 and the national plans write them:

* with `+` or `00` and a country code of ITU-T E.164, 8 to 15 digits in all;
* North America: (Ndd) Ndd-dddd, Ndd-Ndd-dddd, Ndd.Ndd.dddd, N from 2 to 9 (NANPA);
* France: 0d dd dd dd dd (Arcep); UK: 0dddd dddddd, 0dd dddd dddd, 0ddd ddd dddd (Ofcom);
* 7 to 15 digits in any form right after a word such as "phone" or "mobile".
"""

import re

from gpubalancer.brain.sensitivity.rule import END, Match, Rule, compact, formatted, labelled, named_otherwise

_FILE_ENDINGS = frozenset(
    b"png jpg jpeg gif svg webp ico pdf js mjs cjs ts jsx tsx css scss html htm py pyc rb rs go java kt cpp hpp cs sh "
    b"json yaml yml toml xml md txt log lock map csv zip gz tar tgz whl jar war so dll exe conf cfg ini local service "
    b"target socket mount timer internal".split()
)
_NO_USERS = frozenset((b"this", b"super", b"return", b"git", b"self", b"break", b"continue"))


_LOCAL = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+'-" + bytes(range(0x80, 0x100))
_USERINFO = re.compile(rb"[^\s/?#@\"'<>]*")
_ADDRESS = re.compile(
    rb"[A-Za-z0-9_+\x80-\xff-]@(?:[A-Za-z0-9\x80-\xff](?:[A-Za-z0-9\x80-\xff-]{0,61}[A-Za-z0-9\x80-\xff])?\.){1,6}"
    rb"(xn--[A-Za-z0-9-]{2,59}|[A-Za-z]{2,24})(?![A-Za-z0-9_@-])(?!\.[A-Za-z0-9])"
)
"""From the last character of the user's name; the rest of the name is looked at backwards."""


def _is_address(match: Match) -> bool:
    text, at, end = match.string, match.start() + 1, match.end()
    before = text[max(0, at - 128) : at]
    user = before[len(before.rstrip(_LOCAL)) :]
    if match[1].lower() in _FILE_ENDINGS or user.lower() in _NO_USERS or text[end : end + 1] == b"(":
        return False
    # What stands between :// and the next slash, up to the @, is a URL's user and password.
    scheme = before.rfind(b"://")
    return scheme < 0 or not _USERINFO.fullmatch(before, scheme + 3)


EMAIL_RULES = (
    Rule(
        rb"[a-z0-9_+\x80-\xff-]@[a-z0-9\x80-\xff][a-z0-9\x80-\xff.-]{0,80}\.[a-z]{2}",
        _ADDRESS,
        _is_address,
        caseless=True,
    ),
)

_COUNTRY_CODES = re.compile(
    rb"1|7|2(?:[07]|[1-689][0-9])|3(?:[0-469]|[578][0-9])|4(?:[013-9]|2[013])|5(?:[1-8]|[09][0-9])"
    rb"|6(?:[0-6]|[78][0-9]|9[0-2])|8(?:[1246]|0[08]|5[02-6]|7[08]|8[0-368])|9(?:[0-58]|6[0-8]|7[0-79]|9[2-68])"
)
"""ITU-T E.164, list of assigned country codes."""
_SIGNS = re.compile(rb"[ ().-]+")


def _is_international(match: Match) -> bool:
    """8 to 15 digits, and dots only as the one separator of three groups or more: else it is a coordinate.

    After 00 it must stand in groups and have nine: identifiers begin with zeros too.
    """
    number = compact(match[1])
    if match[0][:1] == b"0" and (len(number) < 9 or compact(match[0]) == match[0].rstrip(b")")):
        return False
    if not 8 <= len(number) <= 15 or len(set(number)) < 3 or not _COUNTRY_CODES.match(number):
        return False
    if b"." in match[1]:
        return match[1].count(b".") >= 2 and set(_SIGNS.findall(match[1])) == {b"."}
    return True


_INTERNATIONAL = re.compile(
    rb"(?<![0-9A-Za-z_+])(?<![0-9][ .-])(?<![A-Z0-9]{4} )(?:\+|00)([1-9](?:[ .-]{0,1}\(?[0-9]{1,6}\)?){1,7})" + END
)


def _is_phone(number: bytes) -> bool:
    return 7 <= len(number.lstrip(b"+")) <= 15 and len(set(number)) > 2


def _national(form: bytes) -> Rule:
    return formatted(form, lambda number: len(set(number)) > 2)


def _is_american(match: Match) -> bool:
    return len(set(match[0])) > 4 and not named_otherwise(match)


_WORDS = (
    r"tel\b|(?:te|té)l(?:e|é)(?:ph|f)on[eo]?|(?:i|mobile |cell)?phone|mobile|mobil\b|móvil|cell\b|celular|handy|fax"
    "|whatsapp|sms|hotline|(?:call|text|ring|reach)(?: me| us| him| her| them)(?: at| on)?"
)
_SCRIPTS = "电话|電話|手机|手機|телефон"
_BETWEEN = (
    r"(?:[\s:.#=()'\"*/|_+-]|numbers?|nummer|numero|número|numéro|no\b|nr\b|is\b|at\b|on\b|ist\b|est\b|号码){0,10}"
).encode()

PHONE_RULES = (
    Rule(rb"\+[1-9](?:[ ().-]{0,2}[0-9]){7}", _INTERNATIONAL, _is_international),
    Rule(rb"\b00[1-9](?:[ ().-]{0,2}[0-9]){7}", _INTERNATIONAL, _is_international),
    Rule(
        rb"(?:\(|\b)[2-9][0-9]{2}(?:\) ?|[.-])[2-9][0-9]{2}[.-][0-9]{4}\b",
        re.compile(
            rb"(?:\([2-9][0-9]{2}\) ?|\(?(?<![0-9A-Za-z_])(?<![02-9][.-])[2-9][0-9]{2}[.-])[2-9][0-9]{2}[.-][0-9]{4}"
            + END
        ),
        _is_american,
    ),
    _national(rb"0[1-9](?: [0-9]{2}){4}|0[1-9](?:\.[0-9]{2}){4}"),
    _national(rb"0[0-9]{4} [0-9]{6}|0[0-9]{2} [0-9]{4} [0-9]{4}|0[0-9]{3} [0-9]{3} [0-9]{4}"),
    labelled(_WORDS, rb"[0-9](?:[ ()./-]{0,2}[0-9]){6,14}", _is_phone, _BETWEEN, scripts=_SCRIPTS),
)
