"""Start lines, field lines, line ends and sizes of heads (RFC 9112 2 to 5, RFC 9110 5)."""

from tests.attack.case import (
    BAD,
    FIELDS_LIMIT,
    HEAD_LIMIT_BYTES,
    HOST,
    OK,
    SMUGGLED,
    Case,
    Seen,
    either,
    get,
    head,
    refused,
    served,
    sized,
)

_CTLS = bytes(range(0x09)) + bytes(range(0x0B, 0x0D)) + bytes(range(0x0E, 0x20)) + b"\x7f"
_SEPARATORS = b'"(),/;<=>?@[\\]{} \t'

_VERSIONS = {
    "1.2": b"HTTP/1.2",
    "1.10": b"HTTP/1.10",
    "01.1": b"HTTP/01.1",
    "1.01": b"HTTP/1.01",
    "0.9": b"HTTP/0.9",
    "2.0": b"HTTP/2.0",
    "2": b"HTTP/2",
    "3.0": b"HTTP/3.0",
    "9.9": b"HTTP/9.9",
    "1": b"HTTP/1",
    "1.": b"HTTP/1.",
    "1.x": b"HTTP/1.x",
    "1,1": b"HTTP/1,1",
    "+1.1": b"HTTP/+1.1",
    "lower case": b"http/1.1",
    "mixed case": b"Http/1.1",
    "HTTPS": b"HTTPS/1.1",
    "HTP": b"HTP/1.1",
    "HTTPP": b"HTTPP/1.1",
    "ICE": b"ICE/1.0",
    "RTSP/1.0": b"RTSP/1.0",
    "RTSP/1.1": b"RTSP/1.1",
    "RTSP/2.0": b"RTSP/2.0",
    "RTSP after two spaces": b" RTSP/1.1",
    "backslash": b"HTTP\\1.1",
    "trailing space": b"HTTP/1.1 ",
    "trailing tab": b"HTTP/1.1\t",
    "trailing vertical tab": b"HTTP/1.1\x0b",
    "trailing word": b"HTTP/1.1 x",
    "space before slash": b"HTTP /1.1",
    "space after slash": b"HTTP/ 1.1",
    "NUL": b"HTTP/1.1\x00",
    "full-width": b"HTTP/\xef\xbc\x91.1",
}

_START_LINES = {
    "method with a space in front": b" GET /x HTTP/1.1",
    "method with a tab in front": b"\tGET /x HTTP/1.1",
    "method with a parenthesis": b"GE(T /x HTTP/1.1",
    "method with NUL": b"GE\x00T /x HTTP/1.1",
    "method with obs-text": b"GE\xd4 /x HTTP/1.1",
    "method with a colon": b"GET: /x HTTP/1.1",
    "method missing": b"/x HTTP/1.1",
    "method of 10,000 letters": b"A" * 10_000 + b" /x HTTP/1.1",
    "tabs for spaces": b"GET\t/x\tHTTP/1.1",
    "vertical tab for a space": b"GET\x0b/x HTTP/1.1",
    "CR in the line": b"GET /x\rHTTP/1.1",
    "CR at its end": b"GET /x HTTP/1.1\r",
    "LF in the line": b"GET /x HTTP/1.1\nX-A: b",
    "a status line": b"HTTP/1.1 200 OK",
    "no version": b"GET /x",
    "a byte order mark": b"\xef\xbb\xbfGET /x HTTP/1.1",
}

# Lines between a good Host and the empty line; none may survive.
_BAD_LINES = {
    "space before its colon": b"X-A : b",
    "tab before its colon": b"X-A\t: b",
    "no colon": b"X-A",
    "no name": b": b",
    "only a colon": b":",
    "fold with a space": b"X-A: b\r\n c",
    "fold with a tab": b"X-A: b\r\n\tc",
    "fold of nothing": b"X-A: b\r\n ",
    "bare LF": b"X-A: b\nX-B: c",
    "bare LF and an empty line": b"X-A: b\n\nGET /smuggled HTTP/1.1",
    "bare CR": b"X-A: b\rX-B: c",
    "bare CR at the end": b"X-A: b\r",
    "bare CR first": b"\rX-A: b",
    "CR CR LF": b"X-A: b\r\r",
    "underscore": b"X_A: b",
    "underscore first": b"_X: b",
    "obs-text in the name": b"X-\xe4: b",
    "UTF-8 in the name": "X-ü: b".encode(),
    "DEL in the name": b"X\x7fA: b",
    "NUL in the name": b"X\x00A: b",
    "an indented line": b" X-A: b",
}

# What we act on must be ASCII: a backend could read obs-text another way.
_ACTED_ON = (
    "Connection",
    "Expect",
    "Upgrade",
    "Authorization",
    "x-api-key",
    "api-key",
    "x-request-id",
    "x-gpubalancer-tier",
    "Content-Type",
    "Accept",
)

_NOTE = Seen(method="GET", target="/x")


def _fields(count: int) -> bytes:
    return get(*(b"X-%d: y" % number for number in range(count - 1)))


CASES: list[Case] = [
    *(
        refused(f"version {name}", head(b"GET /x " + version, HOST), "9112 2.3", 400, 505)
        for name, version in _VERSIONS.items()
    ),
    *(refused(name, head(line, HOST), "9112 3", 400, 405, 414, 431, 501, 505) for name, line in _START_LINES.items()),
    refused("HTTP/0.9", b"GET /x\r\n", "9112 C.1", 400, 505, 408),
    refused(
        "nothing but a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40), "9112 2.2", mute=True
    ),
    refused("nothing but zeros", bytes(2000), "9112 2.2", mute=True),
    refused(
        "HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), "9113 3.4", 400, 405, 421, 505, mute=True
    ),
    *(refused(f"field {name}", get(line) + SMUGGLED, "9112 5, 9110 5.1") for name, line in _BAD_LINES.items()),
    *(refused(f"separator {chr(byte)!r} in a name", get(b"X%cA: b" % byte), "9110 5.6.2") for byte in _SEPARATORS),
    *(refused(f"control {byte:#04x} in a value", get(b"X-A: b%cc" % byte), "9110 5.5") for byte in _CTLS),
    refused("an indented first line", head(b"GET /x HTTP/1.1", b" X-A: b", HOST), "9112 2.2"),
    refused("heads ended by LF", b"GET /x HTTP/1.1\nHost: a.example\n\n" + SMUGGLED, "9112 2.2"),
    refused("last line ended by LF", b"GET /x HTTP/1.1\r\nHost: a.example\r\n\n" + SMUGGLED, "9112 2.2"),
    either("LF before the head", b"\n" + get(), "9112 2.2: a lone LF may end a line", _NOTE),
    either(
        "two spaces before the target", head(b"GET  /x HTTP/1.1", HOST), "9112 3: words may be split at space", _NOTE
    ),
    either(
        "two spaces before the version", head(b"GET /x  HTTP/1.1", HOST), "9112 3: words may be split at space", _NOTE
    ),
    either("one empty line before the head", b"\r\n" + get(), "9112 2.2", _NOTE),
    either("empty lines before the head", b"\r\n" * 3 + get(), "9112 2.2", _NOTE),
    either("40 KiB of empty lines", b"\r\n" * 20_480 + get(), "9112 2.2", _NOTE, also=(431,)),
    *(
        refused(f"obs-text in {name}", get(name.encode() + b": a\xe9b"), "9110 5.5", 400, 401, 417)
        for name in _ACTED_ON
    ),
    served(
        "obs-text in a value we do not read",
        get(b"X-Note: caf\xc3\xa9"),
        "9110 5.5",
        Seen(fields={"x-note": "caf\xc3\xa9"}),
    ),
    served("tab inside a value", get(b"X-Note: a\tb"), "9110 5.5", Seen(fields={"x-note": "a\tb"})),
    served("spaces around a value", get(b"X-Note: \t a b \t "), "9110 5.5", Seen(fields={"x-note": "a b"})),
    served("empty value", get(b"X-Note:"), "9110 5.5", Seen(fields={"x-note": ""})),
    served(
        "every token character in a name",
        get(b"X-!#$%&'*+-.^`|~09AZaz: y"),
        "9110 5.6.2",
        Seen(fields={"x-!#$%&'*+-.^`|~09azaz": "y"}),
    ),
    served(
        "a value of quotes and commas",
        get(b'X-Note: "a,b";c=d, (e)'),
        "9110 5.6",
        Seen(fields={"x-note": '"a,b";c=d, (e)'}),
    ),
    served("128 fields", _fields(FIELDS_LIMIT), "6585 5", Seen(fields={"x-126": "y"})),
    refused("129 fields", _fields(FIELDS_LIMIT + 1), "6585 5", 431),
    refused("10,000 fields", _fields(10_000), "6585 5", 431),
    served("a value of 24 KiB", get(b"X-Note: " + b"y" * 24_576), "6585 5", Seen(fields={"x-note": "y" * 24_576})),
    refused("a head over 32 KiB", get(b"X-Note: " + b"y" * HEAD_LIMIT_BYTES), "6585 5", 431),
    refused("a head of 1 MiB", get(b"X-Note: " + b"y" * (1 << 20)), "6585 5", 431),
    refused("a head that never ends", get(b"X-Note: " + b"y" * HEAD_LIMIT_BYTES)[:-4], "6585 5", 408, 431),
    refused("a name of 40 KiB", get(b"X" * 40_960 + b": y"), "6585 5", 431),
    refused("half a head", b"GET /x HTTP/1.1\r\nHost: a.exa", "9112 8", 408),
    refused("half a start line", b"GET /x HT", "9112 8", 408),
    refused("a head without its empty line", b"GET /x HTTP/1.1\r\nHost: a.example\r\n", "9112 8", 408),
    *(
        served(f"method {name}", head(f"{name} /x HTTP/1.1".encode(), HOST), "9110 9", Seen(method=name, target="/x"))
        for name in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS")
    ),
    Case("method HEAD", head(b"HEAD /x HTTP/1.1", HOST), (OK,), "9110 9.3.2", closes=False, methods=("HEAD",)),
    *(
        either(
            f"method {name}", head(f"{name} /x HTTP/1.1".encode(), HOST), "9110 9.1", Seen(method=name), also=(405, 501)
        )
        for name in ("get", "Post", "FOO", "M-SEARCH", "PROPFIND", "SOURCE", "X" * 100)
    ),
    served(
        "HTTP/1.0 with a length",
        head(b"POST /x HTTP/1.0", HOST, b"Content-Length: 5") + b"hello",
        "9112 2.3",
        Seen(body=b"hello"),
        closes=True,
    ),
    served(
        "HTTP/1.0 kept alive", head(b"GET /x HTTP/1.0", HOST, b"Connection: keep-alive"), "9112 9.3", _NOTE, closes=None
    ),
    served("a body of NULs and line ends", sized(b"\x00\r\n\r\n\x00\n"), "9112 6", Seen(body=b"\x00\r\n\r\n\x00\n")),
    Case("a field of Latin capitals twice", get(b"X-Note: a", b"X-NOTE: b"), (OK,), "9110 5.3", closes=False),
    Case(
        "a good request, then rubbish", get() + b"\x00\x01\x02\r\n\r\n", (OK, BAD), "9112 2.2", closes=True, mute=True
    ),
]
