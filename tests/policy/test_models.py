"""The section `models`."""

from gpubalancer.policy.models import Model
from tests.policy.reading import BACKEND, read


def test_everything_of_a_model_is_optional() -> None:
    """A model may be only its name."""
    assert read(BACKEND + "models: {llama: , phi: {}}\n").models == {"llama": Model(), "phi": Model()}


def test_a_context_is_a_count() -> None:
    """128k tokens are 128,000."""
    assert Model.model_validate({"context_tokens": "128k"}).context_tokens == 128_000
