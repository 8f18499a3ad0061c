"""What a backend says of itself, for what the policy leaves open: its models, its engine, its kind, and what they can.

`discover` asks a few well-known pages and `infer` judges what came. A page that is missing, is no JSON or has another
shape tells nothing; that is no error. The `Server` header and `owned_by` of `/v1/models` decide first; the pages that
only one engine has, decide next. Once the engine is known, the pages are asked where it tells of its models: how long
a context they take, which are adapters of another (LoRA), which are in memory. The size of the key-value cache is on
the metrics page, which `scrape` reads.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from gpubalancer.board.layout import Loaded
from gpubalancer.domain.backend import Kind
from gpubalancer.telemetry.dialects import is_loading
from gpubalancer.telemetry.fetch import FetchError, fetch
from gpubalancer.telemetry.probes import DEADLINE_S, Target

MODELS_PATH = "/v1/models"
FURTHER_PATHS = ("/props", "/version", "/api/tags", "/info", "/v2")
ENGINE_PATHS = {"llamacpp": ("/props",), "ollama": ("/api/ps",), "vllm": ("/is_sleeping",)}
"""Where an engine tells more of its models. vLLM has its page in development mode only."""
MODELS_LIMIT = 10_000
CONTEXT_TOKENS_LIMIT = 1 << 30

ENGINES_BY_OWNER = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llamacpp", "library": "ollama"}
"""`owned_by` in `/v1/models`."""
ENGINES_BY_SERVER = {"llama.cpp": "llamacpp"}
"""The `Server` header."""
KINDS = {
    "vllm": Kind.GPU,
    "sglang": Kind.GPU,
    "tgi": Kind.GPU,
    "triton": Kind.GPU,
    "llamacpp": Kind.CPU,
    "ollama": Kind.CPU,
}
"""A guess by what an engine is mostly run on; a policy that knows better gives `kind`."""


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a backend: JSON content, the `Server` header, and whether it says that the model is being read."""

    content: Any
    server: str = ""
    is_loading: bool = False


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was learned. None and empty mean that the backend did not tell.

    Attributes:
        models: all that it serves, adapters too.
        context_tokens: the longest prompt and answer, by model.
        adapters: models that are adapters (LoRA), each with the model that it changes.
        in_memory: models that need no loading; None if it does not tell.
        loaded: it reads its model just now, or it sleeps.
    """

    kind: Kind | None = None
    engine: str | None = None
    models: tuple[str, ...] = ()
    context_tokens: Mapping[str, int] = field(default_factory=dict)
    adapters: Mapping[str, str] = field(default_factory=dict)
    in_memory: tuple[str, ...] | None = None
    loaded: Loaded = Loaded.READY


async def discover(session: aiohttp.ClientSession, target: Target, deadline_s: float = DEADLINE_S) -> Discovery | None:
    """Ask a backend what it is. None if it gave no page at all: ask again later.

    Arguments:
        session: as `probes.open_session` makes.
        target: with its `engine` if that is given, and the credential for servers that want one.
        deadline_s: for each page.
    """
    pages: dict[str, Page] = {}
    for paths in ((MODELS_PATH,), FURTHER_PATHS):
        pages |= await _pages(session, target, paths, deadline_s)
        if (target.engine or engine_of(pages)) and models_of(pages):
            break
    if not pages:
        return None
    more = ENGINE_PATHS.get(target.engine or engine_of(pages) or "", ())
    pages |= await _pages(session, target, [path for path in more if path not in pages], deadline_s)
    return infer(pages, target.engine, await _is_public(urlsplit(target.url).hostname or ""))


def infer(pages: Mapping[str, Page], engine: str | None, is_public: bool) -> Discovery:
    """Judge the pages of one backend.

    Arguments:
        pages: by path.
        engine: as the policy gives it; None if it does not.
        is_public: its address is one of the public internet.
    """
    engine = engine or engine_of(pages)
    models = models_of(pages)
    if engine is None and MODELS_PATH in pages:
        engine = "openai"
    kind = KINDS.get(engine or "") or (Kind.CLOUD if is_public and engine else None)
    contexts, adapters = contexts_of(pages), adapters_of(pages)
    return Discovery(kind, engine, models, contexts, adapters, in_memory_of(pages), loaded_of(pages))


def engine_of(pages: Mapping[str, Page]) -> str | None:
    """The engine that these pages give away."""
    for page in pages.values():
        if page.server in ENGINES_BY_SERVER:
            return ENGINES_BY_SERVER[page.server]
    for entry in _entries(pages, MODELS_PATH, "data"):
        owner = entry.get("owned_by")
        if isinstance(owner, str) and owner.lower() in ENGINES_BY_OWNER:
            return ENGINES_BY_OWNER[owner.lower()]
    content = {path: page.content for path, page in pages.items() if isinstance(page.content, dict)}
    marks = {
        "ollama": "models" in content.get("/api/tags", {}),
        "llamacpp": "default_generation_settings" in content.get("/props", {}),
        "triton": content.get("/v2", {}).get("name") == "triton",
        "tgi": "model_id" in content.get("/info", {}) and "max_concurrent_requests" in content["/info"],
        "vllm": "version" in content.get("/version", {}),
    }
    return next((engine for engine, found in marks.items() if found), None)


def models_of(pages: Mapping[str, Page]) -> tuple[str, ...]:
    """The models that these pages list, each once, in their order; names that a policy would refuse are left out."""
    names = [entry.get("id") for entry in _entries(pages, MODELS_PATH, "data")]
    names = names or [entry.get("name") for entry in _entries(pages, "/api/tags", "models")]
    info = pages.get("/info")
    if not names and info and isinstance(info.content, dict):
        names = [info.content.get("model_id")]
    return tuple(dict.fromkeys(_fit(names)))[:MODELS_LIMIT]


def contexts_of(pages: Mapping[str, Page]) -> dict[str, int]:
    """Tokens of the longest prompt and answer, by model; an adapter has what the model below it has."""
    said = {entry.get("id"): entry.get("max_model_len") for entry in _entries(pages, MODELS_PATH, "data")}
    said |= {entry.get("name"): entry.get("context_length") for entry in _entries(pages, "/api/ps", "models")}
    slot = _dict(pages, "/props").get("default_generation_settings")
    n_ctx = slot.get("n_ctx") if isinstance(slot, dict) else None
    adapters = adapters_of(pages)
    found = {name: said.get(name) or said.get(adapters.get(name)) or n_ctx for name in models_of(pages)}
    return {name: int(tokens) for name, tokens in found.items() if tokens is not None and _is_count(tokens)}


def adapters_of(pages: Mapping[str, Page]) -> dict[str, str]:
    """Models that are adapters, and the model that each changes (`parent` in vLLM's and SGLang's list)."""
    pairs = [(entry.get("id"), entry.get("parent")) for entry in _entries(pages, MODELS_PATH, "data")]
    models = set(models_of(pages))
    return {name: parent for name, parent in pairs if name in models and parent in models and name != parent}


def in_memory_of(pages: Mapping[str, Page]) -> tuple[str, ...] | None:
    """The models that Ollama has in memory; None if nothing tells."""
    if not isinstance(_dict(pages, "/api/ps").get("models"), list):
        return None
    return tuple(_fit(entry.get("name") for entry in _entries(pages, "/api/ps", "models")))


def loaded_of(pages: Mapping[str, Page]) -> Loaded:
    """Whether it reads its model just now, or sleeps."""
    if any(page.is_loading for page in pages.values()):
        return Loaded.LOADING
    return Loaded.SLEEPING if _dict(pages, "/is_sleeping").get("is_sleeping") is True else Loaded.READY


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= CONTEXT_TOKENS_LIMIT


def _dict(pages: Mapping[str, Page], path: str) -> dict[str, Any]:
    content = pages[path].content if path in pages else None
    return content if isinstance(content, dict) else {}


def _entries(pages: Mapping[str, Page], path: str, key: str) -> list[dict[str, Any]]:
    content = pages[path].content if path in pages else None
    entries = content.get(key) if isinstance(content, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _fit(names: Iterable[object]) -> Iterable[str]:
    for name in names:
        if isinstance(name, str) and 0 < len(name) <= 256 and name.isprintable() and not set(name) & set(" *\"'"):
            yield name


async def _pages(
    session: aiohttp.ClientSession, target: Target, paths: Sequence[str], deadline_s: float
) -> dict[str, Page]:
    found = await asyncio.gather(*(_page(session, target, path, deadline_s) for path in paths))
    return {path: page for path, page in zip(paths, found, strict=True) if page}


async def _page(session: aiohttp.ClientSession, target: Target, path: str, deadline_s: float) -> Page | None:
    try:
        answer = await fetch(
            session,
            target.at(path),
            deadline_s,
            credential=target.credential,
            trust=target.trust,
            server_name=target.server_name,
        )
        server = answer.headers.get("Server", "")
        if answer.status == 503 and is_loading(answer.body):
            return Page(None, server, is_loading=True)
        return Page(orjson.loads(answer.body), server) if answer.status == 200 else None
    except (FetchError, ValueError):
        return None


async def _is_public(host: str) -> bool:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    addresses = {str(address[0]) for *_, address in found}
    return bool(addresses) and all(ipaddress.ip_address(each.partition("%")[0]).is_global for each in addresses)
