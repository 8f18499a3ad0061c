"""How one request ended.

One `Outcome` is made when a request's head is complete and filled in while the request lives. When it has ended, it is
handed once to whoever counts: metrics and the access log read this record and nothing else. It holds no prompt, no
answer and no key.
"""

from dataclasses import dataclass

from gpubalancer.domain.audit import Delivered, Predicted

NOBODY = "-"
"""The label of a tenant, model or backend that was not known when the request ended."""


@dataclass(slots=True)
class Outcome:
    """The record of one request. Times are seconds; the `_s` instants are of the monotonic clock."""

    request_id: str
    started_s: float
    """When the first byte of the head had been read."""
    method: str = "GET"
    path: str = "/"
    decision_id: str = ""
    """Made by us for each request and by nobody else, where `request_id` may be the client's."""
    api: str = NOBODY
    tenant: str = NOBODY
    key_id: str = NOBODY
    """The beginning of its key's SHA-256, which says which key it was and nothing of it."""
    model_asked: str = NOBODY
    """As the client wrote it."""
    model: str = NOBODY
    """The public name, after aliases; `NOBODY` when no such model exists, so that labels stay bounded."""
    backend: str = NOBODY
    kind: str = NOBODY
    """Of the backend: `gpu`, `cpu` or `cloud`."""
    tier: str = NOBODY
    tier_source: str = NOBODY
    """What decided the tier: `tenant`, `header`, `unread`, `rule:NAME` or `detector:NAME`."""
    priority: str = NOBODY
    risk: str = ""
    findings: tuple[tuple[str, int], ...] = ()
    """Detectors with a match and how many; never what they found."""
    rules: tuple[str, ...] = ()
    usd: float = 0.0
    """Price of its tokens, and of its share of the machine's hour."""
    joules: float = 0.0
    """Its share of the machine's energy, by how long the machine was expected to work for it."""
    predicted: Predicted | None = None
    """What was foreseen when the backend that answered was chosen; None where it gave no answer to compare."""
    expected_prompt_tokens: int = 0
    expected_output_tokens: int = 0
    attempts: int = 0
    streamed: bool = False
    downgraded: str = ""
    """What a spent budget made of it: `model=NAME` or `kind=KIND`; empty if it is served as it was asked for."""
    stopped: bool = False
    """A budget ended the stream."""
    queue_position: int = 0
    """Its place before a budget that made it wait, from 1; 0 if it did not wait for one."""
    budget_actions: tuple[tuple[str, str, str, str], ...] = ()
    """What budgets did with it: owner, unit, period, and one of `refused`, `would_refuse` (a shadow budget), `queued`,
    `downgraded` or `stopped`."""
    status: int = 0
    """The status sent; 0 while nothing was."""
    reason: str = ""
    """A code of `domain.errors.FAILURES`, empty when the request was served."""
    detail: str = ""
    """One sentence on what went wrong, for the log."""
    sent_s: float = 0.0
    """When the first byte went upstream on the attempt that answered."""
    first_token_s: float = 0.0
    """When the first byte of the answer's body arrived."""
    last_token_s: float = 0.0
    ended_s: float = 0.0
    request_bytes: int = 0
    response_bytes: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cached_known: bool = False
    """The engine told how many tokens were cached, be it none."""
    completion_tokens: int = 0
    usage_source: str = ""
    """Where the tokens come from: `reported` by the engine, `counted` from the stream's events, or `estimated`; empty
    where none were taken."""
    usage_doubts: tuple[str, ...] = ()
    """What was wrong with the engine's report, as `proxy/usage.py` names it; such numbers were not charged."""

    @property
    def code(self) -> int:
        """The metrics' `code`: the status sent, but 499 when the client left, 502 when a stream or a worker broke."""
        if self.reason == "client_left":
            return 499
        if self.reason in ("backend_failed", "timed_out", "worker_killed") and self.status < 400:
            return 502
        return self.status

    @property
    def overhead_s(self) -> float:
        """Seconds between the request's head and its first byte to the backend; 0.0 if it never went."""
        return self.sent_s - self.started_s if self.sent_s else 0.0

    @property
    def ttft_s(self) -> float:
        """Seconds between the request's head and the first byte of the answer's body; 0.0 if none came."""
        return self.first_token_s - self.started_s if self.first_token_s else 0.0

    @property
    def tpot_s(self) -> float:
        """Seconds per token after the first; 0.0 if fewer than two are known to have come."""
        if self.completion_tokens < 2 or not self.streamed:
            return 0.0
        return (self.last_token_s - self.first_token_s) / (self.completion_tokens - 1)

    @property
    def delivered(self) -> Delivered:
        """What came, to be held against `predicted`. Numbers that are not the engine's own are left out."""
        is_reported = self.usage_source == "reported"
        return Delivered(
            prompt_tokens=self.prompt_tokens if is_reported else 0,
            output_tokens=self.completion_tokens if is_reported else 0,
            cached_tokens=self.cached_tokens if self.cached_known else None,
            ttft_s=self.first_token_s - self.sent_s if self.streamed and self.first_token_s else 0.0,
            tpot_s=self.tpot_s,
        )
