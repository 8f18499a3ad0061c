"""Chat templates of the families, against their published text."""

from collections.abc import Callable

import pytest

from gpubalancer.brain.content import Content, read_content
from gpubalancer.brain.tokens.counting import Counting
from gpubalancer.brain.tokens.vocabularies import load, reference

quicktok = pytest.importorskip("quicktok")

TURNS = [
    ("system", "You are terse."),
    ("user", "  Why is the sky blue?\n"),
    ("assistant", "Rayleigh scattering.\n\nShort waves scatter more."),
    ("user", "\n\nAnd at dusk? \U0001f305 \u591a\u8b1d"),
]


def content(turns: list[tuple[str, str]], **fields: object) -> Content:
    """A chat of these turns."""
    return read_content("chat", {"messages": [{"role": role, "content": text} for role, text in turns], **fields})


def llama3(turns: list[tuple[str, str]], system: str = "") -> str:
    """Llama 3's prompt, spelt out."""
    spelt = [(role, text.strip()) for role, text in turns]
    if system:
        spelt.insert(0, ("system", system))
    body = "".join(f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>" for role, text in spelt)
    return f"<|begin_of_text|>{body}<|start_header_id|>assistant<|end_header_id|>\n\n"


def llama31(turns: list[tuple[str, str]]) -> str:
    """Llama 3.1's, which opens with dates."""
    dates = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
    own = turns[0][1].strip() if turns[0][0] == "system" else ""
    return llama3([turn for turn in turns if turn[0] != "system"], dates + own)


def chatml(turns: list[tuple[str, str]]) -> str:
    """Qwen 3's."""
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + "<|im_start|>assistant\n"


def qwen25(turns: list[tuple[str, str]]) -> str:
    """Qwen 2.5's, which has a system prompt of its own."""
    default = ("system", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")
    return chatml(turns if turns[0][0] == "system" else [default, *turns])


@pytest.mark.parametrize("turns", [TURNS, TURNS[1:], TURNS[1:2]])
@pytest.mark.parametrize(
    ("name", "encoding", "spelt"),
    [
        ("llama3", "llama3", llama3),
        ("llama3.1", "llama3", llama31),
        ("qwen2.5", "qwen3", qwen25),
        ("qwen3", "qwen3", chatml),
    ],
)
def test_a_conversation_counts_as_its_prompt(
    name: str, encoding: str, spelt: Callable[[list[tuple[str, str]]], str], turns: list[tuple[str, str]]
) -> None:
    """The sum over segments and special tokens is the length of the whole prompt, tokenized with its specials."""
    expected = len(quicktok.get_encoding(encoding).encode_with_special(spelt(turns)))
    assert Counting(load(name), 1).plan(content(turns)).known_tokens == expected


def test_openai() -> None:
    """The cookbook's rule: 3 for each message, its role and text, and 3 at the end."""
    encoding = reference("cl100k_base")
    expected = 3 + sum(
        3 + len(encoding.encode_ordinary(role)) + len(encoding.encode_ordinary(text)) for role, text in TURNS
    )
    assert Counting(load("cl100k_base"), 1).plan(content(TURNS)).known_tokens == expected


def test_tools_cost_their_text_and_more() -> None:
    """A tool adds at least the tokens of its JSON text, for every family."""
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    for name in ("gpt-4o", "llama3.1", "qwen3"):
        counting = Counting(load(name), 1)
        bare, with_tool = content(TURNS), content(TURNS, tools=[tool])
        added = counting.plan(with_tool).known_tokens - counting.plan(bare).known_tokens
        assert added > counting.tokenizer.count(with_tool.tools[0])


def test_parts_are_one_message() -> None:
    """Parts of a content are joined, not given a header each."""
    parts = read_content("chat", {"messages": [{"role": "user", "content": ["one", "two"]}]})
    counting = Counting(load("qwen3"), 1)
    assert counting.plan(parts).known_tokens == counting.plan(content([("user", "one\ntwo")])).known_tokens
