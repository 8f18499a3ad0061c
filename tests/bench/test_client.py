"""What the load generator takes for a right answer."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.client import StreamAnswer, StreamTally, UnaryAnswer
from bench.prompts import ANSWER_TEXT, MARKER

EVENT = f'data: {{"choices": [{{"delta": {{"content": "{MARKER}"}}}}]}}\n\n'.encode()
DONE = b"data: [DONE]\n\n"


def stream_answer(expected: int) -> StreamAnswer:
    """An answer that waits for so many events."""
    return StreamAnswer(expected, StreamTally(on_open=lambda: None))


def feed(answer: StreamAnswer, data: bytes, sizes: list[int]) -> None:
    """Feed the bytes in pieces of these sizes, the last one as long as it must be."""
    for size in sizes:
        answer.feed(data[:size])
        data = data[size:]
    answer.feed(data)


def test_unary_text_must_be_the_servers() -> None:
    """Other fields and another order do not matter; the text does."""
    answer = UnaryAnswer()
    body = orjson.dumps({"x": 1, "choices": [{"message": {"content": ANSWER_TEXT}}]})
    answer.feed(body[:10])
    answer.feed(body[10:])
    assert answer.fault() == ""


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"choices":[]}', b'{"choices":[{"message":{"content":"other"}}]}']
)
def test_unary_body_that_is_wrong(body: bytes) -> None:
    """Cut, empty, of another shape or with another text: all are wrong, none raises."""
    answer = UnaryAnswer()
    answer.feed(body)
    assert answer.fault() == "wrong body"


@given(st.integers(1, 9), st.lists(st.integers(1, 30), max_size=40))
def test_events_are_counted_however_the_bytes_are_cut(events: int, sizes: list[int]) -> None:
    """Each event counts once and the end is seen, whatever pieces the network makes."""
    answer = stream_answer(events)
    feed(answer, EVENT * events + DONE, sizes)
    assert (answer.events, answer.fault()) == (events, "")
    assert answer.first_s is not None


@given(st.integers(0, 4), st.lists(st.integers(1, 30), max_size=40))
def test_lost_events_are_a_fault(events: int, sizes: list[int]) -> None:
    """A stream with `[DONE]` but fewer events than asked for is not right."""
    answer = stream_answer(5)
    feed(answer, EVENT * events + DONE, sizes)
    assert answer.fault() == "stream with lost events"


def test_stream_without_its_end_is_a_fault() -> None:
    """All events and no `[DONE]` is a broken stream."""
    answer = stream_answer(2)
    answer.feed(EVENT * 2)
    assert answer.fault() == "stream without its end"


def test_tally_is_of_all_streams() -> None:
    """Two streams count into one tally: events of both, and one opening each."""
    opened = []
    tally = StreamTally(on_open=lambda: opened.append(1))
    for answer in (StreamAnswer(2, tally), StreamAnswer(2, tally)):
        answer.feed(EVENT)
        answer.feed(EVENT)
    assert (tally.opened, tally.events, len(opened)) == (2, 4, 2)
