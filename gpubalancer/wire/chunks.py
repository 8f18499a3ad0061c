"""Chunks of an answer (RFC 9112 section 7.1) that need no parser.

Engines write each event of a stream as one chunk, which arrives in one read. Such data leaves a parser that stands
between two chunks where it was, and it is byte for byte what we would write for its content: it may go on as it came.
"""

_MOST_SIZE_LINE_BYTES = 10
"""Eight hexadecimal digits and CRLF."""


def only_chunk(data: bytes) -> bytes | None:
    """What is in a chunk, if the data is exactly one chunk, in canonical form and not the last; None if it is not."""
    start = data.find(b"\r\n", 0, _MOST_SIZE_LINE_BYTES) + 2
    size = len(data) - start - 2
    if size > 0 and data.startswith(b"%x\r\n" % size) and data.endswith(b"\r\n"):
        return data[start:-2]
    return None
