"""The first steps of a request: what is asked for, who asks, and as much of the body as routing needs.

Nothing of a body is read before its sender is known, and a length that is too large is refused unread.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gpubalancer.brain.classify import classify
from gpubalancer.brain.document import Document, model_in_form
from gpubalancer.brain.experience import Basis
from gpubalancer.brain.keys import Payer, presented_key
from gpubalancer.brain.routes import CLAIMED, Route, find_route, model_in_path
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Work
from gpubalancer.policy.tenants import Tenant
from gpubalancer.proxy.generation import Generation
from gpubalancer.proxy.paying import Payment
from gpubalancer.proxy.study import Study
from gpubalancer.wire.exchange import Exchange

_PEEK_BYTES = 64 * 1024
"""How far an upload is looked into for the model that its form names."""

_MEMO = b"tenant"


@dataclass(slots=True)
class Asked:
    """What a request asks for, and its body where that has been read."""

    work: Work
    document: Document | None
    basis: Basis | None = None
    """What its expected tokens rest on; None where no body was read."""
    payment: Payment | None = None
    """What it has reserved; None where no budget applies."""

    def content_for(self, known_as: str | None, *, asks_usage: bool) -> tuple[bytes, ...] | None:
        """The body for a backend that knows the model by this name; None if the body passes through unread.

        With `asks_usage` it asks for the usage of its stream.
        """
        return self.document.body(known_as, with_usage=asks_usage) if self.document is not None else None


def route_of(exchange: Exchange, generation: Generation) -> Route:
    """The route of a request.

    Raises:
        RequestError: `unknown_path`, `method_not_allowed`.
    """
    path = exchange.head.target.path
    route = find_route(path)
    if route is None:
        upgraded = exchange.head.upgrade is not None and generation.fleet.upgradable(path)
        if not upgraded and not generation.fleet.claimed(path):
            raise RequestError("unknown_path", "There is nothing at this path.")
        route = CLAIMED
    if exchange.head.method not in route.methods:
        raise RequestError("method_not_allowed", f"{exchange.head.method} is not served at this path.")
    return route


def authenticate(exchange: Exchange, generation: Generation) -> Payer:
    """Who pays. The same key on the same connection is hashed once for each policy.

    Raises:
        RequestError: `missing_api_key`, `invalid_api_key`.
    """
    key = presented_key(exchange.head.fields)
    proved = exchange.auth_memo.get(_MEMO)
    if isinstance(proved, tuple) and proved[0] is generation and proved[1] == key:
        known: Payer = proved[2]
        return known
    payer = generation.keys.payer_of(key)
    exchange.auth_memo[_MEMO] = (generation, key, payer)
    return payer


async def read_request(
    exchange: Exchange,
    generation: Generation,
    route: Route,
    tenant: Tenant,
    study: Study,
    note: Callable[[Work], None],
) -> Asked:
    """Take of the body what routing needs, and find out what the request is.

    `note` gets the work as far as it is known, also where the request is refused for what was found in it.

    Raises:
        RequestError: whatever is wrong with the body, the model or the tier.
    """
    head, path = exchange.head, exchange.head.target.path
    document = await _document(exchange, generation, route, tenant, study) if route.content == "json" else None
    asked = document.asked if document else await _model_of_unread(exchange, generation)
    upgrade = head.upgrade is not None and generation.fleet.upgradable(path)
    work = classify(
        head.fields,
        route,
        tenant,
        generation.policy,
        generation.fleet,
        asked=asked,
        renamable=document is not None,
        streamed=document is not None and document.streamed,
        session=document.said.affinity if document is not None else None,
        claim=path if upgrade or route is CLAIMED else None,
        upgrade=upgrade,
        received_s=exchange.received_s,
    )
    unread = document is None and (head.has_body or upgrade)
    try:
        basis = await study.understand(
            work, document, generation.insight, tenant, generation.policy, head.fields, route=route, unread=unread
        )
    finally:
        note(work)
    return Asked(work, document, basis)


async def _document(exchange: Exchange, generation: Generation, route: Route, tenant: Tenant, study: Study) -> Document:
    _allow(exchange, generation.policy.listen.limits.body_bytes)
    exchange.invite_body()
    return await study.read(await exchange.body.collect(), route, generation.policy, tenant)


async def _model_of_unread(exchange: Exchange, generation: Generation) -> str | None:
    """The model that the path, the query or the first part of a form names."""
    _allow(exchange, generation.policy.listen.limits.upload_bytes)
    head = exchange.head
    asked = model_in_path(head.target.path) or head.target.parameter("model")
    if asked is None and head.fields.get(b"content-type", b"").startswith(b"multipart/form-data"):
        exchange.invite_body()
        first = await exchange.body.peek(lambda part: model_in_form(part) is not None, _PEEK_BYTES)
        asked = model_in_form(first)
    return asked


def _allow(exchange: Exchange, limit_bytes: int) -> None:
    exchange.body.allow(limit_bytes)
    if exchange.head.length is not None and exchange.head.length > limit_bytes:
        raise RequestError("body_too_large", f"The body is larger than the {limit_bytes} bytes allowed here.")
