"""What is asked for on which path: the table of the data port.

A path belongs to an API; the table says how its body is treated. `json` bodies are read, because they name the model;
`unread` bodies (audio, images, tensors) pass through, and the model is found in the path, the query or the first part
of a form. `here` is answered by the balancer itself.

Ollama's calls that change a server (pull, create, delete) are left out on purpose: on a fleet they would hit any
backend. One that wants them can claim them with `paths`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Content = Literal["json", "unread", "here"]


@dataclass(frozen=True, slots=True)
class Route:
    """How requests on one path are treated."""

    api: str
    content: Content
    methods: frozenset[str]
    streams_by_default: bool = False
    """An answer is a stream unless the body says `"stream": false` (Ollama)."""
    about_tokens: bool = False
    """The question is how many tokens it has, which is answered here where the tokenizer is known."""


_POST = frozenset(("POST",))
_GET = frozenset(("GET", "HEAD"))
_ANY = frozenset(("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"))

_EXACT: Mapping[str, Route] = MappingProxyType(
    {
        "/v1/chat/completions": Route("chat", "json", _POST),
        "/v1/completions": Route("completions", "json", _POST),
        "/v1/responses": Route("responses", "json", _POST),
        "/v1/embeddings": Route("embeddings", "json", _POST),
        "/v1/rerank": Route("rerank", "json", _POST),
        "/v1/messages": Route("messages", "json", _POST),
        "/v1/messages/count_tokens": Route("messages", "json", _POST, about_tokens=True),
        "/v1/tokenize": Route("tokenize", "json", _POST, about_tokens=True),
        "/v1/audio/speech": Route("audio", "json", _POST),
        "/v1/images/generations": Route("images", "json", _POST),
        "/v1/models": Route("models", "here", _GET),
        "/v1/usage": Route("usage", "here", _GET),
        "/api/chat": Route("ollama", "json", _POST, streams_by_default=True),
        "/api/generate": Route("ollama", "json", _POST, streams_by_default=True),
        "/api/embed": Route("ollama", "json", _POST),
        "/api/embeddings": Route("ollama", "json", _POST),
        "/api/show": Route("ollama", "json", _POST),
        "/api/tags": Route("ollama", "here", _GET),
        "/api/version": Route("ollama", "unread", _GET),
        "/api/ps": Route("ollama", "unread", _GET),
    }
)
_PREFIXES: tuple[tuple[str, Route], ...] = (
    ("/v1/models/", Route("models", "here", _GET)),
    ("/v1/responses/", Route("responses", "unread", _ANY)),
    ("/v1/audio/", Route("audio", "unread", _POST)),
    ("/v1/images/", Route("images", "unread", _POST)),
    ("/v2/models/", Route("kserve", "unread", frozenset(("GET", "POST")))),
)
_KSERVE_MODEL = re.compile(r"/v2/models/([^/]+)/(?:versions/[^/]+/)?(?:infer|ready|generate|generate_stream)")

CLAIMED = Route("claimed", "unread", _ANY)
"""A path that is not in the table, but that a backend claims."""


def find_route(path: str) -> Route | None:
    """The route of a path, None if it is not in the table."""
    route = _EXACT.get(path)
    if route is not None:
        return route
    for prefix, prefixed in _PREFIXES:
        if path.startswith(prefix):
            return None if prefixed.api == "kserve" and not _KSERVE_MODEL.fullmatch(path) else prefixed
    return None


def model_in_path(path: str) -> str | None:
    """The model that a KServe path names."""
    match = _KSERVE_MODEL.fullmatch(path)
    return match[1] if match else None


_ALL_BUT_OWN = frozenset(
    ("chat", "completions", "responses", "embeddings", "rerank", "messages", "audio", "images", "claimed")
)

ENGINE_APIS: Mapping[str | None, frozenset[str]] = MappingProxyType(
    {
        "vllm": _ALL_BUT_OWN - {"images"},
        "sglang": _ALL_BUT_OWN - {"images", "audio"},
        "llamacpp": _ALL_BUT_OWN - {"images", "audio"},
        "tgi": frozenset(("chat", "completions", "claimed")),
        "ollama": frozenset(("chat", "completions", "responses", "messages", "embeddings", "ollama", "claimed")),
        "triton": frozenset(("kserve", "claimed")),
        "anthropic": frozenset(("messages", "claimed")),
        None: _ALL_BUT_OWN,
    }
)
"""The APIs of each engine where the policy does not say; an engine not named here is taken for OpenAI-compatible."""


def apis_of(engine: str | None) -> frozenset[str]:
    """The APIs that a backend of this engine is asked for."""
    return ENGINE_APIS.get(engine, ENGINE_APIS[None])
