"""Whether a request that failed at one backend may be tried at another.

Nothing is tried again once a byte of an answer has gone to the client, or once a body that was not kept has begun to
go upstream. Before that, the phase decides (RFC 9110 section 9.2.2 and its exception for what was certainly not acted
upon): a connection that failed carried nothing; after that, `routing.retries.after_send` has the word.
"""

from dataclasses import dataclass
from typing import Literal

AfterSend = Literal["never", "reused-connection", "always"]


@dataclass(frozen=True, slots=True)
class Attempted:
    """What is known of an attempt that failed."""

    connected: bool
    """A connection was there, so part of the request may have been read."""
    reused: bool
    """The connection had served before: the backend may have closed it while the request was on its way."""
    silent: bool
    """Not one byte of an answer came."""
    timed_out: bool
    body_spent: bool
    """Part of a body that is not kept has been sent."""


def may_retry(attempted: Attempted, after_send: AfterSend) -> bool:
    """True if the request may go to another backend."""
    if not attempted.connected:
        return True
    if attempted.body_spent or not attempted.silent or attempted.timed_out:
        return False
    return after_send == "always" or (after_send == "reused-connection" and attempted.reused)


def backoff_s(attempt: int, first_s: float, jitter_fraction: float) -> float:
    """Seconds before a further try: doubled each time, with jitter so that failures do not return in step.

    Arguments:
        attempt: how many tries have failed.
        first_s: `routing.retries.backoff`.
        jitter_fraction: a random number in 0..1.
    """
    return float(first_s * 2 ** (attempt - 1) * (0.5 + jitter_fraction))
