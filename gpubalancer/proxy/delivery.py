"""From a classified request to its delivered answer: place, try, relay, and try elsewhere where that is safe."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

import numpy as np

from gpubalancer.brain.calibrate import Sample, sample_of
from gpubalancer.brain.fleet import Flags
from gpubalancer.brain.health import UNAVAILABLE, Health
from gpubalancer.brain.price import Rates, rates_of
from gpubalancer.brain.retry import backoff_s, may_retry
from gpubalancer.domain.audit import Predicted
from gpubalancer.domain.errors import FAILURES, Blame, RequestError
from gpubalancer.domain.outcome import NOBODY, Outcome
from gpubalancer.domain.work import Work
from gpubalancer.proxy.answers import id_line
from gpubalancer.proxy.asking import REFUSALS, Asking, names_field, read_refusal
from gpubalancer.proxy.attempt import Attempt
from gpubalancer.proxy.generation import Generation
from gpubalancer.proxy.intake import Asked
from gpubalancer.proxy.placing import Place, Placer
from gpubalancer.proxy.relaying import charge_unanswered, join, relay_answer
from gpubalancer.wire.exchange import Exchange
from gpubalancer.wire.forward import response_lines
from gpubalancer.wire.heads import ResponseHead
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
    on_sample: Callable[[Sample], None]
    """Gets what each streamed answer showed of its backend's speed."""
    on_unreachable: Callable[[str], None] = lambda _: None
    """Gets the name of a backend that was ejected because it can't be connected to."""
    asking: Asking = field(default_factory=Asking)

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
            outcome.backend, outcome.kind = fleet.names[place.index], fleet.kinds[place.index] or NOBODY
            attempt = Attempt(generation.pools[place.index], self.clock)
            try:
                await self._try(exchange, generation, asked, outcome, place, attempt)
                self._judge(place, outcome)
                self._learn(place, asked, outcome)
                return
            except UpstreamError as error:
                failure = self._note(error, place, asked, outcome)
                again = not exchange.began and may_retry(attempt.failed(error), retries.after_send)
                if not again or outcome.attempts >= retries.attempts:
                    raise failure from error
                if not error.reused:
                    tried = np.zeros(len(fleet), dtype=np.bool_) if tried is None else tried
                    tried[place.index] = True
            except asyncio.CancelledError:
                if attempt.sent_s and not exchange.began:
                    charge_unanswered(asked, outcome)
                raise
            finally:
                _price(generation, place, asked.work, outcome)
                attempt.finish()
                self.placer.give_back(place)
            # A kept-alive connection that had been closed is no reason to wait: a fresh one can be tried at once.
            if not failure.retry_safe:
                await asyncio.sleep(backoff_s(outcome.attempts, retries.backoff_s, self.random.random()))

    def _learn(self, place: Place, asked: Asked, outcome: Outcome) -> None:
        """Keep what an answer showed of its backend's speed, and of what it had read before."""
        if outcome.cached_known and not outcome.reason:
            self.placer.learn(place, outcome.backend, outcome.cached_tokens)
        if place.forecast is None or outcome.reason or outcome.status >= 300:
            return
        load, weight, work = place.forecast.load, place.forecast.weight, asked.work
        outcome.predicted = Predicted(
            work.prompt_tokens, work.output_tokens, load.cached_tokens, weight.ttft_s, weight.tpot_s
        )
        if not outcome.streamed:
            return
        reported = outcome.prompt_tokens - outcome.cached_tokens if outcome.usage_source == "reported" else 0
        fresh_tokens = reported or asked.work.prompt_tokens
        ttft_s = outcome.first_token_s - outcome.sent_s if outcome.first_token_s else 0.0
        times = ttft_s, outcome.tpot_s, place.burden.others_read_tokens()
        self.on_sample(sample_of(outcome.backend, place.forecast, fresh_tokens, outcome.completion_tokens, *times))

    async def _place(
        self, generation: Generation, asked: Asked, tried: Flags | None, failure: RequestError | None
    ) -> Place:
        """A place; when there is no other backend left to try, the failure of the last one is the answer."""
        try:
            return await self.placer.place(generation.judge, asked.work, tried, generation.policy.routing.queue)
        except RequestError as error:
            raise failure or error from None

    def _judge(self, place: Place, outcome: Outcome) -> None:
        """Hold the answer's end for or against its backend."""
        if outcome.status in UNAVAILABLE:
            self.health.failed(place.lease.row, self.clock(), "unavailable")
        elif not outcome.reason:
            self.health.served(place.lease.row)
        elif FAILURES[outcome.reason].blame is Blame.BACKEND:
            self.health.failed(place.lease.row, self.clock(), "cut")

    def _note(self, error: UpstreamError, place: Place, asked: Asked, outcome: Outcome) -> RequestError:
        """Hold a failed try against its backend, unless the connection was merely stale or the client in a hurry."""
        is_stale, now_s = error.reused and error.silent and not error.timed_out, self.clock()
        is_hurried = error.timed_out and now_s >= asked.work.deadline_s
        if error.phase == "connect":
            if self.health.failed(place.lease.row, now_s, "unreachable"):
                self.on_unreachable(outcome.backend)
        elif not is_stale and not is_hurried:
            self.health.failed(place.lease.row, now_s, "broken")
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
        try:
            head, refusal = await self._answer(exchange, generation, asked, outcome, place, attempt)
        finally:
            outcome.sent_s = attempt.sent_s
        if head.status not in UNAVAILABLE:
            self.health.answered(place.lease.row)
        outcome.status = head.status
        own_lines = self._own_lines(outcome, head)
        if asked.payment is not None:
            own_lines += asked.payment.lines
        if outcome.downgraded:
            own_lines += b"x-gpubalancer-downgraded: %b\r\n" % outcome.downgraded.encode()
        lines = response_lines(head, own_lines, self.via)
        upstream = attempt.upstream
        if refusal is not None:
            exchange.begin(head.status, lines, len(refusal))
            exchange.write(refusal, last=True)
        elif upstream is None:
            raise UpstreamError("the connection is gone", "head")
        elif head.status == 101:
            await join(exchange, upstream, lines, head, outcome)
        else:
            model = generation.policy.models.get(asked.work.model or "")
            context_tokens = model.context_tokens if model is not None else None
            may_stop = asked.payment is not None and asked.payment.reservation.claims.stops
            rates = _rates(generation, place, asked.work) if may_stop else None
            # What was refused was not read.
            on_first = partial(self.placer.began, place, asked.work) if head.status < 300 else place.burden.read
            await relay_answer(exchange, upstream, lines, head, asked, outcome, context_tokens, on_first, rates)

    async def _answer(
        self,
        exchange: Exchange,
        generation: Generation,
        asked: Asked,
        outcome: Outcome,
        place: Place,
        attempt: Attempt,
    ) -> tuple[ResponseHead, bytes | None]:
        """The head of the answer, and the body where it had to be read: of a refusal that was not for our asking."""
        work, pool = asked.work, generation.pools[place.index]
        if asked.payment is not None:
            is_priced = asked.payment.reservation.claims.priced
            asked.payment.begin(work.prompt_tokens, outcome, _rates(generation, place, work) if is_priced else None)
        known_as = generation.fleet.served[place.index].get(work.model) if work.model is not None else None
        content = asked.content_for(known_as, asks_usage=False)
        timeouts, request_id = generation.policy.routing.timeouts, outcome.request_id.encode()
        if content is None or not self.asking.asks(pool, asked):
            return await attempt.run(exchange, work, content, self.via, request_id, timeouts), None
        asking = asked.content_for(known_as, asks_usage=True)
        head = await attempt.run(exchange, work, asking, self.via, request_id, timeouts)
        if head.status not in REFUSALS or attempt.upstream is None:
            return head, None
        # A compressed refusal is not read; it may be for our asking, and nothing was generated.
        if head.field(b"content-encoding") is None:
            refusal = await read_refusal(attempt.upstream)
            if not names_field(refusal):
                return head, refusal
        attempt.finish()
        outcome.attempts += 1
        head = await attempt.run(exchange, work, content, self.via, request_id, timeouts)
        if head.status not in REFUSALS:
            self.asking.refused(pool)
        return head, None

    @staticmethod
    def _own_lines(outcome: Outcome, head: ResponseHead) -> bytes:
        """What we add to an answer. Names of backends are plain ASCII, as the policy checks."""
        # Anthropic's own `request-id` stands: its support asks for it.
        path = outcome.path if head.field(b"request-id") is None else ""
        return (
            b"%bx-gpubalancer-backend: %b\r\nx-gpubalancer-tier: %b\r\n"
            b"x-gpubalancer-attempts: %d\r\nx-gpubalancer-overhead-ms: %.2f\r\n"
            % (
                id_line(outcome.request_id, path),
                outcome.backend.encode(),
                outcome.tier.encode(),
                outcome.attempts,
                outcome.overhead_s * 1000,
            )
        )


def _rates(generation: Generation, place: Place, work: Work) -> Rates:
    """What a place charges a request in money and energy."""
    price = generation.policy.backends[place.index].price
    watts = float(generation.judge.watts[place.index]) if math.isnan(place.watts) else place.watts
    return rates_of(price, watts, place.forecast, work.output_tokens)


def _price(generation: Generation, place: Place, work: Work, outcome: Outcome) -> None:
    """What the answer cost in money and energy; nothing of the machine's time where the request never went."""
    rates = _rates(generation, place, work)
    if not outcome.sent_s:
        rates = rates._replace(read_s=0.0)
    outcome.usd = rates.usd(outcome.prompt_tokens, outcome.cached_tokens, outcome.completion_tokens)
    outcome.joules = rates.joules(outcome.completion_tokens)
    place.burden.worked(rates.used_s(outcome.completion_tokens))
