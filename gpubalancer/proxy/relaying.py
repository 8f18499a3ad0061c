"""An answer passed on to its end, and what the record says of it then.

Bytes go from connection to connection; the coroutine waits for the end alone. What is charged is settled on the way
out, whatever happened: an answer that was broken off, by whomever, is charged as far as it came.
"""

from collections.abc import Callable

from gpubalancer.brain.price import Rates
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.outcome import Outcome
from gpubalancer.proxy.answers import last_words
from gpubalancer.proxy.asking import hides_usage
from gpubalancer.proxy.early_end import REPEATING_APIS, Cut
from gpubalancer.proxy.endings import ABORTED, FAILED, was_aborted
from gpubalancer.proxy.intake import Asked
from gpubalancer.proxy.metering import BudgetMeter, note_stop
from gpubalancer.proxy.stream_usage import StreamWatch, watch_stream
from gpubalancer.proxy.usage import (
    ANSWER_BYTES_PER_TOKEN,
    GENERATES,
    MOST_TOKENS,
    TAIL_BYTES,
    Known,
    Report,
    charge,
    read_report,
)
from gpubalancer.wire.exchange import Exchange
from gpubalancer.wire.heads import ResponseHead
from gpubalancer.wire.metered import MeteredRelay
from gpubalancer.wire.relay import Relay, WatchedRelay
from gpubalancer.wire.tunnel import Tunnel
from gpubalancer.wire.upstream import Upstream
from gpubalancer.wire.upstream_error import UpstreamError


async def relay_answer(
    exchange: Exchange,
    upstream: Upstream,
    lines: bytes,
    head: ResponseHead,
    asked: Asked,
    outcome: Outcome,
    context_tokens: int | None,
    on_first: Callable[[], None],
    rates: Rates | None = None,
) -> None:
    """Pass the answer on, and record how it ended and what it took.

    Arguments:
        exchange: the client's side.
        upstream: the backend's; its head has come.
        lines: header lines for the client.
        head: of the answer.
        asked: the request.
        outcome: of the request; gets times, tokens, and a reason if the backend failed.
        context_tokens: what the model can hold, None if that is not known.
        on_first: called when the first piece of the body has come.
        rates: what the backend charges, where a budget may end the stream.
    """
    content_type = head.field(b"content-type") or b""
    outcome.streamed = content_type.startswith((b"text/event-stream", b"application/x-ndjson"))
    watch = watch_stream(asked.work.api, head, hides=hides_usage(asked))
    if asked.payment is not None and watch is not None:
        asked.payment.streamed_tokens = watch.counted_tokens
    relay = _relay(exchange, upstream, asked, outcome, watch, on_first, rates)
    exchange.source = upstream
    # A stream may be ended in another way than its backend's: without what is hidden, by its budget, with an error.
    exchange.begin(head.status, lines, head.length if watch is None else None)
    try:
        await _until_passed(exchange, upstream, relay)
        if isinstance(relay, WatchedRelay) and relay.withheld and watch is not None:
            _break_off(exchange, outcome, content_type, relay, watch, watch.fault())
    except UpstreamError as error:
        _break_off(exchange, outcome, content_type, relay, watch, str(error), timed_out=error.timed_out)
    finally:
        outcome.first_token_s, outcome.last_token_s = relay.first_s, relay.last_s
        if head.status < 300:
            _settle(exchange, asked, outcome, relay, watch, context_tokens)


def _relay(
    exchange: Exchange,
    upstream: Upstream,
    asked: Asked,
    outcome: Outcome,
    watch: StreamWatch | None,
    on_first: Callable[[], None],
    rates: Rates | None,
) -> Relay:
    """What passes the answer on: as it comes, watched where it is a stream, metered where a budget may end that."""
    if watch is None:
        return Relay(exchange, on_first)
    if rates is None or asked.payment is None:
        return WatchedRelay(exchange, watch, on_first)

    claims = asked.payment.reservation.claims

    def cut() -> Cut:
        note_stop(outcome, claims)
        sent = relay.passed if relay.passed is not None else watch.last_events()
        said = asked.document.said if asked.document is not None else None
        counted = asked.work.prompt_tokens, watch.counted_tokens()
        answers, asks_usage = said.answers if said is not None else 1, not hides_usage(asked)
        return Cut(outcome.path, sent, outcome.request_id, outcome.model, answers, *counted, asks_usage)

    meter = BudgetMeter(asked.payment.paying(rates), watch, asked.work.api, cut)
    relay = MeteredRelay(exchange, watch, meter, upstream, upstream.abort, on_first)
    meter.go_on = relay.go_on
    if asked.work.api in REPEATING_APIS:
        relay.passed = []
    return relay


async def _until_passed(exchange: Exchange, upstream: Upstream, relay: Relay) -> None:
    """Wait until all of the answer has gone on that will."""
    done = upstream.relay(relay)
    if isinstance(relay, MeteredRelay):
        exchange.flush()
        await relay.finished(done)
    elif done is not None:
        exchange.flush()
        await done


def _break_off(
    exchange: Exchange,
    outcome: Outcome,
    content_type: bytes,
    relay: Relay,
    watch: StreamWatch | None,
    why: str,
    *,
    timed_out: bool = False,
) -> None:
    """End the client's answer so that it can't be taken for a whole one."""
    failure = (
        RequestError("timed_out", "The backend stopped in the middle of its answer.")
        if timed_out
        else RequestError("backend_failed", "The backend broke off its answer.")
    )
    outcome.reason, outcome.detail = failure.code, f"{outcome.backend}: {why}"
    tail = relay.tail(8)
    if watch is not None:
        # What the watch held back has not been sent, so the client stands between two events.
        tail = b"..." if watch.in_event else b""
    # An engine that has said itself what is wrong is not repeated.
    exchange.break_off(last_words(failure, outcome.path, content_type, tail) if why != FAILED else b"")


def _settle(
    exchange: Exchange,
    asked: Asked,
    outcome: Outcome,
    relay: Relay,
    watch: StreamWatch | None,
    context_tokens: int | None,
) -> None:
    tail = relay.tail(TAIL_BYTES)
    if watch is None and was_aborted(tail) and not outcome.reason:
        outcome.reason, outcome.detail = "backend_failed", f"{outcome.backend}: {ABORTED}"
    if outcome.path not in GENERATES:
        return
    known = _known(asked, outcome.path, watch, exchange.sent_bytes, context_tokens)
    found = [read_report(data) for data in (watch.reports or [tail])] if watch is not None else [read_report(tail)]
    reports: list[Report] = [report for report in found if report is not None]
    charged = charge(reports, known)
    outcome.prompt_tokens, outcome.cached_tokens = charged.prompt_tokens, charged.cached_tokens
    outcome.completion_tokens = charged.completion_tokens
    outcome.cached_known = charged.source == "reported" and any(report.tells_cached for report in reports)
    outcome.usage_source, outcome.usage_doubts = charged.source, charged.doubts
    if charged.doubts and not outcome.detail:
        outcome.detail = f"{outcome.backend}: usage reported was {', '.join(charged.doubts)}"


def _known(asked: Asked, path: str, watch: StreamWatch | None, sent_bytes: int, context_tokens: int | None) -> Known:
    generates, said = GENERATES[path], asked.document.said if asked.document is not None else None
    answers = max(1, said.answers if said is not None else 1)
    limit = said.max_tokens if said is not None else None
    written = watch.counted_tokens() if watch is not None else sent_bytes // ANSWER_BYTES_PER_TOKEN if generates else 0
    return Known(
        prompt_tokens=asked.work.prompt_tokens,
        completion_tokens=written,
        streamed=watch is not None,
        generates=generates,
        most_prompt_tokens=context_tokens * asked.work.batch if context_tokens is not None else None,
        most_completion_tokens=answers * (limit if limit is not None else context_tokens or MOST_TOKENS),
    )


def charge_unanswered(asked: Asked, outcome: Outcome) -> None:
    """Record what a request took whose client left before an answer: the prompt that its backend was given to read."""
    if outcome.path in GENERATES:
        outcome.prompt_tokens, outcome.usage_source = asked.work.prompt_tokens, "estimated"


async def join(exchange: Exchange, upstream: Upstream, lines: bytes, head: ResponseHead, outcome: Outcome) -> None:
    """Let client and backend speak the protocol that they have agreed upon."""
    protocol = head.field(b"upgrade") or exchange.head.upgrade or b""
    lines += b"connection: upgrade\r\nupgrade: %b\r\n" % protocol
    tunnel = Tunnel(exchange.switch_protocols(lines), upstream)
    exchange.source = tunnel
    try:
        await tunnel.run()
    finally:
        exchange.ended = True
        exchange.sent_bytes, exchange.body.size_bytes = tunnel.sent_bytes, tunnel.received_bytes
        outcome.status = 101
