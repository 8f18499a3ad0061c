"""How an attempt at a backend fails: in which phase, and what is known that decides whether another try is safe."""

from typing import Literal

Phase = Literal["connect", "head", "body"]


class UpstreamError(Exception):
    """A backend did not answer as it should. Always the backend's fault.

    Arguments:
        message: what happened.
        phase: `connect`: nothing was sent; `head`: no part of a final answer was read; `body`: its end is missing.
        reused: the connection had served before, so it may just have been closed for being idle.
        silent: not one byte of an answer came.
        timed_out: it took longer than the policy allows.
    """

    def __init__(
        self, message: str, phase: Phase, *, reused: bool = False, silent: bool = False, timed_out: bool = False
    ) -> None:
        super().__init__(message)
        self.phase = phase
        self.reused = reused
        self.silent = silent
        self.timed_out = timed_out
