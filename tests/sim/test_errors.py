"""Refusals in both APIs' shapes."""

from gpubalancer.sim.errors import ApiError, context_too_long, unknown_model


def test_shapes_of_an_error() -> None:
    """OpenAI's paths get vLLM's type and the status as code, Anthropic's path its own type."""
    error = unknown_model("x")
    message = "The model `x` does not exist."
    assert error.openai() == {
        "error": {"message": message, "type": "NotFoundError", "param": "model", "code": 404},
    }
    assert error.anthropic() == {"type": "error", "error": {"type": "not_found_error", "message": message}}


def test_every_status_in_use_has_names() -> None:
    """Each status that the server refuses with can be written in both shapes."""
    for status in (400, 404, 500, 503):
        assert ApiError(status, "no").openai()["error"]["code"] == status
        assert ApiError(status, "no").anthropic()["type"] == "error"


def test_a_long_prompt_and_a_long_answer_are_told_apart() -> None:
    """A prompt that fills the context is at fault itself; otherwise the limit asked for is."""
    assert context_too_long(100, 100, 5).param == "input_tokens"
    assert context_too_long(100, 100, None).param == "input_tokens"
    assert context_too_long(100, 90, 20).param == "max_tokens"
    assert "(20 > 100 - 90)" in context_too_long(100, 90, 20).message
