"""What all shapes share."""

from gpubalancer.sim.shapes import Said, Usage, event, named_event


def test_usage_in_openai_s_words() -> None:
    """Totals add up, and the cached part is a detail of the prompt."""
    assert Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=3).openai() == {
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 4},
    }


def test_events() -> None:
    """An event is one data line and an empty one; a named event has its type in front."""
    assert event({"a": 1}) == b'data: {"a":1}\n\n'
    assert named_event({"type": "x.y", "a": 1}) == b'event: x.y\ndata: {"type":"x.y","a":1}\n\n'


def test_said_joins_its_pieces() -> None:
    """What has been said is all pieces in a row."""
    assert Said(["a", "", " b"]).text == "a b"
