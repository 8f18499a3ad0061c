"""One call of NVIDIA's library, and the four things that its error codes mean.

The card can't say this (`UNSUPPORTED`: to be remembered, and not asked again until the driver is opened anew); it did
not say it this time; the card is lost; all handles are dead and the driver must be opened anew.
"""

from collections.abc import Callable
from typing import Any

import pynvml  # type: ignore[import-untyped]  # ships no types

UNSUPPORTED = frozenset(
    (
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        pynvml.NVML_ERROR_DEPRECATED,
    )
)
LOST = frozenset((pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED, pynvml.NVML_ERROR_GPU_NOT_FOUND))
GONE = frozenset(
    (
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    )
)


class NoDriverError(Exception):
    """There is nothing to read here. The message says why, in one line."""


class DriverGoneError(Exception):
    """The driver was reset or unloaded: every handle is dead."""


class CardLostError(Exception):
    """One card no longer answers; the others do."""


class AbsentError(Exception):
    """The card did not say it; `forever` if it can't."""

    def __init__(self, forever: bool) -> None:
        super().__init__()
        self.forever = forever


def ask(call: Callable[..., Any], *arguments: object) -> Any:
    """Call the library. Raises: CardLostError, DriverGoneError, or that it did not say."""
    try:
        return call(*arguments)
    except pynvml.NVMLError as error:
        if error.value in GONE:
            raise DriverGoneError(str(error)) from error
        if error.value in LOST:
            raise CardLostError(str(error)) from error
        raise AbsentError(error.value in UNSUPPORTED) from error
    except UnicodeDecodeError as error:
        raise AbsentError(forever=False) from error


def quietly(call: Callable[..., Any], *arguments: object) -> None:
    """Call the library on the way out, where no error changes anything."""
    try:
        call(*arguments)
    except pynvml.NVMLError:
        return
