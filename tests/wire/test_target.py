"""Request targets: what is accepted is what is sent on; the rest is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.domain.errors import RequestError
from gpubalancer.wire.target import check_host, read_target

PATH_CHARACTERS = "abcXYZ019-_~!$&'()*+,;=:@"
SEGMENTS = st.text(PATH_CHARACTERS, min_size=1, max_size=8)
QUERIES = st.none() | st.text(PATH_CHARACTERS + "/?", max_size=12)


@given(st.lists(SEGMENTS, max_size=5), QUERIES)
def test_a_plain_target_is_sent_as_it_came(segments: list[str], query: str | None) -> None:
    """Path and query of any target without ambiguity are kept to the byte."""
    path = "/" + "/".join(segments)
    raw = path if query is None else f"{path}?{query}"
    target = read_target(raw.encode())
    assert (target.path, target.query, target.authority, target.origin_form) == (path, query, None, raw)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_target_or_refused(raw: bytes) -> None:
    """Arbitrary bytes either are sent on unchanged or raise `RequestError`; nothing else happens."""
    try:
        target = read_target(b"/" + raw)
    except RequestError as error:
        assert error.status == 400  # noqa: PT017
    else:
        assert target.origin_form.encode() == b"/" + raw


@given(st.lists(st.sampled_from(["a", "/", ".", "..", "%2e", "%2F", "%5c", "%00", "%41", "?", "#", " "]), max_size=8))
def test_no_accepted_path_can_be_normalised(parts: list[str]) -> None:
    """Of an accepted path no segment is empty, `.` or `..`, and no separator is escaped."""
    try:
        path = read_target(("/" + "".join(parts)).encode()).path
    except RequestError:
        return
    segments = path[1:].split("/")
    assert not {".", ".."} & set(segments)
    assert "" not in segments[:-1]
    assert not any(escaped in path.lower() for escaped in ("%2e", "%2f", "%5c", "%00"))


@pytest.mark.parametrize(
    ("raw", "authority", "origin"),
    [
        (b"http://a/x?y", b"a", "/x?y"),
        (b"HTTPS://a:443/x", b"a:443", "/x"),
        (b"http://a", b"a", "/"),
        (b"http://a?y=1", b"a", "/?y=1"),
        (b"http://[::1]:80/", b"[::1]:80", "/"),
    ],
)
def test_absolute_form(raw: bytes, authority: bytes, origin: str) -> None:
    """A URL gives its authority and its origin-form (RFC 9112 section 3.2.2)."""
    target = read_target(raw)
    assert (target.authority, target.origin_form) == (authority, origin)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"*", b"x", b"a:443", b"ftp://a/", b"http://", b"http:///x", b"http://u@a/x", b"/x#f", b"/ x",
        b"/\xc3\xa9", b"/%", b"/%4", b"/%zz", b"//a", b"/a//b", b"/./a", b"/a/..", b"/a/../b", b"/a/.", b"/%2e%2e/a",
        b"/a%2Fb", b"/a%5Cb", b"/a%00", b"/a%0d%0a", b"/a\\b", b"/a?b%", b"/a?b#c", b'/"', b"/<", b"/{", b"/a\n",
    ],
)  # fmt: skip
def test_what_is_refused(raw: bytes) -> None:
    """Other forms, characters outside RFC 3986 and paths that could be normalised are refused with 400."""
    with pytest.raises(RequestError) as caught:
        read_target(raw)
    assert caught.value.status == 400


def test_dots_in_names_and_a_slash_at_the_end_are_fine() -> None:
    """Only whole dot segments are ambiguous."""
    for raw in (b"/v1/models/llama-3.1-8b", b"/.well-known", b"/a/...", b"/a/", b"/", b"/x?p=../y//z"):
        assert read_target(raw).origin_form.encode() == raw


def test_parameters() -> None:
    """The first value of a query parameter is decoded; a missing one is None."""
    target = read_target(b"/x?model=a%2Fb&model=c&empty=")
    assert target.parameter("model") == "a/b"
    assert target.parameter("empty") is None
    assert read_target(b"/x").parameter("model") is None


@pytest.mark.parametrize("raw", [b"a", b"a.example:8080", b"127.0.0.1", b"[::1]", b"[::1]:80", b"a_b", b"x" * 300])
def test_hosts(raw: bytes) -> None:
    """Names and addresses with an optional port are accepted."""
    check_host(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"a b",
        b"a,b",
        b"a/b",
        b"a:",
        b"a:x",
        b"a:123456",
        b"u@a",
        b"a?b",
        b"[::1",
        b"::1",
        b"a\n",
        b"\xff",
        b"[::g]",
    ],
)
def test_bad_hosts(raw: bytes) -> None:
    """Anything else is refused as `invalid_host`."""
    with pytest.raises(RequestError) as caught:
        check_host(raw)
    assert caught.value.code == "invalid_host"
