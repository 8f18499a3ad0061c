"""Embeddings and ranks."""

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.sim.bodies import EmbeddingsBody, RerankBody
from gpubalancer.sim.shapes import Usage
from gpubalancer.sim.vectors import DIMENSIONS, embeddings, ranking, relevance, unit_vector


@given(st.lists(st.integers(0, 2**31 - 1), max_size=20), st.integers(1, 300))
def test_vectors_are_of_length_one_and_repeatable(tokens: list[int], dimensions: int) -> None:
    """Any tokens give a vector of the size asked for, with norm one, the same each time."""
    vector = unit_vector(tokens, dimensions)
    assert vector.shape == (dimensions,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(vector, unit_vector(tokens, dimensions))


def test_base64_holds_the_same_numbers() -> None:
    """The base64 form decodes to the float form, bit for bit."""
    ask = {"model": "m", "input": ["a", "b"]}
    usage = Usage(2)
    plain = embeddings(EmbeddingsBody.model_validate(ask), "1", 5, usage)
    coded = embeddings(EmbeddingsBody.model_validate(ask | {"encoding_format": "base64"}), "1", 5, usage)
    assert [len(item["embedding"]) for item in plain["data"]] == [DIMENSIONS] * 2
    for one, other in zip(plain["data"], coded["data"], strict=True):
        assert np.frombuffer(base64.b64decode(other["embedding"]), "<f4").tolist() == one["embedding"]
    assert plain["usage"]["prompt_tokens"] == 2


def test_dimensions_are_the_request_s() -> None:
    """`dimensions` sets the length."""
    body = EmbeddingsBody.model_validate({"model": "m", "input": "a", "dimensions": 5})
    assert len(embeddings(body, "1", 5, Usage(1))["data"][0]["embedding"]) == 5


def test_relevance_is_the_share_of_the_query_found() -> None:
    """Half of the query's words in a document is a relevance of one half, letter case aside."""
    assert relevance("red stone", "A Stone in the garden") == 0.5
    assert relevance("red stone", "stone, Red") == 1
    assert relevance("red", "blue") == 0


def test_ranking_is_sorted_and_cut() -> None:
    """The most relevant come first with the index they were given at, at most `top_n`."""
    ask = {"model": "m", "query": "red stone", "documents": ["x", "red stone", "red"], "top_n": 2}
    ranks = ranking(RerankBody.model_validate(ask), "1", Usage(9))
    assert [(result["index"], result["relevance_score"]) for result in ranks["results"]] == [(1, 1.0), (2, 0.5)]
    assert ranks["usage"] == {"total_tokens": 9}
