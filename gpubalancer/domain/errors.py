"""Why a request is not served, as one table.

Every refusal and failure has a code. The table gives each code its HTTP status, its OpenAI error type and whose fault
it was: who pays depends on the last (a client that hangs up never counts against a backend). Codes are a closed set, so
they serve as metric labels; what varies goes into the message.

A new way to fail is a new row here and a `RequestError("code", "sentence")` where it happens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Blame(StrEnum):
    """Whose fault an error is."""

    CLIENT = "client"
    BACKEND = "backend"
    BALANCER = "balancer"


@dataclass(frozen=True, slots=True)
class Failure:
    """One row of `FAILURES`: the HTTP status sent, the OpenAI `error.type`, and whose fault it was."""

    status: int
    type: str
    blame: Blame


_INVALID, _AUTH, _DENIED = "invalid_request_error", "authentication_error", "permission_error"
_RATE, _API, _QUOTA = "rate_limit_error", "api_error", "insufficient_quota"

FAILURES: Mapping[str, Failure] = MappingProxyType(
    {
        "malformed_request": Failure(400, _INVALID, Blame.CLIENT),
        "invalid_host": Failure(400, _INVALID, Blame.CLIENT),
        "invalid_target": Failure(400, _INVALID, Blame.CLIENT),
        "ambiguous_framing": Failure(400, _INVALID, Blame.CLIENT),
        "incomplete_body": Failure(400, _INVALID, Blame.CLIENT),
        "invalid_json": Failure(400, _INVALID, Blame.CLIENT),
        "missing_model": Failure(400, _INVALID, Blame.CLIENT),
        # OpenAI's own code, which SDKs and client programs look for.
        "context_length_exceeded": Failure(400, _INVALID, Blame.CLIENT),
        "invalid_header": Failure(400, _INVALID, Blame.CLIENT),
        "invalid_query": Failure(400, _INVALID, Blame.CLIENT),
        "missing_api_key": Failure(401, _AUTH, Blame.CLIENT),
        "invalid_api_key": Failure(401, _AUTH, Blame.CLIENT),
        "model_not_allowed": Failure(403, _DENIED, Blame.CLIENT),
        "tier_not_served": Failure(403, _DENIED, Blame.CLIENT),
        "injection_refused": Failure(403, _DENIED, Blame.CLIENT),
        "upgrade_not_allowed": Failure(403, _DENIED, Blame.CLIENT),
        "unknown_tokenizer": Failure(404, _INVALID, Blame.CLIENT),
        "model_not_found": Failure(404, _INVALID, Blame.CLIENT),
        "unknown_path": Failure(404, _INVALID, Blame.CLIENT),
        "method_not_allowed": Failure(405, _INVALID, Blame.CLIENT),
        "request_timeout": Failure(408, _INVALID, Blame.CLIENT),
        "body_too_large": Failure(413, _INVALID, Blame.CLIENT),
        # Small enough to be taken, and still more than one request may cost here to be read.
        "body_too_costly": Failure(413, _INVALID, Blame.CLIENT),
        "target_too_long": Failure(414, _INVALID, Blame.CLIENT),
        "expectation_failed": Failure(417, _INVALID, Blame.CLIENT),
        "rate_limit_exceeded": Failure(429, _RATE, Blame.CLIENT),
        "insufficient_quota": Failure(429, _QUOTA, Blame.CLIENT),
        "overloaded": Failure(429, _RATE, Blame.BALANCER),
        "head_too_large": Failure(431, _INVALID, Blame.CLIENT),
        # Nothing is sent for this one: 499 exists in the log and the metrics only.
        "client_left": Failure(499, _INVALID, Blame.CLIENT),
        "internal_error": Failure(500, _API, Blame.BALANCER),
        "unsupported_transfer_encoding": Failure(501, _INVALID, Blame.CLIENT),
        "backend_failed": Failure(502, _API, Blame.BACKEND),
        # Nothing is sent for this one either: who would have is dead, and its supervisor makes the record.
        "worker_killed": Failure(502, _API, Blame.BALANCER),
        "budgets_unreachable": Failure(503, _API, Blame.BALANCER),
        "no_backend": Failure(503, _API, Blame.BALANCER),
        "draining": Failure(503, _API, Blame.BALANCER),
        "journal_full": Failure(503, _API, Blame.BALANCER),
        "usage_unavailable": Failure(503, _API, Blame.BALANCER),
        "too_many_connections": Failure(503, _API, Blame.BALANCER),
        "timed_out": Failure(504, _API, Blame.BACKEND),
        "unsupported_version": Failure(505, _INVALID, Blame.CLIENT),
        "loop_detected": Failure(508, _API, Blame.BALANCER),
    }
)


class RequestError(Exception):
    """A request ends here, with the answer that its client gets.

    Arguments:
        code: a key of `FAILURES`.
        message: one sentence for the client. Never contains a key or a prompt.
        param: the field of the request at fault, if one is.
        retry_after_s: sent as `Retry-After` where time may heal it.
        lines: further header lines of the answer, each ended by CRLF.
        retry_safe: nothing of the request was acted upon, so that another backend may be tried.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        lines: bytes = b"",
        retry_safe: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.lines = lines
        self.retry_safe = retry_safe

    @property
    def failure(self) -> Failure:
        """Status, type and blame of this error's code."""
        return FAILURES[self.code]

    @property
    def status(self) -> int:
        """HTTP status; those of `client_left` and `worker_killed` are recorded and never sent."""
        return FAILURES[self.code].status
