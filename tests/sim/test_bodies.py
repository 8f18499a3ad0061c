"""Request bodies: what is understood, what is refused."""

import pytest
from pydantic import ValidationError

from gpubalancer.sim.bodies import (
    ChatBody,
    CompletionBody,
    EmbeddingsBody,
    Message,
    MessagesBody,
    Part,
    RerankBody,
    ResponsesBody,
    TokenizeBody,
    chat_tokens,
    prompt_rows,
)
from gpubalancer.sim.words import tokenize

HELLO = [{"role": "user", "content": "hello"}]


def test_chat_asks() -> None:
    """Every field of a chat that matters arrives in the common form; unknown ones are let pass."""
    body = {"model": "m", "messages": HELLO, "n": 2, "max_tokens": 9, "max_completion_tokens": 8, "min_tokens": 3}
    body |= {
        "ignore_eos": True,
        "stop": ["a", ""],
        "seed": 4,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body |= {"cache_salt": "s", "tools": [{"type": "function"}], "never_heard_of": 1}
    ask = ChatBody.model_validate(body).ask()
    assert ask.prompts == (chat_tokens([Message(content="hello")]),)
    assert (ask.model, ask.n, ask.limit_tokens, ask.least_tokens) == ("m", 2, 8, 3)
    assert (ask.endless, ask.stop, ask.seed, ask.stream) == (True, ("a",), 4, True)
    assert (ask.include_usage, ask.salt) == (True, "s")


def test_content_may_be_parts_or_nothing() -> None:
    """Text parts are joined, other parts and an absent content are empty text."""
    parts = [Part(type="text", text="hel"), Part(type="image_url"), Part(type="text", text="lo")]
    assert chat_tokens([Message(content=parts)]) == chat_tokens([Message(content="hello")])
    assert Message(content=None).text == ""


def test_a_conversation_begins_with_its_own_beginning() -> None:
    """The next turn's prompt starts with this turn's prompt and answer, so that the prefix cache can find them."""
    asked = Message(content="what is it?")
    first = chat_tokens([asked])
    second = chat_tokens([asked, Message(role="assistant", content="the stone"), Message(content="and now?")])
    assert second[: len(first)] == first
    assert second[len(first) : len(first) + 2] == tokenize("the stone")


def test_tool_calls_are_part_of_the_prompt() -> None:
    """A message's tool calls make its prompt longer."""
    assert len(chat_tokens([Message(tool_calls=[{"name": "f"}])])) > len(chat_tokens([Message()]))


@pytest.mark.parametrize(
    ("prompt", "rows"),
    [
        ("a b", [tokenize("a b")]),
        (["a", "b"], [tokenize("a"), tokenize("b")]),
        ([5, 6], [[5, 6]]),
        ([[5, 6], [7]], [[5, 6], [7]]),
        (["", "a"], [tokenize("|"), tokenize("a")]),
    ],
)
def test_prompts_come_in_four_forms(prompt: object, rows: list[list[int]]) -> None:
    """A text, several texts, token numbers and several rows of them all become rows of numbers."""
    body = CompletionBody.model_validate({"model": "m", "prompt": prompt})
    assert prompt_rows(body.prompt) == rows
    assert body.ask().limit_tokens == 16


def test_stop_may_be_one_text() -> None:
    """`stop` as a single text is a list of one."""
    assert CompletionBody.model_validate({"model": "m", "prompt": "a", "stop": "x"}).ask().stop == ("x",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": []},
        {"messages": "hello"},
        {"max_tokens": 0},
        {"n": 0},
        {"n": 129},
        {"temperature": -1},
        {"model": None},
        {"stop": 5},
    ],
)
def test_wrong_fields_are_refused(wrong: dict[str, object]) -> None:
    """A field of the wrong type or range is refused by name."""
    with pytest.raises(ValidationError) as refused:
        ChatBody.model_validate({"model": "m", "messages": HELLO} | wrong)
    assert {finding["loc"][0] for finding in refused.value.errors()} == set(wrong)


def test_token_numbers_have_a_range() -> None:
    """Negative numbers and those beyond 31 bits are no tokens."""
    for numbers in ([-1], [1 << 31], [[1], [-1]]):
        with pytest.raises(ValidationError):
            CompletionBody.model_validate({"model": "m", "prompt": numbers})


def test_messages_ask() -> None:
    """Anthropic's system text comes first, and its stop sequences and limit arrive."""
    body = MessagesBody.model_validate(
        {
            "model": "m",
            "system": "be brief",
            "messages": HELLO,
            "max_tokens": 7,
            "stop_sequences": ["x"],
            "stream": True,
        }
    )
    ask = body.ask()
    assert ask.prompts == (chat_tokens([Message(role="system", content="be brief"), Message(content="hello")]),)
    assert (ask.limit_tokens, ask.stop, ask.stream) == (7, ("x",), True)


def test_responses_ask() -> None:
    """An input text is a user's message, instructions come first, and items are read as messages."""
    text = ResponsesBody.model_validate({"model": "m", "input": "hello", "max_output_tokens": 7}).ask()
    assert text.prompts == (chat_tokens([Message(content="hello")]),)
    assert text.limit_tokens == 7
    items = ResponsesBody.model_validate({"model": "m", "input": HELLO, "instructions": "x"}).ask()
    assert items.prompts == (chat_tokens([Message(role="system", content="x"), Message(content="hello")]),)


def test_embeddings_and_ranks_ask_for_no_output() -> None:
    """Each input or pair is a prompt, and nothing is to be produced."""
    embeddings = EmbeddingsBody.model_validate({"model": "m", "input": ["a", "b"]}).ask()
    assert (len(embeddings.prompts), embeddings.limit_tokens) == (2, 0)
    ranks = RerankBody.model_validate({"model": "m", "query": "q", "documents": ["a", "b"]}).ask()
    assert ranks.prompts == (tokenize("q|a"), tokenize("q|b"))
    assert ranks.limit_tokens == 0


def test_tokenize_reads_prompt_or_messages() -> None:
    """A prompt wins over messages; without either there is the bare template."""
    assert TokenizeBody.model_validate({"prompt": "a b"}).tokens == tokenize("a b")
    assert TokenizeBody.model_validate({"messages": HELLO}).tokens == chat_tokens([Message(content="hello")])
