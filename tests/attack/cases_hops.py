"""What ends at the balancer, what may be asked of it, and requests in a row (RFC 9110 7.6.1, 10.1.1; RFC 9112 9.3)."""

from tests.attack.case import (
    BAD,
    BODY_LIMIT_BYTES,
    CHUNKED,
    HOST,
    OK,
    SMUGGLED,
    Case,
    Seen,
    chunked,
    either,
    get,
    head,
    post,
    refused,
    served,
    sized,
)

_EXPECT = b"Expect: 100-continue"
_KEPT = Seen(method="GET", target="/x", fields={"x-keep": "1"}, absent=("x-secret",))
_UPGRADE = b"Connection: Upgrade"
_WEBSOCKET = (b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")

# Fields that say who, what or how long: nobody may have them taken off by naming them.
_NOT_NOMINATED = (
    "host",
    "content-length",
    "transfer-encoding",
    "content-type",
    "authorization",
    "x-api-key",
    "Host",
    "close, host",
    "AUTHORIZATION",
)

_HOP_BY_HOP = {
    "Keep-Alive": b"Keep-Alive: timeout=5",
    "Proxy-Connection": b"Proxy-Connection: keep-alive",
    "TE": b"TE: trailers",
    "Trailer": b"Trailer: X-Late",
    "Upgrade": b"Upgrade: websocket",
    "Upgrade to TLS": b"Upgrade: TLS/1.0",
}

_SPOOFED = (
    "x-gpubalancer-backend",
    "X-GPUBALANCER-ATTEMPTS",
    "x-GpuBalancer-Overhead-Ms",
    "x-gpubalancer-tenant",
    "x-gpubalancer-",
)


def _target(number: int) -> bytes:
    return b"/in-order/%d" % number


def _in_row(name: str, requests: list[bytes], *, closes: bool | None = False) -> Case:
    """Good requests in one piece, each with its own target."""
    sees = tuple(Seen(target=_target(number).decode()) for number in range(len(requests)))
    return served(name, b"".join(requests), "9112 9.3.2", *sees, closes=closes)


CASES: list[Case] = [
    served("nominated field removed", get(b"Connection: x-secret", b"X-Secret: 1", b"X-Keep: 1"), "9110 7.6.1", _KEPT),
    served(
        "nominated in another case", get(b"X-Secret: 1", b"X-Keep: 1", b"Connection: X-SECRET"), "9110 7.6.1", _KEPT
    ),
    served(
        "nominated in a list",
        get(b"Connection: keep-alive,\tx-secret ,", b"X-Secret: 1", b"X-Keep: 1"),
        "9110 7.6.1",
        _KEPT,
    ),
    served(
        "nominated in a second field",
        get(b"Connection: keep-alive", b"X-Secret: 1", b"Connection: x-secret", b"X-Keep: 1"),
        "9110 7.6.1",
        _KEPT,
    ),
    served("nominated and absent", get(b"Connection: x-nothing", b"X-Keep: 1"), "9110 7.6.1", _KEPT),
    *(
        refused(
            f"nominating {name}",
            sized(b"hello", b"Authorization: Bearer x", b"Connection: " + name.encode()),
            "9110 7.6.1",
            400,
            401,
        )
        for name in _NOT_NOMINATED
    ),
    either(
        "nominating x-gpubalancer-tier",
        get(b"Connection: x-gpubalancer-tier", b"x-gpubalancer-tier: internal"),
        "9110 7.6.1",
    ),
    either("Connection with a quoted option", get(b'Connection: "x-secret"', b"X-Keep: 1"), "9110 7.6.1"),
    either("Connection empty", get(b"Connection:", b"X-Keep: 1"), "9110 7.6.1", _KEPT),
    served("Connection close", get(b"Connection: close"), "9112 9.6", Seen(target="/x"), closes=True),
    served("Connection close in capitals", get(b"Connection: CLOSE"), "9112 9.6", Seen(target="/x"), closes=True),
    served(
        "nothing is read after Connection close",
        get(b"Connection: close") + SMUGGLED,
        "9112 9.6",
        Seen(target="/x"),
        closes=True,
    ),
    *(served(f"hop-by-hop {name}", get(line, b"X-Keep: 1"), "9110 7.6.1", _KEPT) for name, line in _HOP_BY_HOP.items()),
    served("Via is added", get(), "9110 7.6.3", Seen(fields={"via": "*"})),
    *(
        served(
            f"spoofed {name}",
            get(name.encode() + b": spoof", b"X-Keep: 1"),
            "DESIGN 7",
            Seen(fields={"x-keep": "1"}, absent=(name.lower(), "spoof")),
        )
        for name in _SPOOFED
    ),
    refused("spoofed with an underscore", get(b"x_gpubalancer_tier: public"), "9110 5.1"),
    served(
        "own tier header ends here",
        get(b"x-gpubalancer-tier: internal"),
        "DESIGN 7",
        Seen(absent=("x-gpubalancer-tier",)),
    ),
    Case("a tier that does not exist", get(b"x-gpubalancer-tier: bogus"), (frozenset({400, 403}),), "DESIGN 7"),
    Case(
        "Expect 100-continue",
        sized(b"hello", _EXPECT),
        (OK,),
        "9110 10.1.1",
        closes=False,
        sees=(Seen(body=b"hello", absent=("expect",)),),
    ),
    Case(
        "Expect in odd case",
        sized(b"hello", b"eXpEcT: 100-CoNtInUe"),
        (OK,),
        "9110 10.1.1",
        closes=False,
        sees=(Seen(body=b"hello", absent=("expect",)),),
    ),
    served("Expect with chunks", chunked(b"5\r\nhello\r\n0\r\n\r\n", _EXPECT), "9110 10.1.1", Seen(body=b"hello")),
    served("Expect without a body", get(_EXPECT), "9110 10.1.1", Seen(body=b"")),
    either(
        "Expect in HTTP/1.0",
        head(b"POST /x HTTP/1.0", HOST, _EXPECT, b"Content-Length: 5") + b"hello",
        "9110 10.1.1",
        Seen(body=b"hello"),
        also=(417,),
    ),
    refused("Expect something else", sized(b"hello", b"Expect: 200-ok"), "9110 10.1.1", 417),
    refused("Expect two things", sized(b"hello", b"Expect: 100-continue, x"), "9110 10.1.1", 417),
    either("Expect twice", sized(b"hello", _EXPECT, _EXPECT), "9110 10.1.1", Seen(body=b"hello"), also=(417,)),
    refused(
        "Expect and too large a body", post(_EXPECT, b"Content-Length: %d" % (BODY_LIMIT_BYTES + 1)), "9110 10.1.1", 413
    ),
    refused("Expect and two framings", post(_EXPECT, b"Content-Length: 5", CHUNKED), "9112 6.1"),
    served(
        "Upgrade to websocket where it is not allowed",
        get(_UPGRADE, *_WEBSOCKET),
        "9110 7.8",
        Seen(method="GET", absent=("upgrade",)),
    ),
    either("Upgrade with a body", sized(SMUGGLED, _UPGRADE, *_WEBSOCKET), "9110 7.8", Seen(body=SMUGGLED)),
    served(
        "a request behind an ignored Upgrade",
        get(_UPGRADE, *_WEBSOCKET, target=_target(0)) + get(target=_target(1)),
        "9110 7.8",
        Seen(target="/in-order/0"),
        Seen(target="/in-order/1"),
    ),
    refused(
        "Upgrade to h2c",
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
        "9113 3.1",
        400,
        403,
        426,
        501,
        505,
    ),
    _in_row("two gets in a row", [get(target=_target(n)) for n in range(2)]),
    _in_row("twenty gets in a row", [get(target=_target(n)) for n in range(20)]),
    _in_row("three posts in a row", [sized(b"hello", target=_target(n)) for n in range(3)]),
    _in_row("three chunked posts in a row", [chunked(b"5\r\nhello\r\n0\r\n\r\n", target=_target(n)) for n in range(3)]),
    _in_row(
        "all kinds in a row",
        [
            get(target=_target(0)),
            sized(b"hello", target=_target(1)),
            get(target=_target(2)),
            chunked(b"0\r\n\r\n", target=_target(3)),
            sized(SMUGGLED, target=_target(4)),
        ],
    ),
    _in_row("the last one closes", [get(target=_target(0)), get(b"Connection: close", target=_target(1))], closes=True),
    _in_row(
        "large and small",
        [sized(b"x" * 300_000, target=_target(0)), get(target=_target(1)), sized(b"y" * 300_000, target=_target(2))],
    ),
    Case(
        "HEAD then GET",
        head(b"HEAD /x HTTP/1.1", HOST) + get(),
        (OK, OK),
        "9110 9.3.2",
        closes=False,
        methods=("HEAD", "GET"),
    ),
    Case("good, then bad", get() + get(b"X A: b"), (OK, BAD), "9112 9.3", closes=True, sees=(Seen(target="/x"),)),
    Case("good, then bad, then good", get() + get(b"X A: b") + SMUGGLED, (OK, BAD), "9112 9.3", closes=True),
    refused("bad, then good", get(b"X A: b") + SMUGGLED, "9112 9.3"),
    Case(
        "good, then half of one",
        get() + b"GET /y HTTP/1.1\r\nHo",
        (OK, frozenset({408})),
        "9112 9.3",
        closes=True,
        sees=(Seen(target="/x"),),
    ),
    Case(
        "good, then one with two framings",
        sized(b"hello") + post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n"),
        (OK, BAD),
        "9112 6.1",
        closes=True,
        sees=(Seen(body=b"hello"),),
    ),
    Case(
        "good, then one in HTTP/2.0",
        get() + head(b"GET /y HTTP/2.0", HOST),
        (OK, frozenset({400, 505})),
        "9112 2.3",
        closes=True,
    ),
    Case(
        "a body one byte longer than its length",
        sized(b"hello") + b"!" + get(),
        (OK, BAD),
        "9112 6.3",
        closes=True,
        sees=(Seen(body=b"hello"),),
    ),
    served(
        "a line end after a body",
        sized(b"hello", target=_target(0)) + b"\r\n" + get(target=_target(1)),
        "9112 2.2",
        Seen(target="/in-order/0"),
        Seen(target="/in-order/1"),
        closes=None,
    ),
]
