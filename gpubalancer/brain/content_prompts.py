"""Prompts and inputs as completions, embeddings and rerank take them: a text, token ids, or a list of either."""

from typing import NamedTuple

from gpubalancer.brain.content_fields import refuse, walk
from gpubalancer.brain.content_parts import Message

_WHAT = "a text, a list of texts, token ids or a list of lists of token ids"


class Inputs(NamedTuple):
    """A batch: one message per text, and the number of token ids in all others."""

    messages: tuple[Message, ...] = ()
    token_ids: int = 0
    size: int = 0


def read_inputs(value: object, where: str) -> Inputs:
    """A batch of prompts.

    Raises:
        RequestError: `invalid_json` for what is neither texts nor token ids, and for an empty list.
    """
    if isinstance(value, str):
        return Inputs((Message("user", (value,)),), 0, 1)
    if not isinstance(value, list) or not value:
        raise refuse(where, _WHAT)
    # The set of types is what keeps 100,000 token ids cheap: one pass without Python code for each.
    types = set(map(type, value))
    if types == {str}:
        return Inputs(tuple([Message("user", (text,)) for text in value]), 0, len(value))
    if types == {int}:
        return Inputs((), _ids(value, where), 1)
    if types <= {str, list, dict}:
        return _mixed(value, where)
    raise refuse(where, _WHAT)


def _mixed(value: list[object], where: str) -> Inputs:
    """Lists of token ids, texts, and objects that hold texts (rerank's documents, embeddings' parts)."""
    messages, token_ids = [], 0
    for item in value:
        if isinstance(item, str):
            messages.append(Message("user", (item,)))
        elif isinstance(item, list):
            if set(map(type, item)) != {int}:
                raise refuse(where, _WHAT)
            token_ids += _ids(item, where)
        else:
            texts: list[str] = []
            walk(item, where, texts)
            messages.append(Message("user", tuple(texts)))
    return Inputs(tuple(messages), token_ids, len(value))


def _ids(ids: list[int], where: str) -> int:
    if min(ids) < 0:
        raise refuse(where, _WHAT)
    return len(ids)
