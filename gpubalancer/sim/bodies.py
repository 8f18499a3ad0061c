"""Request bodies: checked JSON in, one `Ask` out.

Each API's body is a pydantic model that ignores what it does not know, as vLLM does, and turns itself into the same
`Ask`, so that the server has one way to generate. Prompts are token numbers from here on.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from gpubalancer.sim.words import tokenize

Count = Annotated[int, Field(ge=1)]
TokenNumbers = list[Annotated[int, Field(ge=0, lt=1 << 31)]]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a call wants: `n` answers to each prompt, each of at most `limit_tokens` (None: what the context holds)."""

    model: str
    prompts: tuple[Sequence[int], ...]
    n: int = 1
    limit_tokens: int | None = None
    least_tokens: int = 0
    endless: bool = False
    stop: tuple[str, ...] = ()
    seed: int | None = None
    stream: bool = False
    include_usage: bool = False
    salt: str = ""


class Part(BaseModel):
    """One piece of a message's content; only text is read."""

    type: str
    text: str = ""


class Message(BaseModel):
    """One message of a conversation, on any of the APIs."""

    role: str = "user"
    content: str | list[Part] | None = None
    tool_calls: list[Any] = []

    @property
    def text(self) -> str:
        """All text of the message."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


def chat_tokens(messages: Iterable[Message]) -> list[int]:
    """A conversation as its template writes it: role, text and an end mark for each message, then the answer's role."""
    tokens: list[int] = []
    for message in messages:
        tokens += tokenize(f"<{message.role}>")
        tokens += tokenize(message.text)
        for call in message.tool_calls:
            tokens += tokenize(str(call))
        tokens += _END
    return tokens + _ANSWER


_END = tokenize("|")
_ANSWER = tokenize("<assistant>")


class Asking(BaseModel, ABC):
    """A body that the engine can work on."""

    @abstractmethod
    def ask(self) -> Ask:
        """The common form."""


class StreamOptions(BaseModel):
    """`stream_options`."""

    include_usage: bool = False


class Sampling(Asking):
    """Fields that chat and completions share."""

    model: str
    n: int = Field(default=1, ge=1, le=128)
    max_tokens: Count | None = None
    min_tokens: int = Field(default=0, ge=0)
    ignore_eos: bool = False
    stop: str | list[str] | None = None
    seed: int | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    cache_salt: str = ""

    def _ask(self, prompts: Sequence[Sequence[int]], limit_tokens: int | None) -> Ask:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Ask(
            model=self.model,
            prompts=tuple(prompts),
            n=self.n,
            limit_tokens=limit_tokens,
            least_tokens=self.min_tokens,
            endless=self.ignore_eos,
            stop=tuple(word for word in stop if word),
            seed=self.seed,
            stream=self.stream,
            include_usage=self.stream_options is not None and self.stream_options.include_usage,
            salt=self.cache_salt,
        )


class ChatBody(Sampling):
    """`POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: Count | None = None

    def ask(self) -> Ask:
        """The common form."""
        return self._ask([chat_tokens(self.messages)], self.max_completion_tokens or self.max_tokens)


class CompletionBody(Sampling):
    """`POST /v1/completions`: text, several texts, token numbers or several rows of them; 16 tokens unless told."""

    prompt: str | TokenNumbers | list[str] | list[TokenNumbers] = Field(min_length=1)
    max_tokens: Count | None = 16

    def ask(self) -> Ask:
        """The common form."""
        return self._ask(prompt_rows(self.prompt), self.max_tokens)


class MessagesBody(Asking):
    """`POST /v1/messages` and, without `max_tokens`, `POST /v1/messages/count_tokens`."""

    model: str
    messages: list[Message] = Field(min_length=1)
    system: str | list[Part] | None = None
    max_tokens: Count | None = None
    stop_sequences: list[str] = []
    stream: bool = False

    @property
    def tokens(self) -> list[int]:
        """The prompt, system text first."""
        system = [] if self.system is None else [Message(role="system", content=self.system)]
        return chat_tokens(system + self.messages)

    def ask(self) -> Ask:
        """The common form."""
        stop = tuple(word for word in self.stop_sequences if word)
        return Ask(self.model, (self.tokens,), limit_tokens=self.max_tokens, stop=stop, stream=self.stream)


class ResponsesBody(Asking):
    """`POST /v1/responses`; items of the input other than messages are not read."""

    model: str
    input: str | list[Message] = Field(min_length=1)
    instructions: str | None = None
    max_output_tokens: Count | None = None
    stream: bool = False

    def ask(self) -> Ask:
        """The common form."""
        messages = [Message(content=self.input)] if isinstance(self.input, str) else self.input
        system = [] if self.instructions is None else [Message(role="system", content=self.instructions)]
        prompts = (chat_tokens(system + messages),)
        return Ask(self.model, prompts, limit_tokens=self.max_output_tokens, stream=self.stream)


class EmbeddingsBody(Asking):
    """`POST /v1/embeddings`."""

    model: str
    input: str | TokenNumbers | list[str] | list[TokenNumbers] = Field(min_length=1)
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1, le=4096)

    def ask(self) -> Ask:
        """The common form, with no output."""
        return Ask(self.model, tuple(prompt_rows(self.input)), limit_tokens=0)


class RerankBody(Asking):
    """`POST /v1/rerank`."""

    model: str
    query: str = Field(min_length=1)
    documents: list[str] = Field(min_length=1)
    top_n: int = Field(default=0, ge=0)

    def ask(self) -> Ask:
        """The common form: one prompt per pair of query and document, with no output."""
        pairs = tuple(tokenize(f"{self.query}|{document}") for document in self.documents)
        return Ask(self.model, pairs, limit_tokens=0)


class TokenizeBody(BaseModel):
    """`POST /tokenize`: a prompt or a conversation."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] = []

    @property
    def tokens(self) -> list[int]:
        """The token numbers."""
        return chat_tokens(self.messages) if self.prompt is None else tokenize(self.prompt)


def prompt_rows(prompt: str | TokenNumbers | list[str] | list[TokenNumbers]) -> list[Sequence[int]]:
    """Rows of token numbers from any of the forms that a prompt may have; an empty text becomes one token."""
    if isinstance(prompt, str):
        return [tokenize(prompt) or _END]
    rows: list[Sequence[int]] = []
    numbers: list[int] = []
    for item in prompt:
        if isinstance(item, int):
            numbers.append(item)
        else:
            rows.append((tokenize(item) if isinstance(item, str) else item) or _END)
    return [numbers] if numbers else rows
