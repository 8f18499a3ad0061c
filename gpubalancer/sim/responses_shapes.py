"""OpenAI's responses: one message with one text part, and numbered, named events around it."""

from collections.abc import Sequence

from gpubalancer.sim.engine import Reason
from gpubalancer.sim.shapes import Envelope, Json, Said, Usage, named_event


class ResponsesShape:
    """`/v1/responses`."""

    def __init__(self, envelope: Envelope) -> None:
        created = {"object": "response", "created_at": envelope.created, "model": envelope.model}
        self._head: Json = {"id": f"resp_{envelope.number}"} | created
        self._place = {"item_id": f"msg_{envelope.number}", "output_index": 0, "content_index": 0}
        self._said = Said()
        self._sent = 0

    def opening(self, usage: Usage) -> bytes:
        """The response, its item and its part come into being."""
        empty = self._response("in_progress", [], None)
        item = self._item("in_progress", [])
        return (
            self._event({"type": "response.created", "response": empty})
            + self._event({"type": "response.in_progress", "response": empty})
            + self._event({"type": "response.output_item.added", "output_index": 0, "item": item})
            + self._event({"type": "response.content_part.added", **self._place, "part": _part("")})
        )

    def piece(self, choice: int, text: str, reason: Reason | None) -> bytes:
        """One token."""
        self._said.pieces.append(text)
        self._said.reason = reason
        return self._event({"type": "response.output_text.delta", **self._place, "delta": text, "logprobs": []})

    def closing(self, usage: Usage) -> bytes:
        """Part, item and response are done."""
        text = self._said.text
        whole = self.unary([self._said], usage)
        end = "response.completed" if whole["status"] == "completed" else "response.incomplete"
        return (
            self._event({"type": "response.output_text.done", **self._place, "text": text, "logprobs": []})
            + self._event({"type": "response.content_part.done", **self._place, "part": _part(text)})
            + self._event({"type": "response.output_item.done", "output_index": 0, "item": whole["output"][0]})
            + self._event({"type": end, "response": whole})
        )

    def unary(self, choices: Sequence[Said], usage: Usage) -> Json:
        """The whole answer."""
        status = "completed" if choices[0].reason is Reason.STOP else "incomplete"
        return self._response(status, [self._item(status, [_part(choices[0].text)])], usage)

    def _event(self, data: Json) -> bytes:
        data["sequence_number"] = self._sent
        self._sent += 1
        return named_event(data)

    def _item(self, status: str, parts: list[Json]) -> Json:
        return {
            "id": self._place["item_id"],
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": parts,
        }

    def _response(self, status: str, output: list[Json], usage: Usage | None) -> Json:
        details = {"reason": "max_output_tokens"} if status == "incomplete" else None
        response = self._head | {"status": status, "incomplete_details": details, "error": None, "output": output}
        response |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": None}
        if usage is not None:
            response["usage"] = {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens},
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            }
        return response


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": []}
