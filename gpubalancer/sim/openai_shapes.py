"""OpenAI's chat and completions as vLLM writes them.

A stream's last token carries `finish_reason` in the same event as its text; usage, if asked for, comes in an event of
its own with no choices, and `[DONE]` ends the stream.
"""

from collections.abc import Sequence

from gpubalancer.sim.engine import Reason
from gpubalancer.sim.shapes import Envelope, Json, Said, Usage, event

DONE = b"data: [DONE]\n\n"


class ChatShape:
    """`/v1/chat/completions`."""

    def __init__(self, envelope: Envelope) -> None:
        self._head = _head("chatcmpl", "chat.completion", envelope)
        self._chunk_head = self._head | {"object": "chat.completion.chunk"}
        self._choices = envelope.choices
        self._include_usage = envelope.include_usage

    def opening(self, usage: Usage) -> bytes:
        """The role, once for each choice."""
        delta = {"role": "assistant", "content": ""}
        return b"".join(self._event(choice, delta, None) for choice in range(self._choices))

    def piece(self, choice: int, text: str, reason: Reason | None) -> bytes:
        """One token."""
        return self._event(choice, {"content": text}, reason)

    def _event(self, choice: int, delta: Json, reason: Reason | None) -> bytes:
        said = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": reason}
        return event(self._chunk_head | {"choices": [said]})

    def closing(self, usage: Usage) -> bytes:
        """Usage if asked for, and the end mark."""
        if not self._include_usage:
            return DONE
        return event(self._chunk_head | {"choices": [], "usage": usage.openai()}) + DONE

    def unary(self, choices: Sequence[Said], usage: Usage) -> Json:
        """The whole answer."""
        said: list[Json] = [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None, "tool_calls": []},
                "logprobs": None,
                "finish_reason": choice.reason,
                "stop_reason": None,
            }
            for index, choice in enumerate(choices)
        ]
        return self._head | {"choices": said, "usage": usage.openai()}


class CompletionShape:
    """`/v1/completions`."""

    def __init__(self, envelope: Envelope) -> None:
        self._head = _head("cmpl", "text_completion", envelope)
        self._include_usage = envelope.include_usage

    def opening(self, usage: Usage) -> bytes:
        """Nothing: text comes at once."""
        return b""

    def piece(self, choice: int, text: str, reason: Reason | None) -> bytes:
        """One token."""
        return event(self._head | {"choices": [_text_choice(choice, text, reason)]})

    def closing(self, usage: Usage) -> bytes:
        """Usage if asked for, and the end mark."""
        if not self._include_usage:
            return DONE
        return event(self._head | {"choices": [], "usage": usage.openai()}) + DONE

    def unary(self, choices: Sequence[Said], usage: Usage) -> Json:
        """The whole answer."""
        said = [_text_choice(index, choice.text, choice.reason) for index, choice in enumerate(choices)]
        return self._head | {"choices": said, "usage": usage.openai()}


def _head(prefix: str, kind: str, envelope: Envelope) -> Json:
    number, created, model = envelope.number, envelope.created, envelope.model
    return {"id": f"{prefix}-{number}", "object": kind, "created": created, "model": model}


def _text_choice(choice: int, text: str, reason: Reason | None) -> Json:
    return {"index": choice, "text": text, "logprobs": None, "finish_reason": reason, "stop_reason": None}
