"""From a request's head and body to its `Work`.

The body is parsed once, here. A key that two parsers could see differently (given twice, or spelt with escapes) is
refused, because the backend's parser is not ours: the model that was checked must be the model that is served. When the
model's name must change on the way, only the bytes of its value change.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gpubalancer.brain.fleet import Fleet, allows
from gpubalancer.brain.routes import Route
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Work
from gpubalancer.policy.schema import Policy
from gpubalancer.policy.tenants import Tenant

_MODEL_VALUE = re.compile(rb'"model"\s*:\s*"((?:[^"\\]|\\.)*)"')
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]", re.IGNORECASE)
_FORM_MODEL = re.compile(rb'name="?model"?\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,256})\r\n', re.IGNORECASE)
_NEVER = float("inf")
_TIER, _DEADLINE = b"x-gpubalancer-tier", b"x-gpubalancer-deadline"


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON body: what it says of its routing, and where."""

    content: bytes
    asked: str
    """The model's name as the client gave it."""
    streamed: bool

    def naming(self, name: str) -> bytes:
        """The body with another model's name, and every other byte as it was."""
        if name == self.asked:
            return self.content
        quoted = orjson.dumps(name)
        matches = list(_MODEL_VALUE.finditer(self.content))
        # With one key of that name and none spelt with escapes, it is the top-level one that was read.
        plain = self.content.count(b'"model"') == 1 and not _ESCAPED_LETTER.search(self.content)
        if plain and len(matches) == 1:
            start, end = matches[0].span(1)
            return self.content[: start - 1] + quoted + self.content[end + 1 :]
        text = self.content.decode()
        start, end = _top_level_value(text, "model")
        return (text[:start] + quoted.decode() + text[end:]).encode()


def read_document(content: bytes, route: Route) -> Document:
    """Parse a JSON body as far as routing needs it.

    Raises:
        RequestError: `invalid_json`, `missing_model`.
    """
    try:
        fields = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RequestError("invalid_json", f"The body is not valid JSON: {error.msg}.") from None
    if not isinstance(fields, dict):
        raise RequestError("invalid_json", "The body must be a JSON object.")
    if content.count(b'"model"') != 1 or content.count(b'"stream"') > 1 or _ESCAPED_LETTER.search(content):
        _refuse_repeated_keys(content)
    asked, streamed = fields.get("model"), fields.get("stream", route.streams_by_default)
    if not isinstance(asked, str) or not asked:
        raise RequestError("missing_model", "The body must name a model.", param="model")
    if streamed is not None and not isinstance(streamed, bool):
        raise RequestError("invalid_json", "stream must be true or false.", param="stream")
    return Document(content, asked, bool(streamed))


def _refuse_repeated_keys(content: bytes) -> None:
    def check(pairs: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in pairs}) != len(pairs):
            raise RequestError("invalid_json", "A key of a JSON object is given twice.")

    try:
        json.loads(content, object_pairs_hook=check)
    except (ValueError, RecursionError):
        raise RequestError("invalid_json", "The body is not valid JSON.") from None


def _top_level_value(text: str, wanted: str) -> tuple[int, int]:
    """Start and end of the value of a top-level key in a valid JSON object."""
    decoder, position = json.JSONDecoder(), text.index("{") + 1
    while True:
        position = text.index('"', position)
        key, position = decoder.raw_decode(text, position)
        position = _skip_space(text, text.index(":", position) + 1)
        _, end = decoder.raw_decode(text, position)
        if key == wanted:
            return position, end
        position = end


def _skip_space(text: str, position: int) -> int:
    while text[position] in " \t\r\n":
        position += 1
    return position


def model_in_form(first_part: bytes) -> str | None:
    """The model that a multipart form names in its first bytes, None if it is not there (yet)."""
    match = _FORM_MODEL.search(first_part)
    return match[1].decode("utf-8", "replace") if match else None


def classify(
    fields: Mapping[bytes, bytes],
    route: Route,
    tenant: Tenant,
    policy: Policy,
    fleet: Fleet,
    *,
    asked: str | None,
    renamable: bool,
    streamed: bool,
    claim: str | None,
    upgrade: bool,
    received_s: float,
) -> Work:
    """Everything that decides where the request may go.

    Raises:
        RequestError: `model_not_found`, `model_not_allowed`, `tier_not_served`, `invalid_header`.
    """
    return Work(
        api=route.api,
        model=_model(asked, tenant, fleet),
        tier=_tier(fields.get(_TIER), tenant, policy.tier_ranks),
        streamed=streamed,
        deadline_s=_deadline(fields.get(_DEADLINE), received_s),
        kinds=frozenset(tenant.kinds) if tenant.kinds is not None else None,
        labels=frozenset(tenant.labels.items()),
        claim=claim,
        sent_name=None if renamable else asked,
        upgrade=upgrade,
    )


def _model(asked: str | None, tenant: Tenant, fleet: Fleet) -> str | None:
    if asked is None:
        return None
    name = fleet.resolve(asked)
    if name is None:
        raise RequestError("model_not_found", f"The model {_shown(asked)} does not exist.", param="model")
    if not allows(tenant.models, name):
        raise RequestError("model_not_allowed", f"The model {_shown(asked)} is not open to this key.", param="model")
    return name


def _shown(text: str) -> str:
    """A client's text in a message: quoted, printable, short."""
    return repr(text[:100])


def _tier(asked: bytes | None, tenant: Tenant, ranks: Mapping[str, int]) -> int:
    """The tenant's tier, or the higher one that the request asks for."""
    rank = ranks[tenant.tier or ""]
    if asked is not None:
        named = ranks.get(asked.decode())
        if named is None:
            raise RequestError("invalid_header", f"x-gpubalancer-tier: expected one of {', '.join(ranks)}.")
        rank = max(rank, named)
    if rank > ranks[tenant.max_tier or ""]:
        raise RequestError("tier_not_served", "This key may not send requests of this tier.")
    return rank


def _deadline(value: bytes | None, received_s: float) -> float:
    if value is None:
        return _NEVER
    if not value.isdigit() or len(value) > 9:
        raise RequestError("invalid_header", "x-gpubalancer-deadline: expected a whole number of milliseconds.")
    return received_s + int(value) / 1000
