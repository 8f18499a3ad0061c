"""Chat templates of the known families: what is put around messages, as texts and a number of special tokens.

| family | around each message | at the end |
|---|---|---|
| OpenAI | 3 and the role | 3 |
| ChatML (Qwen) | `<|im_start|>` role newline ... `<|im_end|>` newline | `<|im_start|>assistant` newline |
| Llama 3 | `<|start_header_id|>` role `<|end_header_id|>` 2 newlines ... `<|eot_id|>` | the header of `assistant` |

OpenAI's numbers are those of its cookbook ("How to count tokens with tiktoken"), the other two of the models' published
templates. Special tokens cut a text before it is tokenized, so what stands between two of them is counted for itself,
exactly. Calls and results of tools are laid out by each template in its own way; here they are counted as the texts
that they consist of. A model whose template must be followed to the letter names its `tokenizer.json`
(`tokens/chat_template.py`).
"""

from collections.abc import Callable
from typing import NamedTuple

from gpubalancer.brain.content import Content
from gpubalancer.brain.content_parts import Message
from gpubalancer.brain.tokens.tokenizer import Rendered, Template


class ToolCost(NamedTuple):
    """Tokens beside the JSON text of tools."""

    once: int
    each: int


_OPENAI_TOOLS = ToolCost(12, 7)
"""The cookbook's `func_end` and `func_init` for gpt-4o."""
_QWEN_TOOLS = ToolCost(90, 1)
"""Qwen's "# Tools" paragraph, and the newline in front of each tool."""
_LLAMA_TOOLS = ToolCost(60, 1)
"""Llama 3.1's paragraph about functions in the first user message."""


def spoken(message: Message) -> str:
    """All texts of a message as one; engines join parts by newlines (vLLM) or nothing, which is a token either way."""
    return message.texts[0] if len(message.texts) == 1 else "\n".join(message.texts)


def with_tools(content: Content, segments: list[str], tokens: int, cost: ToolCost) -> Rendered:
    """Add the tools of a request."""
    if not content.tools:
        return Rendered(segments, tokens)
    return Rendered([*content.tools, *segments], tokens + cost.once + cost.each * len(content.tools))


def _openai(content: Content) -> Rendered:
    segments = [text for message in content.messages for text in message.texts]
    # 3 for each message, and the role, which is one token; 3 that prime the answer.
    return with_tools(content, segments, 4 * len(content.messages) + 3, _OPENAI_TOOLS)


def _chatml(default_system: str | None) -> Callable[[Content], Rendered]:
    def render(content: Content) -> Rendered:
        segments = [f"{message.role}\n{spoken(message)}" for message in content.messages]
        if default_system is not None and (not content.messages or content.messages[0].role != "system"):
            segments.insert(0, f"system\n{default_system}")
        # <|im_start|>, <|im_end|> and a newline; <|im_start|>, "assistant" and a newline.
        return with_tools(content, segments, 3 * len(segments) + 3, _QWEN_TOOLS)

    return render


def _llama3(dated: bool) -> Callable[[Content], Rendered]:
    def render(content: Content) -> Rendered:
        turns = [(message.role, spoken(message).strip()) for message in content.messages]
        if dated:
            # Llama 3.1 and later open with a system message that tells two dates, whichever: all are as many tokens.
            dates = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
            system = turns.pop(0)[1] if turns and turns[0][0] == "system" else ""
            turns.insert(0, ("system", dates + system))
        segments = [part for role, text in turns for part in (role, f"\n\n{text}")]
        # <|begin_of_text|>; both header marks and <|eot_id|>; the header, "assistant" and its newlines.
        return with_tools(content, segments, 1 + 3 * len(turns) + 4, _LLAMA_TOOLS)

    return render


def _plain(content: Content) -> Rendered:
    segments = [text for message in content.messages for text in message.texts]
    return with_tools(content, segments, 4 * len(content.messages) + 3, _OPENAI_TOOLS)


OPENAI = Template("openai", _openai, "openai")
CHATML = Template("chatml", _chatml(None))
QWEN2 = Template("qwen2", _chatml("You are a helpful assistant."))
QWEN25 = Template("qwen2.5", _chatml("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."))
LLAMA3 = Template("llama3", _llama3(dated=False))
LLAMA31 = Template("llama3.1", _llama3(dated=True))
PLAIN = Template("plain", _plain)
"""A template that is not known: 4 tokens for each message, as with most families."""
