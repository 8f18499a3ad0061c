"""Where a request would go and why, for one that nobody sends.

A `Question` is a request with its tenant's name in place of a key. It is understood as a worker would understand it,
and `choose` chooses for it out of a `Scene`: of a running balancer all that its workers know of the fleet, offline
nothing but the policy. The answer is the table of `brain.explain`. Nothing is sent, reserved or learned by it, budgets
are not asked, and no text of the request is in it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import orjson

from gpubalancer.brain.choose import choose
from gpubalancer.brain.classify import classify
from gpubalancer.brain.columns import build_economy
from gpubalancer.brain.document import Document, read_document
from gpubalancer.brain.experience import Experience, count
from gpubalancer.brain.explain import Evidence, Explanation, explain
from gpubalancer.brain.fleet import Discovery, Fleet, build_fleet
from gpubalancer.brain.insight import Insight, build_insight, note_findings, note_prefix, note_unread, texts_of
from gpubalancer.brain.live import Cells, Live
from gpubalancer.brain.method import Method, method_of
from gpubalancer.brain.routes import CLAIMED, Route, find_route, model_in_path
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Work
from gpubalancer.policy.schema import Policy
from gpubalancer.policy.tenants import Tenant

CHAT = "/v1/chat/completions"
NAMES_SHOWN = 8
"""So many names stand in a sentence; others are a number."""
OFFLINE = "nothing is known but the policy: all backends are taken to be up and idle, as quick as their class"


@dataclass(frozen=True, slots=True)
class Question:
    """A request to explain.

    Attributes:
        tenant: by name; None for who pays without a key.
        path: with its query, if it has one.
        fields: of the head, names in lower case.
        body: as it would be sent.
    """

    tenant: str | None
    path: str
    fields: Mapping[bytes, bytes]
    body: bytes


@dataclass(frozen=True, slots=True)
class Scene:
    """What a request is understood and chosen by: the parts that a worker has of one policy."""

    policy: Policy
    fleet: Fleet
    method: Method
    live: Live
    insight: Insight
    experience: Experience
    prefix_salt: int | None = None
    """Of the table of prefixes; None where nobody remembers who has read what."""
    cached: Callable[[Work], Cells | None] = lambda _: None
    """How many tokens of a prompt each backend is expected to have read before; None if nobody has."""


def read_question(content: bytes) -> Question:
    """A question from its JSON: `{"tenant", "path", "headers", "body"}`, of which only `body` is needed.

    Raises:
        RequestError: `invalid_json`, `malformed_request`.
    """
    try:
        said = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise RequestError("invalid_json", "The body is not valid JSON.") from None
    if not isinstance(said, dict) or not {"body"} <= said.keys() <= {"tenant", "path", "headers", "body"}:
        raise RequestError("malformed_request", "Expected an object of tenant, path, headers and body.")
    tenant, path, headers = said.get("tenant"), said.get("path", CHAT), said.get("headers", {})
    if tenant is not None and not isinstance(tenant, str):
        raise RequestError("malformed_request", "Expected the name of a tenant.", param="tenant")
    if not isinstance(path, str) or not path.startswith("/"):
        raise RequestError("malformed_request", "Expected a path that begins with a slash.", param="path")
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise RequestError("malformed_request", "Expected an object of texts.", param="headers")
    fields = {name.lower().encode(): value.encode() for name, value in headers.items()}
    return Question(tenant, path, fields, orjson.dumps(said["body"]))


def write_question(question: Question) -> bytes:
    """The JSON of a question whose body is JSON; what `read_question` reads."""
    headers = {name.decode(): value.decode() for name, value in question.fields.items()}
    body = orjson.Fragment(question.body)
    return orjson.dumps({"tenant": question.tenant, "path": question.path, "headers": headers, "body": body})


def explain_request(question: Question, scene: Scene, wall_s: float, random: Random) -> tuple[Explanation, Work]:
    """The decision for a request as a table, and the request as it was understood.

    Arguments:
        question: the request.
        scene: what it is chosen by. The text is read here, so a long one takes its time.
        wall_s: seconds since 1970 began in UTC, for rules about the time of day.
        random: decides between equals.

    Raises:
        RequestError: what the request would be refused with before a backend is chosen; also `malformed_request`
            where the tenant is not known.
    """
    policy, fleet = scene.policy, scene.fleet
    work = _understand(question, scene, wall_s)
    live = scene.live._replace(cached_tokens=scene.cached(work))
    choice = choose(fleet, work, live, None, random, scene.method)
    table = explain(Evidence(fleet, work, live, None, scene.method, 0.0, choice), policy.hash)
    known = {"tier": policy.tiers[work.tier].name, "counted": work.counted}
    return replace(table, work=table.work | known), work


def explain_offline(question: Question, policy: Policy, wall_s: float) -> dict[str, Any]:
    """The JSON of a decision of which nothing is known but the policy, and `notes` that say what was taken for granted.

    Backends whose models the policy leaves open are taken to serve whatever is asked for.

    Raises:
        RequestError: as `explain_request`.
        TokenizerError: a model's tokenizer can't be loaded.
    """
    open_ones = [backend.name for backend in policy.backends if backend.models is None]
    known = {name: Discovery(_models_in_question(question, policy)) for name in open_ones}
    fleet = build_fleet(policy, {backend.name: row for row, backend in enumerate(policy.backends)}, known)
    nothing = np.zeros(len(fleet), np.int32)
    scene = Scene(
        policy,
        fleet,
        method_of(policy.routing, build_economy(policy, fleet)),
        Live(up=np.ones(len(fleet), np.bool_), draining=nothing > 0, in_flight=nothing),
        build_insight(policy, 0, None),
        Experience(),
    )
    table, _ = explain_request(question, scene, wall_s, Random(0))  # noqa: S311  the same file, the same answer
    return table.to_json() | {"notes": [OFFLINE, *_unknown(policy)]}


def _unknown(policy: Policy) -> list[str]:
    """What the policy leaves for the servers to say, a sentence for each setting."""
    meant = {
        "models": "they are taken to serve whatever is asked for",
        "engine": "they are taken for OpenAI-compatible",
        "kind": "they are taken for machines of no known class",
    }
    left_open = {
        setting: [backend.name for backend in policy.backends if getattr(backend, setting) is None] for setting in meant
    }
    return [
        f"offline the {setting} of {_listed(names)} cannot be known; {meant[setting]}"
        for setting, names in left_open.items()
        if names
    ]


def _models_in_question(question: Question, policy: Policy) -> tuple[str, ...]:
    """What a backend may be taken to serve: the model that is asked for, and those that rules may put in its place."""
    aliases = {alias: name for name, model in policy.models.items() for alias in model.aliases}
    route = find_route(urlsplit(question.path).path) or CLAIMED
    asked = _asked(question, _document(question, route))
    return tuple({*policy.models, *([aliases.get(asked, asked)] if asked is not None else [])})


def _understand(question: Question, scene: Scene, wall_s: float) -> Work:
    policy, insight, path = scene.policy, scene.insight, urlsplit(question.path).path
    route, tenant, ranks = _route(path, scene.fleet), _tenant(question.tenant, policy), policy.tier_ranks
    document = _document(question, route)
    work = classify(
        question.fields,
        route,
        tenant,
        policy,
        scene.fleet,
        asked=_asked(question, document),
        renamable=document is not None,
        streamed=document is not None and document.streamed,
        session=document.said.affinity if document is not None else None,
        claim=path if route is CLAIMED else None,
        upgrade=False,
        received_s=0.0,
    )
    if document is None:
        note_unread(work, insight, tenant, ranks)
    else:
        plan = insight.book.plan(document.said, work.model)
        scene.experience.expect(work, document.said, plan, count(plan))
        if scene.prefix_salt is not None:
            note_prefix(work, document.said, insight, scene.prefix_salt)
        note_findings(work, insight.scanner_apart.scan(texts_of(document.said)), insight, tenant, ranks)
    insight.rules.apply(work, question.fields, wall_s)
    return work


def _route(path: str, fleet: Fleet) -> Route:
    route = find_route(path) or (CLAIMED if fleet.claimed(path) else None)
    if route is None:
        raise RequestError("unknown_path", "There is nothing at this path.", param="path")
    if route.content == "here" or "POST" not in route.methods:
        raise RequestError("method_not_allowed", "Nothing is chosen for this path: it takes no POST.", param="path")
    return route


def _tenant(name: str | None, policy: Policy) -> Tenant:
    wanted = policy.anonymous if name is None else name
    found = next((tenant for tenant in policy.tenants if tenant.name == wanted), None)
    if found is not None:
        return found
    names = _listed([tenant.name for tenant in policy.tenants])
    if name is None:
        sentence = f"Nobody may ask without a key, so a tenant must be named: {names}."
    else:
        sentence = f"There is no tenant {name[:100]!r}; there are {names}."
    raise RequestError("malformed_request", sentence, param="tenant")


def _document(question: Question, route: Route) -> Document | None:
    return read_document(question.body, route) if route.content == "json" else None


def _asked(question: Question, document: Document | None) -> str | None:
    """The model that the body, the path or the query names."""
    if document is not None:
        return document.asked
    target = urlsplit(question.path)
    return model_in_path(target.path) or next(iter(parse_qs(target.query).get("model", ())), None)


def _listed(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
