"""Transfer-Encoding in every spelling, and chunks in every shape (RFC 9112 6.1, 7)."""

from tests.attack.case import (
    BODY_LIMIT_BYTES,
    CHUNKED,
    HOST,
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
)

_END = b"0\r\n\r\n"
_HELLO = b"5\r\nhello\r\n" + _END
_SEEN = Seen(method="POST", target="/x", body=b"hello")

# Whole field lines that must not pass as "Transfer-Encoding: chunked"; a hidden request follows the last chunk.
_BAD_CODINGS = {
    "prefix": b"Transfer-Encoding: xchunked",
    "suffix": b"Transfer-Encoding: chunkedx",
    "chunked twice in a list": b"Transfer-Encoding: chunked, chunked",
    "chunked, identity": b"Transfer-Encoding: chunked, identity",
    "identity, chunked": b"Transfer-Encoding: identity, chunked",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked",
    "chunked, gzip": b"Transfer-Encoding: chunked, gzip",
    "identity": b"Transfer-Encoding: identity",
    "gzip": b"Transfer-Encoding: gzip",
    "empty": b"Transfer-Encoding:",
    "only a comma": b"Transfer-Encoding: ,",
    "trailing comma": b"Transfer-Encoding: chunked,",
    "leading comma": b"Transfer-Encoding: ,chunked",
    "parameter": b"Transfer-Encoding: chunked;q=1",
    "quoted": b'Transfer-Encoding: "chunked"',
    "vertical tab before": b"Transfer-Encoding: \x0bchunked",
    "vertical tab after": b"Transfer-Encoding: chunked\x0b",
    "form feed after": b"Transfer-Encoding: chunked\x0c",
    "NUL after": b"Transfer-Encoding: chunked\x00",
    "no-break space before": b"Transfer-Encoding:\xa0chunked",
    "kelvin sign": b"Transfer-Encoding: chun\xe2\x84\xaaed",
    "a space inside": b"Transfer-Encoding: chun ked",
    "space before the colon": b"Transfer-Encoding : chunked",
    "tab before the colon": b"Transfer-Encoding\t: chunked",
    "NUL before the colon": b"Transfer-Encoding\x00: chunked",
    "folded value": b"Transfer-Encoding:\r\n chunked",
    "folded with a tab": b"Transfer-Encoding:\r\n\tchunked",
    "hidden in a fold": b"X-A: b\r\n Transfer-Encoding: chunked",
    "hidden behind a bare LF": b"X-A: b\nTransfer-Encoding: chunked",
    "hidden behind a bare CR": b"X-A: b\rTransfer-Encoding: chunked",
    "bare LF in the value": b"Transfer-Encoding:\n chunked",
    "underscore": b"Transfer_Encoding: chunked",
    "two fields": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "second field identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "second field nonsense": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    "first field nonsense": b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    "second field empty": b"Transfer-Encoding: chunked\r\nTransfer-Encoding:",
}

# Bodies after a good "Transfer-Encoding: chunked".
_BAD_BODIES = {
    "no size": b"\r\nhello\r\n" + _END,
    "size not hexadecimal": b"g\r\nhello\r\n" + _END,
    "minus": b"-5\r\nhello\r\n" + _END,
    "plus": b"+5\r\nhello\r\n" + _END,
    "0x": b"0x5\r\nhello\r\n" + _END,
    "underscore": b"0_5\r\nhello\r\n" + _END,
    "space before": b" 5\r\nhello\r\n" + _END,
    "tab before": b"\t5\r\nhello\r\n" + _END,
    "space after": b"5 \r\nhello\r\n" + _END,
    "two sizes": b"5 5\r\nhello\r\n" + _END,
    "comma": b"5,5\r\nhello\r\n" + _END,
    "full-width digit": b"\xef\xbc\x95\r\nhello\r\n" + _END,
    "NUL": b"5\x00\r\nhello\r\n" + _END,
    "LF ends the size": b"5\nhello\r\n" + _END,
    "CR ends the size": b"5\rhello\r\n" + _END,
    "LF ends the data": b"5\r\nhello\n" + _END,
    "CR ends the data": b"5\r\nhello\r" + _END,
    "nothing ends the data": b"5\r\nhello" + _END,
    "data longer than its size": b"5\r\nhello!\r\n" + _END,
    "data shorter than its size": b"6\r\nhello\r\n" + _END,
    "overflow to 5": b"10000000000000005\r\nhello\r\n" + _END,
    "overflow of 40 digits": b"f" * 40 + b"\r\nhello\r\n" + _END,
    "LF in an extension": b"5;a\nb\r\nhello\r\n" + _END,
    "CR in an extension": b"5;a\rb\r\nhello\r\n" + _END,
    "NUL in an extension": b"5;a\x00b\r\nhello\r\n" + _END,
    "last chunk and LF": b"5\r\nhello\r\n0\n\n",
    "last line LF": b"5\r\nhello\r\n0\r\n\n",
    "a request in the place of the last line": b"5\r\nhello\r\n0\r\n" + SMUGGLED,
    "trailer with a space before its colon": b"0\r\nX-A : b\r\n\r\n",
    "trailer folded": b"0\r\nX-A: b\r\n c\r\n\r\n",
    "trailer without colon": b"0\r\nX-A\r\n\r\n",
    "trailer with NUL": b"0\r\nX-A: \x00\r\n\r\n",
    "trailer ended by LF": b"0\r\nX-A: b\n\r\n",
}

_MIB = 1 << 20
_TOO_MUCH = (400, 413, 431)
_BIG_CHUNK = b"%x\r\n" % BODY_LIMIT_BYTES + b"x" * BODY_LIMIT_BYTES + b"\r\n"

CASES: list[Case] = [
    served("chunked", chunked(_HELLO), "9112 7.1", _SEEN),
    served("chunked, no data", chunked(_END), "9112 7.1", Seen(method="POST", body=b"")),
    served("chunked in capitals", post(b"TRANSFER-ENCODING: CHUNKED", body=_HELLO), "9112 7", _SEEN),
    either("chunked with spaces around", post(b"Transfer-Encoding: \t chunked \t", body=_HELLO), "9112 5.1", _SEEN),
    served("chunked get", get(CHUNKED) + _HELLO, "9110 9.3.1", Seen(method="GET", body=b"hello")),
    served("chunks of one byte", chunked(b"".join(b"1\r\n%c\r\n" % c for c in b"hello") + _END), "9112 7.1", _SEEN),
    served(
        "hexadecimal sizes",
        chunked(b"A\r\n0123456789\r\nb\r\nabcdefghijk\r\n" + _END),
        "9112 7.1",
        Seen(body=b"0123456789abcdefghijk"),
    ),
    served(
        "a chunk that looks like a request",
        chunked(b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n" + _END),
        "9112 7.1",
        Seen(body=SMUGGLED),
    ),
    served("a chunk that looks like the end", chunked(b"5\r\n" + _END + b"\r\n" + _END), "9112 7.1", Seen(body=_END)),
    served("extension ignored", chunked(b"5;a=b\r\nhello\r\n0;c\r\n\r\n"), "9112 7.1.1", _SEEN),
    served("quoted extension ignored", chunked(b'5;a="b c"\r\nhello\r\n' + _END), "9112 7.1.1", _SEEN),
    served(
        "trailers dropped",
        chunked(b"5\r\nhello\r\n0\r\nX-Late: 1\r\n\r\n"),
        "9112 7.1.2",
        Seen(body=b"hello", absent=("x-late",)),
    ),
    either("trailer cannot frame", chunked(b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n"), "9110 6.5.1", _SEEN),
    served(
        "trailer cannot route",
        chunked(b"5\r\nhello\r\n0\r\nHost: b.example\r\nx-gpubalancer-tier: public\r\n\r\n"),
        "9110 6.5.1",
        Seen(body=b"hello", absent=("x-gpubalancer-tier",)),
    ),
    served(
        "a chunked body at the limit", chunked(_BIG_CHUNK + _END), "9110 15.5.14", Seen(body=b"x" * BODY_LIMIT_BYTES)
    ),
    either("zeros before a size", chunked(b"0005\r\nhello\r\n0000\r\n\r\n"), "9112 7.1", _SEEN),
    either("space before an extension", chunked(b"5 ;a=b\r\nhello\r\n" + _END), "9112 7.1.1 erratum 4667", _SEEN),
    either("extension without a name", chunked(b"5;\r\nhello\r\n" + _END), "9112 7.1.1", _SEEN),
    *(
        refused(f"coding {name}", post(line, body=_END + SMUGGLED), "9112 6.1", 400, 501)
        for name, line in _BAD_CODINGS.items()
    ),
    *(refused(f"chunk {name}", chunked(body + SMUGGLED), "9112 7.1", 400, 413) for name, body in _BAD_BODIES.items()),
    refused("chunked in HTTP/1.0", head(b"POST /x HTTP/1.0", HOST, CHUNKED) + _HELLO, "9112 6.1"),
    refused(
        "chunked in HTTP/1.0 with a length",
        head(b"POST /x HTTP/1.0", HOST, b"Content-Length: 5", CHUNKED) + _HELLO,
        "9112 6.1",
    ),
    refused("chunks over the limit", chunked(_BIG_CHUNK + b"1\r\nx\r\n" + _END), "9110 15.5.14", 413),
    # Nothing of such a chunk need be refused before it comes: 408 is the end of a wait for it.
    refused("one chunk over the limit", chunked(b"%x\r\n" % (BODY_LIMIT_BYTES + 1)), "9110 15.5.14", 408, 413),
    refused("chunk overflow to -1", chunked(b"f" * 16 + b"\r\nhello\r\n" + _END + SMUGGLED), "9112 7.1", 400, 408, 413),
    refused("an extension of 1 MiB", chunked(b"5;" + b"a" * _MIB + b"\r\nhello\r\n" + _END), "9112 7.1.1", *_TOO_MUCH),
    refused(
        "4 MiB of extensions", chunked((b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 4096 + _END), "9112 7.1.1", *_TOO_MUCH
    ),
    refused("a trailer of 1 MiB", chunked(b"0\r\nX-A: " + b"b" * _MIB + b"\r\n\r\n"), "9112 7.1.2", *_TOO_MUCH),
    refused("1 MiB of trailers", chunked(b"0\r\n" + b"X-A: y\r\n" * (_MIB // 8) + b"\r\n"), "9112 7.1.2", *_TOO_MUCH),
    refused("a chunk that never ends", chunked(b"5\r\nhel"), "9112 8", 408),
    refused("chunks without an end", chunked(b"5\r\nhello\r\n"), "9112 8", 408),
    refused("a size that never ends", chunked(b"5"), "9112 8", 408),
]
