"""An outcome as JSON values: one line of the access log, and what the admin API shows of recent decisions."""

from typing import Any

from gpubalancer.domain.audit import Predicted
from gpubalancer.domain.outcome import Outcome


def record_of(outcome: Outcome, time_s: float) -> dict[str, Any]:
    """What is told of a request that has ended. It names no key and quotes nothing of a prompt or an answer.

    Arguments:
        outcome: how it ended.
        time_s: when, in seconds since 1970.
    """
    return {
        "time": round(time_s, 3),
        "event": "request",
        "request_id": outcome.request_id,
        "tenant": outcome.tenant,
        "method": outcome.method,
        "path": outcome.path,
        "api": outcome.api,
        "model": outcome.model,
        "tier": outcome.tier,
        "tier_source": outcome.tier_source,
        "findings": dict(outcome.findings),
        "risk": outcome.risk,
        "rules": outcome.rules,
        "priority": outcome.priority,
        "backend": outcome.backend,
        "attempts": outcome.attempts,
        "status": outcome.status,
        "code": outcome.code,
        "reason": outcome.reason,
        "detail": outcome.detail,
        "streamed": outcome.streamed,
        "stopped": outcome.stopped,
        "downgraded": outcome.downgraded,
        "request_bytes": outcome.request_bytes,
        "response_bytes": outcome.response_bytes,
        "prompt_tokens": outcome.prompt_tokens,
        "cached_tokens": outcome.cached_tokens,
        "completion_tokens": outcome.completion_tokens,
        "usage_source": outcome.usage_source,
        "usage_doubts": outcome.usage_doubts,
        "usd": round(outcome.usd, 9),
        "joules": round(outcome.joules, 3),
        "expected_prompt_tokens": outcome.expected_prompt_tokens,
        "expected_output_tokens": outcome.expected_output_tokens,
        **_predicted(outcome.predicted),
        "overhead_ms": round(outcome.overhead_s * 1000, 3),
        "ttft_ms": round(outcome.ttft_s * 1000, 3),
        "duration_ms": round((outcome.ended_s - outcome.started_s) * 1000, 3),
    }


def _predicted(predicted: Predicted | None) -> dict[str, Any]:
    """What was foreseen of the backend that answered; TTFT from when the request was sent there."""
    return {
        "expected_cached_tokens": round(predicted.cached_tokens) if predicted is not None else None,
        "expected_ttft_ms": round(predicted.ttft_s * 1000, 3) if predicted is not None else None,
        "expected_tpot_ms": round(predicted.tpot_s * 1000, 3) if predicted is not None else None,
    }
