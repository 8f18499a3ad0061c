"""What a backend says of itself, for what the policy leaves open: its models, its engine, its kind.

`discover` asks a few well-known pages and `infer` judges what came. A page that is missing, is no JSON or has another
shape tells nothing; that is no error. The `Server` header and `owned_by` of `/v1/models` decide first; the pages that
only one engine has, decide next.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from gpubalancer.domain.backend import Kind
from gpubalancer.telemetry.probes import DEADLINE_S, Target

MODELS_PATH = "/v1/models"
FURTHER_PATHS = ("/props", "/version", "/api/tags", "/info", "/v2")
PAGE_BYTES = 4 << 20
MODELS_LIMIT = 10_000

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
    """One answer of a backend: JSON content and the `Server` header."""

    content: Any
    server: str = ""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was learned. None and empty mean that the backend did not tell."""

    kind: Kind | None = None
    engine: str | None = None
    models: tuple[str, ...] = ()


async def discover(session: aiohttp.ClientSession, target: Target, deadline_s: float = DEADLINE_S) -> Discovery | None:
    """Ask a backend what it is. None if it gave no page at all: ask again later.

    Arguments:
        session: as `probes.open_session` makes.
        target: with its `engine` if that is given, and the credential for servers that want one.
        deadline_s: for each page.
    """
    pages: dict[str, Page] = {}
    for paths in ((MODELS_PATH,), FURTHER_PATHS):
        found = await asyncio.gather(*(_page(session, target, path, deadline_s) for path in paths))
        pages |= {path: page for path, page in zip(paths, found, strict=True) if page}
        if (target.engine or engine_of(pages)) and models_of(pages):
            break
    if not pages:
        return None
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
    return Discovery(kind, engine, models)


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


def _entries(pages: Mapping[str, Page], path: str, key: str) -> list[dict[str, Any]]:
    content = pages[path].content if path in pages else None
    entries = content.get(key) if isinstance(content, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _fit(names: Iterable[object]) -> Iterable[str]:
    for name in names:
        if isinstance(name, str) and 0 < len(name) <= 256 and name.isprintable() and not set(name) & set(" *\"'"):
            yield name


async def _page(session: aiohttp.ClientSession, target: Target, path: str, deadline_s: float) -> Page | None:
    headers = {"Authorization": f"Bearer {target.credential}"} if target.credential else {}
    try:
        async with session.get(
            target.at(path),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=deadline_s),
            allow_redirects=False,
            ssl=target.trust,
            server_hostname=target.server_name,
        ) as response:
            if response.status != 200:
                return None
            body = b""
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > PAGE_BYTES:
                    return None
            return Page(orjson.loads(body), response.headers.get("Server", ""))
    except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
        return None


async def _is_public(host: str) -> bool:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    addresses = {str(address[0]) for *_, address in found}
    return bool(addresses) and all(ipaddress.ip_address(each.partition("%")[0]).is_global for each in addresses)
