"""Drives langchain-openai: `python -m tests.real.clients.langchain`, obeying lines.py. Configured by environment."""

from importlib import import_module
from typing import Any

from tests.real.clients.lines import obey


def chat(model: str, text: str, **more: Any) -> dict[str, Any]:
    """One answer of a chat model, whole."""
    said = import_module("langchain_openai").ChatOpenAI(model=model, **more).invoke(text)
    return {"content": said.content, "usage": said.usage_metadata}


def stream(model: str, text: str, **more: Any) -> list[Any]:
    """The pieces of a streamed answer."""
    return [piece.content for piece in import_module("langchain_openai").ChatOpenAI(model=model, **more).stream(text)]


def embed(model: str, texts: list[str]) -> list[list[float]]:
    """Vectors; the texts are sent as they are, because counting them would fetch a vocabulary."""
    made = import_module("langchain_openai").OpenAIEmbeddings(model=model, check_embedding_ctx_length=False)
    vectors: list[list[float]] = made.embed_documents(texts)
    return vectors


if __name__ == "__main__":
    obey({"chat": chat, "stream": stream, "embed": embed}, import_module("openai").OpenAIError)
