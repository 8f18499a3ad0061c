"""Embeddings and ranks: answers without output tokens.

An embedding is the same for the same tokens: random directions drawn from their checksum, of length one. A document's
relevance is the share of the query's tokens that it contains.
"""

import base64
from array import array
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from gpubalancer.sim.bodies import EmbeddingsBody, RerankBody
from gpubalancer.sim.shapes import Json, Usage
from gpubalancer.sim.words import tokenize

DIMENSIONS = 1024
"""Length of a vector unless the request says otherwise."""


def unit_vector(tokens: Sequence[int], dimensions: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """The direction of these tokens, `dimensions` long, with a Euclidean norm of one."""
    digest = blake2b(array("I", tokens).tobytes(), digest_size=8).digest()
    raw = np.random.default_rng(int.from_bytes(digest, "big")).standard_normal(dimensions)
    return (raw / np.linalg.norm(raw)).astype("<f4")


def embeddings(body: EmbeddingsBody, number: str, created: int, usage: Usage) -> Json:
    """The answer to `/v1/embeddings`; base64 holds little-endian 32-bit floats, as OpenAI's clients expect."""
    data: list[Json] = []
    for index, row in enumerate(body.ask().prompts):
        vector = unit_vector(row, body.dimensions or DIMENSIONS)
        shown: str | list[float] = vector.tolist()
        if body.encoding_format == "base64":
            shown = base64.b64encode(vector.tobytes()).decode()
        data.append({"index": index, "object": "embedding", "embedding": shown})
    head = {"id": f"embd-{number}", "object": "list", "created": created, "model": body.model}
    return head | {"data": data, "usage": usage.openai()}


def relevance(query: str, document: str) -> float:
    """Share of the query's tokens that the document contains, letter case and leading spaces aside."""
    wanted = set(tokenize(_plain(query)))
    return len(wanted & set(tokenize(_plain(document)))) / len(wanted)


def _plain(text: str) -> str:
    return " " + " ".join(text.lower().split())


def ranking(body: RerankBody, number: str, usage: Usage) -> Json:
    """The answer to `/v1/rerank`: most relevant first, ties in the order given, at most `top_n`."""
    results: list[Json] = [
        {"index": index, "document": {"text": text}, "relevance_score": relevance(body.query, text)}
        for index, text in enumerate(body.documents)
    ]
    results.sort(key=lambda result: -result["relevance_score"])
    kept = results[: body.top_n or None]
    return {
        "id": f"rerank-{number}",
        "model": body.model,
        "usage": {"total_tokens": usage.prompt_tokens},
        "results": kept,
    }
