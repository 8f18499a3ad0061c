"""Where a body ends, said by Content-Length, and every way to say it twice (RFC 9112 6)."""

from tests.attack.case import (
    BODY_LIMIT_BYTES,
    CHUNKED,
    HOST,
    SMUGGLED,
    Case,
    Seen,
    get,
    head,
    post,
    refused,
    served,
    sized,
)

_HELLO = Seen(method="POST", target="/x", body=b"hello")

# What stands after "Content-Length:", with a body of five bytes and a hidden request behind it.
_BAD_LENGTHS = {
    "plus sign": b" +5",
    "minus sign": b" -5",
    "minus zero": b" -0",
    "hexadecimal": b" 0x5",
    "octal prefix": b" 0o5",
    "fraction": b" 5.0",
    "exponent": b" 5e0",
    "underscore": b" 0_5",
    "thousands": b" 5,000",
    "two numbers": b" 5 5",
    "leading zero": b" 05",
    "two zeros": b" 00",
    "empty": b"",
    "only spaces": b"   ",
    "quoted": b' "5"',
    "a word": b" five",
    "a parameter": b" 5;a=b",
    "trailing comma": b" 5,",
    "leading comma": b" ,5",
    "list of equals": b" 5, 5",
    "list of different": b" 5, 6",
    "vertical tab": b" \x0b5",
    "form feed after": b" 5\x0c",
    "no-break space": b" \xa05",
    "full-width digit": b" \xef\xbc\x95",
    "arabic digit": b" \xd9\xa5",
    "superscript digit": b" \xb2",
    "NUL after": b" 5\x00",
    "2**64 + 5": b" 18446744073709551621",
    "40 digits": b" " + b"9" * 40,
    "5,000 digits": b" " + b"1" * 5000,
}

_BOTH = b"0\r\n\r\n" + SMUGGLED

CASES: list[Case] = [
    served("length", sized(b"hello"), "9112 6.2", _HELLO),
    served("length zero", sized(b""), "9112 6.2", Seen(method="POST", body=b"")),
    served("post without framing has no body", post(), "9112 6.3", Seen(method="POST", body=b"")),
    served("length with spaces around", post(b"Content-Length: \t 5 \t", body=b"hello"), "9112 5.1", _HELLO),
    served("length without space", post(b"Content-Length:5", body=b"hello"), "9112 5.1", _HELLO),
    served("length in odd case", post(b"cOnTeNt-LeNgTh: 5", body=b"hello"), "9110 5.1", _HELLO),
    served("get with a body", get(b"Content-Length: 5") + b"hello", "9110 9.3.1", Seen(method="GET", body=b"hello")),
    served(
        "a body that looks like a request is a body", sized(SMUGGLED), "9112 6.3", Seen(method="POST", body=SMUGGLED)
    ),
    served("every byte in a body", sized(bytes(range(256))), "9112 6", Seen(body=bytes(range(256)))),
    served(
        "a body at the limit",
        sized(b"x" * BODY_LIMIT_BYTES),
        "9110 15.5.14",
        Seen(body=b"x" * BODY_LIMIT_BYTES),
    ),
    *(
        refused(f"length {name}", post(b"Content-Length:" + value, body=b"hello" + SMUGGLED), "9112 6.3", 400, 413, 431)
        for name, value in _BAD_LENGTHS.items()
    ),
    refused("length twice, equal", post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), "9112 6.3"),
    refused(
        "length twice, different",
        post(b"Content-Length: 5", b"Content-Length: 0", body=b"hello" + SMUGGLED),
        "9112 6.3",
    ),
    refused(
        "length twice, the other case",
        post(b"Content-Length: 0", b"content-length: 50", body=SMUGGLED),
        "9112 6.3",
    ),
    refused("length in HTTP/1.0 twice", head(b"POST /x HTTP/1.0", *[b"Content-Length: 0"] * 2), "9112 6.3"),
    refused("length then chunked (CL.TE)", post(b"Content-Length: 5", CHUNKED, body=_BOTH), "9112 6.1"),
    refused("chunked then length (TE.CL)", post(CHUNKED, b"Content-Length: 5", body=_BOTH), "9112 6.1"),
    refused("length zero and chunked", post(b"Content-Length: 0", CHUNKED, body=_BOTH), "9112 6.1"),
    refused("right length and chunked", post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n"), "9112 6.1"),
    refused("bad length and chunked", post(b"Content-Length: x", CHUNKED, body=_BOTH), "9112 6.1"),
    refused(
        "length and identity",
        post(b"Content-Length: 5", b"Transfer-Encoding: identity", body=b"hello"),
        "9112 6.1",
        400,
        501,
    ),
    refused("length with a space before its colon", post(b"Content-Length : 5", body=b"hello" + SMUGGLED), "9112 5.1"),
    refused("length with a tab before its colon", post(b"Content-Length\t: 5", body=b"hello" + SMUGGLED), "9112 5.1"),
    refused("length folded", post(b"Content-Length:\r\n 5", body=b"hello" + SMUGGLED), "9112 5.2"),
    refused("length folded behind", post(b"Content-Length: 5\r\n 5", body=b"hello" + SMUGGLED), "9112 5.2"),
    refused("length as the folded rest of another", post(b"X-A: b\r\n Content-Length: 5", body=b"hello"), "9112 5.2"),
    refused("length with an underscore", post(b"Content_Length: 5", body=b"hello" + SMUGGLED), "9110 5.1"),
    refused("length over the limit", post(b"Content-Length: %d" % (BODY_LIMIT_BYTES + 1)), "9110 15.5.14", 413),
    refused("length far over the limit", post(b"Content-Length: 9223372036854775807"), "9110 15.5.14", 413, 400),
    refused("a body that never ends", post(b"Content-Length: 10", body=b"hello"), "9112 8", 408),
    refused("length in the first line", head(b"POST /x HTTP/1.1 Content-Length: 5", HOST) + b"hello", "9112 3"),
]
