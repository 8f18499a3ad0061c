"""From a classified request to its delivered answer: place, try, relay, and try elsewhere where that is safe."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np

from gpubalancer.brain.fleet import Flags
from gpubalancer.brain.health import Health
from gpubalancer.brain.retry import backoff_s, may_retry
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.outcome import Outcome
from gpubalancer.proxy.answers import last_words
from gpubalancer.proxy.attempt import Attempt
from gpubalancer.proxy.endings import TAIL_BYTES, read_usage, was_aborted
from gpubalancer.proxy.generation import Generation
from gpubalancer.proxy.intake import Asked
from gpubalancer.proxy.placing import Place, Placer
from gpubalancer.wire.exchange import Exchange
from gpubalancer.wire.forward import response_lines
from gpubalancer.wire.heads import ResponseHead
from gpubalancer.wire.relay import Relay
from gpubalancer.wire.tunnel import Tunnel
from gpubalancer.wire.upstream import Upstream
from gpubalancer.wire.upstream_error import UpstreamError


@dataclass(frozen=True, slots=True)
class Courier:
    """What all deliveries of one worker share."""

    placer: Placer
    health: Health
    clock: Callable[[], float]
    random: Random
    via: bytes
    """Our name in Via: `1.1 ` and a pseudonym."""

    async def deliver(self, exchange: Exchange, generation: Generation, asked: Asked, outcome: Outcome) -> None:
        """Try backends until one answers, and relay its answer.

        Raises:
            RequestError: no backend answered, or one broke off; in the latter case the client has been told.
        """
        retries, fleet = generation.policy.routing.retries, generation.fleet
        tried: Flags | None = None
        failure: RequestError | None = None
        while True:
            place = await self._place(generation, asked, tried, failure)
            outcome.attempts += 1
            outcome.backend = fleet.names[place.index]
            attempt = Attempt(generation.pools[place.index], self.clock)
            try:
                await self._try(exchange, generation, asked, outcome, place, attempt)
                return
            except UpstreamError as error:
                failure = self._note(error, place, outcome)
                again = not exchange.began and may_retry(attempt.failed(error), retries.after_send)
                if not again or outcome.attempts >= retries.attempts:
                    raise failure from error
                if not error.reused:
                    tried = np.zeros(len(fleet), dtype=np.bool_) if tried is None else tried
                    tried[place.index] = True
            finally:
                attempt.finish()
                self.placer.give_back(place.lease)
            # A kept-alive connection that had been closed is no reason to wait: a fresh one can be tried at once.
            if not failure.retry_safe:
                await asyncio.sleep(backoff_s(outcome.attempts, retries.backoff_s, self.random.random()))

    async def _place(
        self, generation: Generation, asked: Asked, tried: Flags | None, failure: RequestError | None
    ) -> Place:
        """A place; when there is no other backend left to try, the failure of the last one is the answer."""
        try:
            return await self.placer.place(generation.fleet, asked.work, tried, generation.policy.routing.queue)
        except RequestError as error:
            raise failure or error from None

    def _note(self, error: UpstreamError, place: Place, outcome: Outcome) -> RequestError:
        """Hold a failed try against its backend, unless the connection was merely stale."""
        if not (error.reused and error.silent and not error.timed_out):
            self.health.failed(place.lease.row, self.clock())
        outcome.detail = f"{outcome.backend}: {error}"
        if error.timed_out and error.phase != "connect":
            return RequestError("timed_out", "The backend did not answer in time.")
        return RequestError("backend_failed", "The backend failed.", retry_safe=error.reused)

    async def _try(
        self,
        exchange: Exchange,
        generation: Generation,
        asked: Asked,
        outcome: Outcome,
        place: Place,
        attempt: Attempt,
    ) -> None:
        work = asked.work
        known_as = generation.fleet.served[place.index].get(work.model) if work.model is not None else None
        content = asked.content_for(known_as)
        timeouts, request_id = generation.policy.routing.timeouts, outcome.request_id.encode()
        try:
            head = await attempt.run(exchange, work, content, self.via, request_id, timeouts)
        finally:
            outcome.sent_s = attempt.sent_s
        self.health.answered(place.lease.row)
        outcome.status = head.status
        lines = response_lines(head, self._own_lines(outcome), self.via)
        upstream = attempt.upstream
        if upstream is None:
            raise UpstreamError("the connection is gone", "head")
        if head.status == 101:
            await _join(exchange, upstream, lines, head, outcome)
        else:
            await _relay(exchange, upstream, lines, head, outcome)

    @staticmethod
    def _own_lines(outcome: Outcome) -> bytes:
        """What we add to an answer. Names of backends are plain ASCII, as the policy checks."""
        return (
            b"x-request-id: %b\r\nx-gpubalancer-backend: %b\r\nx-gpubalancer-tier: %b\r\n"
            b"x-gpubalancer-attempts: %d\r\nx-gpubalancer-overhead-ms: %.2f\r\n"
            % (
                outcome.request_id.encode(),
                outcome.backend.encode(),
                outcome.tier.encode(),
                outcome.attempts,
                outcome.overhead_s * 1000,
            )
        )


async def _relay(exchange: Exchange, upstream: Upstream, lines: bytes, head: ResponseHead, outcome: Outcome) -> None:
    """Pass the answer on. Bytes go from connection to connection; this waits for the end."""
    content_type = head.field(b"content-type") or b""
    outcome.streamed = content_type.startswith((b"text/event-stream", b"application/x-ndjson"))
    relay = Relay(exchange)
    exchange.source = upstream
    exchange.begin(head.status, lines, head.length)
    try:
        done = upstream.relay(relay)
        if done is not None:
            exchange.flush()
            await done
    except UpstreamError as error:
        failure = RequestError("backend_failed", "The backend broke off its answer.")
        outcome.reason, outcome.detail = failure.code, f"{outcome.backend}: {error}"
        exchange.break_off(last_words(failure, outcome.path, content_type, relay.tail(8)))
    finally:
        outcome.first_token_s, outcome.last_token_s = relay.first_s, relay.last_s
        tail = relay.tail(TAIL_BYTES)
        usage = read_usage(tail)
        if usage is not None:
            outcome.usage_reported = True
            outcome.prompt_tokens, outcome.cached_tokens = usage.prompt_tokens, usage.cached_tokens
            outcome.completion_tokens = usage.completion_tokens
        if was_aborted(tail) and not outcome.reason:
            outcome.reason, outcome.detail = "backend_failed", f"{outcome.backend}: the engine aborted the request"


async def _join(exchange: Exchange, upstream: Upstream, lines: bytes, head: ResponseHead, outcome: Outcome) -> None:
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
