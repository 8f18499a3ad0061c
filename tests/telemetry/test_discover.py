"""Discovery: what the pages of real engines tell, and what nonsense tells."""

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.board.layout import Loaded
from gpubalancer.domain.backend import Kind
from gpubalancer.telemetry.discover import Discovery, Page, discover, infer
from gpubalancer.telemetry.pages import PAGE_BYTES
from gpubalancer.telemetry.probes import Target, open_session

from .server import Answers, serving


def models(*names: str, owner: str = "somebody") -> tuple[int, Any]:
    """A `/v1/models` answer."""
    return 200, {"object": "list", "data": [{"id": name, "object": "model", "owned_by": owner} for name in names]}


def ask(
    pages: dict[str, tuple[int, Any]],
    headers: dict[str, str] | None = None,
    engine: str | None = None,
    credential: str | None = None,
) -> tuple[Discovery | None, Answers]:
    """Discover a server that answers these pages."""

    async def main() -> tuple[Discovery | None, Answers]:
        async with serving(pages, headers) as answers, open_session() as session:
            return await discover(session, Target("b", answers.url, engine, credential)), answers

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("pages", "headers", "found"),
    [
        ({"/v1/models": models("llama", "lora-1", owner="vllm")}, {}, Discovery(Kind.GPU, "vllm", ("llama", "lora-1"))),
        ({"/v1/models": models("qwen", owner="sglang")}, {}, Discovery(Kind.GPU, "sglang", ("qwen",))),
        ({"/v1/models": models("phi", owner="llamacpp")}, {}, Discovery(Kind.CPU, "llamacpp", ("phi",))),
        ({"/v1/models": models("phi")}, {"Server": "llama.cpp"}, Discovery(Kind.CPU, "llamacpp", ("phi",))),
        ({"/v1/models": models("phi:3", owner="library")}, {}, Discovery(Kind.CPU, "ollama", ("phi:3",))),
        ({"/api/tags": (200, {"models": [{"name": "phi:3"}]})}, {}, Discovery(Kind.CPU, "ollama", ("phi:3",))),
        (
            {"/v1/models": models("m"), "/props": (200, {"default_generation_settings": {}})},
            {},
            Discovery(Kind.CPU, "llamacpp", ("m",)),
        ),
        ({"/v1/models": models("m"), "/version": (200, {"version": "1"})}, {}, Discovery(Kind.GPU, "vllm", ("m",))),
        (
            {"/info": (200, {"model_id": "bigscience/bloom", "max_concurrent_requests": 128})},
            {},
            Discovery(Kind.GPU, "tgi", ("bigscience/bloom",)),
        ),
        ({"/v2": (200, {"name": "triton", "version": "2"})}, {}, Discovery(Kind.GPU, "triton", ())),
        ({"/v1/models": models("gpt")}, {}, Discovery(None, "openai", ("gpt",))),
        ({"/v1/models": models()}, {}, Discovery(None, "openai", ())),
    ],
)
def test_engines_are_known_by_their_pages(
    pages: dict[str, tuple[int, Any]], headers: dict[str, str], found: Discovery
) -> None:
    """Each engine is recognised, with its models and the kind that it mostly runs on."""
    assert ask(pages, headers)[0] == found


def test_a_server_that_gives_no_page_is_asked_again_later() -> None:
    """Nothing but errors is no discovery, so that the caller can tell it from an empty one."""
    assert ask({"/v1/models": (401, None), "/info": (500, None)})[0] is None


def test_a_closed_port_is_no_discovery() -> None:
    """A server that is not there gives None."""

    async def main() -> Discovery | None:
        async with serving({}) as answers:
            url = answers.url
        async with open_session() as session:
            return await discover(session, Target("b", url))

    assert asyncio.run(main()) is None


def test_what_is_known_is_not_asked_for() -> None:
    """With a given engine and a list of models, one page is asked, with the credential."""
    found, answers = ask({"/v1/models": models("gpt")}, engine="openai", credential="key")
    assert found == Discovery(None, "openai", ("gpt",))
    assert answers.asked == [("/v1/models", "Bearer key")]


def test_a_public_openai_server_is_a_cloud() -> None:
    """A public address makes an unknown machine a cloud, but not one whose engine says better."""
    pages = {"/v1/models": Page({"data": [{"id": "m", "owned_by": "x"}]})}
    assert infer(pages, None, is_public=True).kind is Kind.CLOUD
    assert infer(pages, "vllm", is_public=True).kind is Kind.GPU
    assert infer({}, None, is_public=True) == Discovery()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b'"x"', b"<html>", b'{"data": 5}', b'{"data": [5, null, {}, {"id": 7}]}', b"\xff"],
)
def test_pages_of_other_shapes_tell_nothing(content: bytes) -> None:
    """Nonsense on every page gives no models and no engine but what the path itself shows."""
    found, _ = ask(dict.fromkeys(("/v1/models", "/props", "/version", "/api/tags", "/info", "/v2"), (200, content)))
    assert found in (None, Discovery(None, "openai", ()))


def test_an_endless_page_is_left() -> None:
    """A page of more than 4 MiB is not read to its end and tells nothing."""
    page = orjson.dumps({"data": [{"id": "m"}], "filler": "x" * PAGE_BYTES})
    assert ask({"/v1/models": (200, page)})[0] is None


def test_names_that_a_policy_would_refuse_are_left_out() -> None:
    """Spaces, quotes, stars, control characters and endless names of models are dropped; doubles count once."""
    pages = {"/v1/models": models("ok", "ok", "a b", 'a"b', "*", "a\x00b", "", "x" * 257, "also/ok:1")}
    found, _ = ask(pages)
    assert found is not None
    assert found.models == ("ok", "also/ok:1")


def test_context_lengths_and_adapters_of_vllm() -> None:
    """Each model with its longest context; an adapter with the model that it changes, and that one's context."""
    entries = [
        {"id": "llama", "owned_by": "vllm", "parent": None, "max_model_len": 4096},
        {"id": "sql-lora", "owned_by": "vllm", "parent": "llama"},
        {"id": "lost-lora", "owned_by": "vllm", "parent": "gone"},
        {"id": "odd", "owned_by": "vllm", "max_model_len": "long"},
        {"id": "none", "owned_by": "vllm", "max_model_len": 0},
        {"id": "yes", "owned_by": "vllm", "max_model_len": True},
    ]
    found, answers = ask({"/v1/models": (200, {"data": entries}), "/is_sleeping": (200, {"is_sleeping": True})})
    assert found is not None
    assert found.context_tokens == {"llama": 4096, "sql-lora": 4096}
    assert found.adapters == {"sql-lora": "llama"}
    assert found.loaded is Loaded.SLEEPING
    assert [path for path, _ in answers.asked] == ["/v1/models", "/is_sleeping"]


def test_context_length_of_llamacpp() -> None:
    """What a slot of the server takes, not what the model was trained for."""
    pages = {
        "/v1/models": (200, {"data": [{"id": "phi", "owned_by": "llamacpp", "meta": {"n_ctx_train": 131072}}]}),
        "/props": (200, {"default_generation_settings": {"n_ctx": 8192}, "total_slots": 4}),
    }
    found, _ = ask(pages)
    assert found is not None
    assert found.context_tokens == {"phi": 8192}


def test_ollama_tells_what_is_in_memory() -> None:
    """Of all models those that need no loading, and their context where it is told."""
    pages = {
        "/v1/models": models("phi:3", "llama:8b", owner="library"),
        "/api/ps": (200, {"models": [{"name": "phi:3", "context_length": 4096}]}),
    }
    found, _ = ask(pages)
    assert found is not None
    assert found.in_memory == ("phi:3",)
    assert found.context_tokens == {"phi:3": 4096}
    assert ask({"/v1/models": models("phi:3", owner="library")})[0] == Discovery(Kind.CPU, "ollama", ("phi:3",))


def test_a_loading_llamacpp_says_so() -> None:
    """While it reads its model it answers 503 with these words everywhere: it is there, and serves nothing yet."""
    loading = (503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}})
    pages = dict.fromkeys(("/v1/models", "/props", "/version", "/api/tags", "/info", "/v2"), loading)
    found, _ = ask(pages, {"Server": "llama.cpp"})
    assert found == Discovery(Kind.CPU, "llamacpp", (), loaded=Loaded.LOADING)


KEYS = ["data", "models", "id", "name", "owned_by", "version", "model_id", "parent", "max_model_len", "n_ctx"]
KEYS += ["default_generation_settings", "context_length", "is_sleeping"]
PATHS = ["/v1/models", "/props", "/version", "/api/tags", "/info", "/v2", "/api/ps", "/is_sleeping"]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(PATHS), st.builds(Page, JSON)))
def test_no_json_whatever_breaks_it(pages: dict[str, Page]) -> None:
    """Any JSON on any page is judged without an error, and models are texts."""
    found = infer(pages, None, is_public=False)
    assert all(isinstance(name, str) for name in found.models)
