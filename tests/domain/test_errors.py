"""The table of failures."""

import pytest

from gpubalancer.domain.errors import FAILURES, Blame, RequestError


@pytest.mark.parametrize("code", FAILURES)
def test_every_failure_has_an_error_status(code: str) -> None:
    """Each code is an HTTP error that blames its side: what a client did is a 4xx, or 501 and 505 for what we lack."""
    failure = FAILURES[code]
    assert 400 <= failure.status <= 599
    if failure.blame is Blame.BACKEND:
        assert failure.status in (502, 504)
    if failure.blame is Blame.CLIENT:
        assert failure.status < 500 or failure.status in (501, 505)


def test_an_error_carries_its_row() -> None:
    """An error knows status and blame by its code, and says its sentence."""
    error = RequestError("overloaded", "Full.", retry_after_s=1)
    assert (error.status, error.failure.blame, str(error)) == (429, Blame.BALANCER, "Full.")


def test_a_prompt_beyond_the_context_is_the_clients() -> None:
    """OpenAI's code for it, with OpenAI's status."""
    failure = FAILURES["context_length_exceeded"]
    assert (failure.status, failure.type, failure.blame) == (400, "invalid_request_error", Blame.CLIENT)
