"""One book for all models of a policy."""

import pytest

from gpubalancer.brain.content import read_content
from gpubalancer.brain.tokens.book import TokenBook
from gpubalancer.brain.tokens.tokenizer import TokenizerError

CHAT = read_content("chat", {"messages": [{"role": "user", "content": "hello world"}]})


def test_models_share_tokenizers() -> None:
    """Two models of one tokenizer share its cache; a model without one is estimated."""
    book = TokenBook({"a": "cl100k_base", "b": "cl100k_base", "c": "llama3"}, 1)
    assert book.counting("a") is book.counting("b")
    assert book.plan(CHAT, "a").known_tokens == 2 + 7
    assert book.plan(CHAT, "c").known_tokens == 2 + 1 + 4 + 1 + 4
    for unknown in ("d", None):
        assert book.counting(unknown) is None
        assert book.plan(CHAT, unknown).texts == [("hello world", 1)]


def test_a_new_book_takes_over() -> None:
    """What both policies have is not loaded again and keeps its cache; what is gone is gone."""
    first = TokenBook({"a": "cl100k_base", "b": "llama3"}, 1)
    second = TokenBook({"a": "cl100k_base", "c": "qwen3"}, 2, earlier=first)
    assert second.counting("a") is first.counting("a")
    assert second.counting("b") is None
    assert repr(second) == "TokenBook({'a': Counting(cl100k_base, 0 cached), 'c': Counting(qwen3, 0 cached)})"


def test_an_unknown_tokenizer_stops_the_policy() -> None:
    """A wrong name is an error when the book is made, not at a request."""
    with pytest.raises(TokenizerError, match="no tokenizer 'nothing'"):
        TokenBook({"a": "nothing"}, 1)
