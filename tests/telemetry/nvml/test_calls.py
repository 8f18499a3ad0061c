"""What the library's error codes mean."""

import pynvml  # type: ignore[import-untyped]  # ships no types
import pytest

from gpubalancer.telemetry.nvml.calls import AbsentError, CardLostError, DriverGoneError, ask, quietly


def failing(code: int) -> None:
    """A call that fails."""
    raise pynvml.NVMLError(code)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (pynvml.NVML_ERROR_UNINITIALIZED, DriverGoneError),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, DriverGoneError),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, DriverGoneError),
        (pynvml.NVML_ERROR_GPU_IS_LOST, CardLostError),
        (pynvml.NVML_ERROR_RESET_REQUIRED, CardLostError),
        (pynvml.NVML_ERROR_NOT_SUPPORTED, AbsentError),
        (pynvml.NVML_ERROR_TIMEOUT, AbsentError),
        (pynvml.NVML_ERROR_UNKNOWN, AbsentError),
    ],
)
def test_each_code_has_one_meaning(code: int, error: type[Exception]) -> None:
    """A code is a lost card, a dead driver, or an absent answer."""
    with pytest.raises(error):
        ask(failing, code)


def test_what_a_card_cannot_say_is_told_apart() -> None:
    """NOT_SUPPORTED is for ever, TIMEOUT for this time, and a name that is no text is absent this time."""
    for code, forever in ((pynvml.NVML_ERROR_NOT_SUPPORTED, True), (pynvml.NVML_ERROR_TIMEOUT, False)):
        with pytest.raises(AbsentError) as caught:
            ask(failing, code)
        assert caught.value.forever is forever
    with pytest.raises(AbsentError):
        ask(b"\xff".decode)


def test_an_answer_is_returned_and_closing_never_fails() -> None:
    """`ask` returns what the call returns; `quietly` swallows the library's errors."""
    assert ask(max, 1, 2) == 2
    quietly(failing, pynvml.NVML_ERROR_UNINITIALIZED)
