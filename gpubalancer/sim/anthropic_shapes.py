"""Anthropic's messages: one text block, and named events around it.

A stream tells the prompt's tokens in `message_start` and the output's in `message_delta`; `message_stop` ends it.
"""

from collections.abc import Sequence

from gpubalancer.sim.engine import Reason
from gpubalancer.sim.shapes import Envelope, Json, Said, Usage, named_event

_STOP_REASONS = {Reason.STOP: "end_turn", Reason.LENGTH: "max_tokens", Reason.ABORT: "end_turn"}


class MessagesShape:
    """`/v1/messages`."""

    def __init__(self, envelope: Envelope) -> None:
        message = {"type": "message", "role": "assistant", "model": envelope.model}
        self._head: Json = {"id": f"msg_{envelope.number}"} | message
        self._reason: Reason | None = None

    def opening(self, usage: Usage) -> bytes:
        """The message and its text block begin."""
        started = self._message([], None, Usage(usage.prompt_tokens, usage.cached_tokens))
        block = {"type": "text", "text": ""}
        return named_event({"type": "message_start", "message": started}) + named_event(
            {"type": "content_block_start", "index": 0, "content_block": block}
        )

    def piece(self, choice: int, text: str, reason: Reason | None) -> bytes:
        """One token."""
        self._reason = reason
        delta = {"type": "text_delta", "text": text}
        return named_event({"type": "content_block_delta", "index": 0, "delta": delta})

    def closing(self, usage: Usage) -> bytes:
        """The block and the message end."""
        delta = {"stop_reason": _stop_reason(self._reason), "stop_sequence": None}
        return (
            named_event({"type": "content_block_stop", "index": 0})
            + named_event({"type": "message_delta", "delta": delta, "usage": _usage(usage)})
            + named_event({"type": "message_stop"})
        )

    def unary(self, choices: Sequence[Said], usage: Usage) -> Json:
        """The whole answer."""
        content = [{"type": "text", "text": choices[0].text}]
        return self._message(content, _stop_reason(choices[0].reason), usage)

    def _message(self, content: list[Json], stop_reason: str | None, usage: Usage) -> Json:
        body = {"content": content, "stop_reason": stop_reason, "stop_sequence": None, "usage": _usage(usage)}
        return self._head | body


def _stop_reason(reason: Reason | None) -> str | None:
    return None if reason is None else _STOP_REASONS[reason]


def _usage(usage: Usage) -> Json:
    """Anthropic counts what the cache gave apart from the rest of the input."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
    }
