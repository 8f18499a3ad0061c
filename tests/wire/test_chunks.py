"""Whole chunks that pass without a parser, and everything that must not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.wire.chunks import only_chunk


@given(st.binary(min_size=1, max_size=70_000))
def test_a_whole_chunk_in_canonical_form_is_recognised(content: bytes) -> None:
    """Whatever is in it, line ends and digits included."""
    assert only_chunk(b"%x\r\n%b\r\n" % (len(content), content)) == content


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"0\r\n\r\n",
        b"5\r\nhello",
        b"5\r\nhello\r",
        b"5\r\nhell\r\n",
        b"5\r\nhello!\r\n",
        b"05\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5;a=b\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhelloxx",
        b"A\r\n0123456789\r\n",
        b"1\r\na\r\n1\r\nb\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_anything_else_is_left_to_the_parser(data: bytes) -> None:
    """Two chunks, a part of one, an extension, another spelling of the size, or the end of the body."""
    assert only_chunk(data) is None


@given(st.binary(max_size=60))
def test_what_is_recognised_is_one_chunk_and_nothing_else(data: bytes) -> None:
    """Recognised data is, byte for byte, what we would have written for its content."""
    content = only_chunk(data)
    assert content is None or data == b"%x\r\n%b\r\n" % (len(content), content)
