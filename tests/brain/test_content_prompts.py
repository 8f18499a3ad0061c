"""Batches: texts, token ids, and lists of both."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.content_prompts import read_inputs
from gpubalancer.domain.errors import RequestError

IDS = st.lists(st.integers(0, 200_000), min_size=1, max_size=5)


@given(st.lists(st.text(max_size=5) | IDS, min_size=1).filter(lambda batch: not all(isinstance(i, int) for i in batch)))
def test_a_batch_adds_up(batch: list[str | list[int]]) -> None:
    """Each text is a message, each list of ids its length, and all are inputs."""
    read = read_inputs(batch, "input")
    assert [message.texts[0] for message in read.messages] == [item for item in batch if isinstance(item, str)]
    assert read.token_ids == sum(len(item) for item in batch if isinstance(item, list))
    assert read.size == len(batch)


def test_an_object_is_one_input() -> None:
    """All strings of an object belong to one document."""
    read = read_inputs([{"title": "a", "text": "b"}, "c"], "documents")
    assert [message.texts for message in read.messages] == [("a", "b"), ("c",)]
    assert read.size == 2


@pytest.mark.parametrize("value", [None, 1, {}, [], [[]], [None], [1, "a"], [[1, "a"]], [True], [[-1]], [-5], [1.5]])
def test_what_is_neither_text_nor_ids(value: object) -> None:
    """Other shapes are refused with the field's name."""
    with pytest.raises(RequestError) as caught:
        read_inputs(value, "input")
    assert caught.value.param == "input"
