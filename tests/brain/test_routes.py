"""The table of paths."""

import pytest

from gpubalancer.brain.routes import ENGINE_APIS, apis_of, find_route, model_in_path


@pytest.mark.parametrize(
    ("path", "api", "content"),
    [
        ("/v1/chat/completions", "chat", "json"),
        ("/v1/completions", "completions", "json"),
        ("/v1/responses", "responses", "json"),
        ("/v1/responses/resp_1", "responses", "unread"),
        ("/v1/embeddings", "embeddings", "json"),
        ("/v1/rerank", "rerank", "json"),
        ("/v1/messages", "messages", "json"),
        ("/v1/messages/count_tokens", "messages", "json"),
        ("/v1/audio/speech", "audio", "json"),
        ("/v1/audio/transcriptions", "audio", "unread"),
        ("/v1/images/generations", "images", "json"),
        ("/v1/images/edits", "images", "unread"),
        ("/v1/models", "models", "here"),
        ("/v1/models/meta/llama", "models", "here"),
        ("/api/chat", "ollama", "json"),
        ("/api/tags", "ollama", "here"),
        ("/v2/models/resnet/infer", "kserve", "unread"),
        ("/v2/models/resnet/versions/2/infer", "kserve", "unread"),
    ],
)
def test_paths_of_the_table(path: str, api: str, content: str) -> None:
    """Each path has its API and its treatment."""
    route = find_route(path)
    assert route is not None
    assert (route.api, route.content) == (api, content)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1", "/v1/", "/v1/chat", "/v1/chat/completions/", "/V1/models", "/v1/chat/Completions", "/v1/files",
        "/api/pull", "/api/create", "/api/delete", "/v2/models/resnet", "/v2/models/resnet/unload", "/metrics",
        "/v2/repository/models/resnet/load", "/v1/modelsx",
    ],
)  # fmt: skip
def test_other_paths_have_no_route(path: str) -> None:
    """What is not in the table is not served: no prefix, no other case, nothing that changes a server."""
    assert find_route(path) is None


def test_methods() -> None:
    """Bodies that name a model are posted, lists are got."""
    chat, models = find_route("/v1/chat/completions"), find_route("/v1/models")
    assert chat is not None
    assert models is not None
    assert (sorted(chat.methods), sorted(models.methods)) == (["POST"], ["GET", "HEAD"])


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v2/models/resnet/infer", "resnet"),
        ("/v2/models/resnet/versions/1/ready", "resnet"),
        ("/v2/models/a/b/infer", None),
        ("/v2/models//infer", None),
        ("/v1/chat/completions", None),
    ],
)
def test_model_in_path(path: str, model: str | None) -> None:
    """KServe names the model in the path."""
    assert model_in_path(path) == model


def test_apis_of_engines() -> None:
    """An unknown engine is taken for an OpenAI-compatible one; every engine may claim paths."""
    assert apis_of("something-new") == apis_of(None)
    assert "chat" in apis_of(None)
    assert "kserve" in apis_of("triton")
    assert "chat" not in apis_of("triton")
    assert all("claimed" in apis for apis in ENGINE_APIS.values())
