"""Refusals in vLLM's words: one exception, and what each status is called on either API."""

from collections.abc import Mapping
from types import MappingProxyType

from gpubalancer.sim.shapes import Json

_TYPES: Mapping[int, tuple[str, str]] = MappingProxyType(
    {  # status: (vLLM's type, Anthropic's type)
        400: ("BadRequestError", "invalid_request_error"),
        404: ("NotFoundError", "not_found_error"),
        500: ("InternalServerError", "api_error"),
        503: ("ServiceUnavailableError", "overloaded_error"),
    }
)


class ApiError(Exception):
    """A request ends with `status` and a sentence; `param` names the field at fault."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param

    def openai(self) -> Json:
        """The body on OpenAI's paths."""
        kind = _TYPES[self.status][0]
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.status}}

    def anthropic(self) -> Json:
        """The body on `/v1/messages`."""
        return {"type": "error", "error": {"type": _TYPES[self.status][1], "message": self.message}}


def context_too_long(context_tokens: int, prompt_tokens: int, output_tokens: int | None) -> ApiError:
    """The refusal of a prompt, alone or with the output asked for, that the context cannot hold."""
    if output_tokens is None or prompt_tokens >= context_tokens:
        return ApiError(
            400,
            f"This model's maximum context length is {context_tokens} tokens. However, your request has "
            f"{prompt_tokens} input tokens. Please reduce the length of the input messages.",
            "input_tokens",
        )
    return ApiError(
        400,
        f"'max_tokens' or 'max_completion_tokens' is too large: {output_tokens}. This model's maximum context length "
        f"is {context_tokens} tokens and your request has {prompt_tokens} input tokens "
        f"({output_tokens} > {context_tokens} - {prompt_tokens}).",
        "max_tokens",
    )


def unknown_model(name: str) -> ApiError:
    """The refusal of a model that this server does not serve."""
    return ApiError(404, f"The model `{name}` does not exist.", "model")
