"""Answers that the balancer gives itself: errors and lists of models, in the shapes that clients' SDKs expect."""

import math
from collections.abc import Iterable

import orjson

from gpubalancer.domain.errors import RequestError

_JSON = b"content-type: application/json\r\n"

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def id_line(request_id: str, path: str = "") -> bytes:
    """The header lines that name a request. Anthropic's SDKs read `request-id`, on Anthropic's paths."""
    line = b"x-request-id: %b\r\n" % request_id.encode()
    return line + b"request-id: %b\r\n" % request_id.encode() if path.startswith("/v1/messages") else line


def error_answer(error: RequestError, path: str = "", request_id: str = "") -> tuple[bytes, bytes]:
    """Header lines and body for an error: OpenAI's shape, or Anthropic's on its paths."""
    lines = _JSON + (id_line(request_id, path) if request_id else b"")
    if error.retry_after_s is not None:
        lines += b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after_s))
    if error.status == 401:
        lines += b"www-authenticate: Bearer\r\n"
    return lines + error.lines, orjson.dumps(error_body(error, path))


def error_body(error: RequestError, path: str) -> dict[str, object]:
    """The JSON of an error, for an answer or for the last event of a stream."""
    if path.startswith("/v1/messages"):
        kind = _ANTHROPIC_TYPES.get(error.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": error.message}}
    return {
        "error": {
            "message": error.message,
            "type": error.failure.type,
            "code": error.code,
            "param": error.param,
        }
    }


def last_words(error: RequestError, path: str, content_type: bytes, tail: bytes) -> bytes:
    """The terminal event of a stream that breaks, in the stream's own format; empty where it has none.

    Arguments:
        error: what happened.
        path: of the request.
        content_type: of the answer.
        tail: the last bytes that were sent: an event that was cut in two is ended first.
    """
    body = orjson.dumps(error_body(error, path))
    if content_type.startswith(b"text/event-stream"):
        ended = not tail or tail.endswith((b"\n\n", b"\r\n\r\n"))
        name = b"event: error\n" if path.startswith(("/v1/messages", "/v1/responses")) else b""
        return (b"" if ended else b"\n\n") + name + b"data: " + body + b"\n\n"
    if content_type.startswith(b"application/x-ndjson"):
        return (b"" if not tail or tail.endswith(b"\n") else b"\n") + body + b"\n"
    return b""


def models_answer(path: str, models: Iterable[str], *, anthropic: bool = False) -> tuple[bytes, bytes]:
    """The models that a tenant may use, as the path's API lists them.

    Arguments:
        path: of the request.
        models: public names.
        anthropic: in the shape of Anthropic's API, all on one page; for clients that send `anthropic-version`.

    Raises:
        RequestError: `model_not_found`, if the path names one that is not among them.
    """
    names = list(models)
    if path == "/api/tags":
        return _JSON, orjson.dumps({"models": [{"name": name, "model": name, "details": {}} for name in names]})
    asked = path.removeprefix("/v1/models").removeprefix("/")
    entry = _anthropic_model if anthropic else _model
    if asked:
        if asked not in names:
            raise RequestError("model_not_found", f"The model {asked[:100]!r} does not exist.", param="model")
        return _JSON, orjson.dumps(entry(asked))
    listed: dict[str, object] = {"data": [entry(name) for name in names]}
    if anthropic:
        listed |= {"has_more": False, "first_id": next(iter(names), None), "last_id": next(reversed(names), None)}
    else:
        listed["object"] = "list"
    return _JSON, orjson.dumps(listed)


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "gpubalancer"}


def _anthropic_model(name: str) -> dict[str, object]:
    # Anthropic's own value for a model whose release date is not known.
    return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
