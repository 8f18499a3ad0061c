"""The life of a request, in one coroutine that reads from top to bottom.

`serve` routes, authenticates, reads, delivers and records; what each step decides stands in `brain`. A client that
leaves cancels the coroutine wherever it waits, and what it held goes back on the way out: the connection is closed,
which stops the backend's work, and the slot is free. The record is written last and always; only then do the last
bytes of the answer go to the client, so that nobody has a whole answer that is not on record.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count

from gpubalancer.brain.routes import Route
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.outcome import Outcome
from gpubalancer.policy.tenants import Tenant, allows
from gpubalancer.proxy.answers import error_answer, id_line, models_answer
from gpubalancer.proxy.delivery import Courier
from gpubalancer.proxy.generation import Generation
from gpubalancer.proxy.intake import Asked, authenticate, read_request, route_of
from gpubalancer.proxy.label import describe
from gpubalancer.proxy.paying import Cashier
from gpubalancer.proxy.study import Study
from gpubalancer.proxy.tokenizing import token_answer
from gpubalancer.proxy.usage_desk import UsageDesk
from gpubalancer.wire.exchange import Exchange
from gpubalancer.wire.forward import names_us

_ID_CHARACTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:")
_ID_LENGTH = 128


@dataclass(slots=True)
class Service:
    """What the requests of one worker share."""

    generation: Generation
    """The policy in force; a request keeps the one that it began with."""
    courier: Courier
    study: Study
    cashier: Cashier
    usage_desk: UsageDesk
    record: Callable[[Outcome], None]
    """Gets every outcome, once."""
    id_prefix: str
    """Begins the ids that we make, one for each request."""
    numbers: "count[int]"

    async def serve(self, exchange: Exchange) -> None:
        """Serve one request."""
        generation, head = self.generation, exchange.head
        decision_id = f"{self.id_prefix}{next(self.numbers):x}"
        request_id = _given_id(exchange) or decision_id
        outcome = Outcome(request_id, exchange.received_s, head.method, head.target.path, decision_id)
        asked: Asked | None = None
        exchange.holds_end = True
        try:
            route = route_of(exchange, generation)
            outcome.api = route.api
            tenant, key, outcome.key_id = authenticate(exchange, generation)
            outcome.tenant = tenant.name
            if b"via" in head.fields and names_us(head.headers, self.courier.via):
                raise RequestError("loop_detected", "This request has passed here before.")
            if route.content == "here":
                if route.api == "usage":
                    lines, content = await self.usage_desk.answer(tenant.name, head.target)
                    exchange.reply(200, lines + id_line(outcome.request_id), content)
                else:
                    self._answer_models(exchange, generation, tenant, outcome)
                return
            note = partial(describe, outcome, policy=generation.policy)
            asked = await read_request(exchange, generation, route, tenant, self.study, note)
            if not self._answer_tokens(exchange, generation, route, asked, outcome):
                asked.payment = await self.cashier.reserve(generation, asked.work, key, outcome, head.fields)
                if outcome.downgraded:
                    # What is expected of the answer rested on another model's.
                    asked.basis = None
                await self.courier.deliver(exchange, generation, asked, outcome)
        except RequestError as error:
            self._refuse(exchange, outcome, error)
        except asyncio.CancelledError:
            if outcome.status != 101:
                outcome.reason = "client_left" if exchange.client_left else "draining"
            raise
        finally:
            try:
                self._end(exchange, outcome, asked)
            finally:
                exchange.release()

    @staticmethod
    def _answer_models(exchange: Exchange, generation: Generation, tenant: Tenant, outcome: Outcome) -> None:
        usable = [name for name in generation.fleet.models() if allows(tenant.models, name)]
        lines, content = models_answer(outcome.path, usable, anthropic=b"anthropic-version" in exchange.head.fields)
        exchange.reply(200, lines + id_line(outcome.request_id), content)

    @staticmethod
    def _answer_tokens(
        exchange: Exchange, generation: Generation, route: Route, asked: Asked, outcome: Outcome
    ) -> bool:
        """Answer a question about tokens here where the tokenizer is known; True if that was done."""
        if not route.about_tokens or asked.document is None:
            return False
        answer = token_answer(route.api, asked.work, asked.document.said, generation)
        if answer is not None:
            exchange.reply(200, answer[0] + id_line(outcome.request_id, outcome.path), answer[1])
        return answer is not None

    @staticmethod
    def _refuse(exchange: Exchange, outcome: Outcome, error: RequestError) -> None:
        outcome.reason, outcome.detail = error.code, outcome.detail or error.message
        exchange.refuse(error, *error_answer(error, outcome.path, outcome.request_id))

    def _end(self, exchange: Exchange, outcome: Outcome, asked: Asked | None) -> None:
        """Record the request; one that our own fault left unanswered is answered first."""
        if not exchange.ended and not outcome.reason:
            self._refuse(exchange, outcome, RequestError("internal_error", "The balancer failed."))
        elif not exchange.ended and not exchange.client_left:
            exchange.break_off(b"")
        outcome.status = exchange.status
        outcome.request_bytes, outcome.response_bytes = exchange.body.size_bytes, exchange.sent_bytes
        outcome.ended_s = self.courier.clock()
        self.cashier.end(asked.payment if asked is not None else None, outcome)
        if asked is not None and asked.basis is not None and outcome.usage_source == "reported" and not outcome.reason:
            tokens = outcome.prompt_tokens, outcome.completion_tokens
            self.study.experience.learn(asked.work, asked.basis, *tokens)
        self.record(outcome)


def _given_id(exchange: Exchange) -> str | None:
    """The id that the client gave its request, if it can do no harm."""
    given = exchange.head.fields.get(b"x-request-id")
    return given.decode() if given and len(given) <= _ID_LENGTH and _ID_CHARACTERS.issuperset(given) else None
