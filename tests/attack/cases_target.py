"""Request targets, absolute form, and Host (RFC 9112 3.2, RFC 3986)."""

from tests.attack.case import (
    HEAD_LIMIT_BYTES,
    TARGET_LIMIT_BYTES,
    Case,
    Seen,
    either,
    get,
    head,
    refused,
    served,
)

# Each must cross unchanged.
_GOOD_TARGETS = {
    "root": b"/",
    "query": b"/x?y=1&z=2",
    "empty query": b"/x?",
    "query with slashes and question marks": b"/x?u=http://b.example//c/../d?e",
    "encoded space": b"/x%20y?z=%20",
    "encoded letter stays encoded": b"/%41",
    "encoded UTF-8": b"/%c3%a9",
    "lower and upper hex": b"/%c3%A9",
    "sub-delims": b"/a!$&'()*+,;=:@b",
    "unreserved": b"/a-b.c_d~e",
    "three dots": b"/...",
    "a dot in front": b"/.well-known/x",
    "two dots inside a name": b"/a..b",
    "parameters": b"/a;b=c/d;e",
    "encoded NUL in the query": b"/x?y=%00",
    "encoded slash in the query": b"/x?y=%2f..%2f",
    "trailing slash": b"/x/",
    "8 KiB": b"/" + b"a" * (TARGET_LIMIT_BYTES - 1),
}

_BAD_TARGETS = {
    "dot-dot": b"/a/../b",
    "dot-dot first": b"/../b",
    "dot-dot last": b"/a/..",
    "dot": b"/a/./b",
    "dot last": b"/a/.",
    "two slashes first": b"//b.example/x",
    "two slashes": b"/a//b",
    "encoded slash": b"/a%2fb",
    "encoded slash in capitals": b"/a%2Fb",
    "encoded dot-dot": b"/a/%2e%2e/b",
    "half encoded dot-dot": b"/a/.%2E/b",
    "encoded dot": b"/a%2eb",
    "encoded backslash": b"/a%5cb",
    "encoded backslash in capitals": b"/a%5Cb",
    "encoded NUL": b"/a%00b",
    "fragment": b"/x#y",
    "percent at the end": b"/x%",
    "percent and one digit": b"/x%4",
    "percent and no digit": b"/x%zz",
    "percent u": b"/x%u0041",
    "percent in the query": b"/x?y=%g0",
    "percent at the end of the query": b"/x?y=%",
    "no slash": b"x",
    "only a query": b"?x",
    "authority form": b"a.example:80",
    "a scheme and one slash": b"http:/x",
    "a scheme and no authority": b"http:///x",
    "userinfo": b"http://u@b.example/x",
    "userinfo with a password": b"http://u:p@b.example/x",
    "another scheme": b"ftp://b.example/x",
    "a script": b"javascript:alert(1)",
    "dot-dot in absolute form": b"http://b.example/a/../x",
    "two slashes in absolute form": b"http://b.example//x",
    "bad port in absolute form": b"http://b.example:8x/x",
    "backslash for an authority": b"http://b.example\\@c.example/x",
    "fragment in absolute form": b"http://b.example/x#y",
}

_BAD_BYTES = b'"<>\\^`{|}#\x7f\x80\xff\x00\x01\x0b\x0c\x1f'

_BAD_HOSTS = {
    "none": (),
    "twice, equal": (b"Host: a.example", b"Host: a.example"),
    "twice, different": (b"Host: a.example", b"Host: b.example"),
    "twice, far apart and in another case": (b"Host: a.example", b"X-A: b", b"hOST: b.example"),
    "list": (b"Host: a.example, b.example",),
    "path": (b"Host: a.example/x",),
    "query": (b"Host: a.example?x",),
    "fragment": (b"Host: a.example#x",),
    "userinfo": (b"Host: u@a.example",),
    "scheme": (b"Host: http://a.example",),
    "space inside": (b"Host: a.example b.example",),
    "tab inside": (b"Host: a.example\tb.example",),
    "backslash": (b"Host: a.example\\b",),
    "two ports": (b"Host: a.example:80:80",),
    "port not a number": (b"Host: a.example:x",),
    "port with a sign": (b"Host: a.example:-80",),
    "open bracket": (b"Host: [::1",),
    "bracket and rubbish": (b"Host: [::1]x",),
    "bad percent": (b"Host: a%zz",),
    "obs-text": (b"Host: \xe4.example",),
    "NUL": (b"Host: a\x00b",),
    "angle brackets": (b"Host: <a.example>",),
    "quoted": (b'Host: "a.example"',),
    "space before its colon": (b"Host : a.example",),
    "folded": (b"Host:\r\n a.example",),
    "underscore in the name": (b"Ho_st: a.example",),
}

_GOOD_HOSTS = {
    "name": b"a.example",
    "name and port": b"a.example:8080",
    "IPv4": b"127.0.0.1:80",
    "IPv6": b"[::1]",
    "IPv6 and port": b"[::1]:80",
    "underscore": b"a_b.example",
    "capitals": b"A.EXAMPLE",
    "spaces around": b" \t a.example \t ",
}

_ABSOLUTE = Seen(target="/x?y=1")
_HTTP_1_0 = b" HTTP/1.0"

CASES: list[Case] = [
    *(
        served(f"target {name}", get(target=target), "9112 3.2.1", Seen(method="GET", target=target.decode()))
        for name, target in _GOOD_TARGETS.items()
    ),
    *(refused(f"target {name}", get(target=target), "9112 3.2, 3986 3.3") for name, target in _BAD_TARGETS.items()),
    *(
        refused(f"byte {byte:#04x} in {where}", get(target=before + bytes([byte]) + b"z"), "3986 2")
        for byte in _BAD_BYTES
        for where, before in (("path", b"/x"), ("query", b"/x?y="))
    ),
    refused("space in the path", get(target=b"/x y"), "9112 3"),
    refused("tab in the path", get(target=b"/x\ty"), "9112 3"),
    refused("no target", head(b"GET HTTP/1.1", b"Host: a.example"), "9112 3"),
    refused("empty target", head(b"GET  HTTP/1.1", b"Host: a.example"), "9112 3"),
    refused("asterisk", head(b"OPTIONS * HTTP/1.1", b"Host: a.example"), "9112 3.2.4", 400, 405),
    refused("asterisk for a get", get(target=b"*"), "9112 3.2.4", 400, 405),
    refused("CONNECT", head(b"CONNECT a.example:443 HTTP/1.1", b"Host: a.example:443"), "9110 9.3.6", 400, 405),
    refused("CONNECT with a path", head(b"CONNECT /x HTTP/1.1", b"Host: a.example"), "9110 9.3.6", 400, 405),
    refused("TRACE", head(b"TRACE /x HTTP/1.1", b"Host: a.example"), "9110 9.3.8", 400, 405),
    refused("target over 8 KiB", get(target=b"/" + b"a" * TARGET_LIMIT_BYTES), "9112 3", 414),
    refused("query over 8 KiB", get(target=b"/x?" + b"a" * TARGET_LIMIT_BYTES), "9112 3", 414),
    refused("target over the head's limit", get(target=b"/" + b"a" * HEAD_LIMIT_BYTES), "9112 3", 414, 431),
    served("absolute form", get(target=b"http://a.example/x?y=1"), "9112 3.2.2", _ABSOLUTE),
    served("absolute form with https", get(target=b"https://a.example/x?y=1"), "9112 3.2.2", _ABSOLUTE),
    served("absolute form with a port", get(target=b"http://a.example:8080/x?y=1"), "9112 3.2.2", _ABSOLUTE),
    served(
        "absolute form wins over Host",
        get(target=b"http://b.example/x"),
        "9112 3.2.2",
        Seen(target="/x", other_than={"host": "a.example"}),
    ),
    either("absolute form in capitals", get(target=b"HTTP://a.example/x?y=1"), "3986 3.1", _ABSOLUTE),
    either("absolute form without a path", get(target=b"http://a.example"), "9112 3.2.1", Seen(target="/")),
    either("absolute form with only a query", get(target=b"http://a.example?y"), "9112 3.2.1", Seen(target="/?y")),
    refused("absolute form without Host", head(b"GET http://a.example/x HTTP/1.1"), "9112 3.2"),
    refused("absolute form and two Hosts", get(b"Host: b.example", target=b"http://a.example/x"), "9112 3.2"),
    *(refused(f"Host {name}", head(b"GET /x HTTP/1.1", *lines), "9112 3.2") for name, lines in _BAD_HOSTS.items()),
    *(
        served(f"Host {name}", get(host=b"Host:" + value), "9112 3.2", Seen(method="GET", target="/x"))
        for name, value in _GOOD_HOSTS.items()
    ),
    either("Host empty", get(host=b"Host:"), "9110 7.2"),
    either("Host with an empty port", get(host=b"Host: a.example:"), "3986 3.2.3"),
    either("Host with port 99999", get(host=b"Host: a.example:99999"), "3986 3.2.3"),
    served("HTTP/1.0 without Host", head(b"GET /x" + _HTTP_1_0), "9112 3.2", Seen(target="/x"), closes=True),
    refused("HTTP/1.0 with two Hosts", head(b"GET /x" + _HTTP_1_0, *[b"Host: a.example"] * 2), "9112 3.2"),
    refused("HTTP/1.0 with a bad Host", head(b"GET /x" + _HTTP_1_0, b"Host: a/b"), "9112 3.2"),
]
