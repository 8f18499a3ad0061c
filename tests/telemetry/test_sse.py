"""Server-sent events, however the bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.telemetry.sse import EVENT_BYTES, EventReader

STREAM = b": hello\n\nevent: gpus\ndata: {1}\n\ndata:a\ndata: b\r\nid: 7\r\n\r\nevent: empty\n\nevent:alarm\ndata: \n\n"
EVENTS = [("gpus", b"{1}"), ("message", b"a\nb"), ("alarm", b"")]


def test_events_are_read() -> None:
    """Names, data over several lines, both ends of lines; comments and events without data are passed over."""
    assert EventReader().feed(STREAM) == EVENTS


def test_an_event_without_its_end_is_not_there_yet() -> None:
    """Only the empty line completes an event."""
    reader = EventReader()
    assert reader.feed(b"event: gpus\ndata: 1\n") == []
    assert reader.feed(b"\n") == [("gpus", b"1")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=9))
def test_cuts_change_nothing(cuts: list[int]) -> None:
    """The same bytes in any pieces are the same events."""
    reader, at, events = EventReader(), 0, []
    for cut in [*sorted(cuts), len(STREAM)]:
        events += reader.feed(STREAM[at:cut])
        at = cut
    assert events == EVENTS


@pytest.mark.parametrize("chunk", [b"data: " + b"x" * 65536, b"data: " + b"x" * 65536 + b"\n"])
def test_an_endless_event_is_an_error(chunk: bytes) -> None:
    """A line or an event that never ends is given up before it fills the memory."""
    reader = EventReader()
    for _ in range(EVENT_BYTES // len(chunk)):
        assert reader.feed(chunk) == []
    with pytest.raises(ValueError, match="more than"):
        reader.feed(chunk * 2)


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_no_bytes_whatever_raise(chunks: list[bytes]) -> None:
    """Anything may come; names are texts and data are bytes."""
    reader = EventReader()
    for chunk in chunks:
        assert all(isinstance(name, str) and isinstance(data, bytes) for name, data in reader.feed(chunk))
