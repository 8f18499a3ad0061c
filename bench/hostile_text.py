"""Short texts that, repeated, make a scanner work: each is a place where something may be, and mostly is not."""

from gpubalancer.brain.sensitivity.scan import AT_ONCE_CHARS, Scanner

HOSTILE = {
    "digits": "4111111111111112 ",
    "card groups": "4111 1111 1111 1112 ",
    "single digits": "1 ",
    "pluses": "+1 ",
    "addresses": "a@b.cc ",
    "at signs": "@",
    "dotted domains": "a@a.aa.aa.aa.aa",
    "accounts with a wrong check": "DE89 3704 0044 0532 0130 01 ",
    "password=": "password=",
    "passwords": "password=Xa1!bcd2 ",
    "long tokens": "token=" + "aB3" * 66 + " ",
    "the word passport": "passport ",
    "passport, filled": "passport of john doe of john doe of john doe of john doe ",
    "MRN:": "MRN:",
    "signed tokens' heads": "eyJaaaaaaaa.",
    "one dashed token": "eyJaaaaaaaa-",
    "key headers": "-----BEGIN PRIVATE KEY----- \\n \\n ",
    "URLs with a user": "a://b:c@d",
    "dashed numbers": "219-45-1234 ",
    "the word tel": "tel ",
    "the word ssn": "ssn ",
    "the word tax": "tax ",
    "eleven digits": "12345678901 ",
    "fiscal codes": "abcdef12a12a123a ",
    "passport lines": "A" * 43 + "1",
    "French phones": "01 23 45 67 89 ",
    "bearers": "authorization: bearer aaaaaaaaaaaaaaaaaaaa ",
    "zero-width spaces": "1\u200b",
    "Chinese": "中文\uff0c",
    "half a phone": "212.555.",
    "half an injection": "ignore all previous ",
    "storage keys": "AccountKey=" + "a" * 42 + "=",
    "one letter": "a",
    "one digit": "1",
    "spaces": " ",
    "NULs": "\0",
}


def repeated(scanner: Scanner, unit: str) -> str:
    """The unit as often as `scan_at_once` takes it: up to its size, or to the places it looks at."""
    width = len(unit) if unit.isascii() else 3 * len(unit)
    most, least = AT_ONCE_CHARS // width, 1
    if scanner.scan_at_once([[unit * most]]) is not None:
        return unit * most
    while most - least > 1:
        middle = (least + most) // 2
        if scanner.scan_at_once([[unit * middle]]) is None:
            most = middle
        else:
            least = middle
    return unit * least
