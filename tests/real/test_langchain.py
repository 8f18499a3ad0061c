"""langchain-openai works unchanged: it stands on the `openai` SDK and adds habits of its own."""

from collections.abc import Iterator

import pytest

from tests.real.conftest import Clients, Front
from tests.real.programs import Program

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def langchain(front: Front, clients: Clients) -> Iterator[Program]:
    """The program that drives it."""
    with clients(front.balancer, "openai2", "openai", module="langchain") as program:
        yield program


@pytest.mark.parametrize("model", ["tiny", "gemma"])
def test_a_chat_is_answered(langchain: Program, model: str) -> None:
    """`ChatOpenAI.invoke` gives text and usage."""
    said = langchain.ask("chat", model=model, text="Say hello.", max_tokens=5)
    assert said["content"]
    assert said["usage"]["output_tokens"] > 0


@pytest.mark.parametrize("model", ["tiny", "gemma"])
def test_a_chat_is_streamed(langchain: Program, model: str) -> None:
    """`ChatOpenAI.stream` gives pieces."""
    assert sum(map(bool, langchain.ask("stream", model=model, text="Say hello.", max_tokens=8))) >= 4


def test_texts_become_vectors(langchain: Program) -> None:
    """`OpenAIEmbeddings` gives a vector for each text."""
    first, second = langchain.ask("embed", model="embedder", texts=["a cat", "the law"])
    assert len(first) == len(second) == 640
    assert first != second


def test_an_unknown_model_is_not_found(langchain: Program) -> None:
    """The SDK's `NotFoundError`, which LangChain refines by its code, comes through."""
    assert "NotFoundError" in langchain.refused("chat", model="no-such-model", text="Say hello.").kinds
