"""The first steps of a request: route, payer, and as much of the body as routing needs."""

import asyncio

import pytest

from gpubalancer.brain.experience import Experience
from gpubalancer.brain.routes import CLAIMED
from gpubalancer.domain.errors import RequestError
from gpubalancer.proxy.generation import Generation, build_generation
from gpubalancer.proxy.intake import Asked, authenticate, read_request, route_of
from gpubalancer.proxy.study import Study
from gpubalancer.wire.sweep import Sweeper
from tests.brain.policies import ROWS, policy
from tests.wire.fakes import Client, Clock, exchange_of


def generation(number: int = 1) -> Generation:
    """The test policy, ready to serve."""
    clock = Clock()
    return build_generation(number, policy(), ROWS, {}, None, clock, Sweeper(clock))


def request(path: str, body: bytes = b"", lines: bytes = b"", method: str = "POST") -> bytes:
    """A request with a body of known length."""
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return b"%b %b HTTP/1.1\r\nHost: a\r\n%b%b\r\n%b" % (method.encode(), path.encode(), lines, length, body)


def intake(raw: bytes) -> tuple[Asked, Client]:
    """All first steps of a request."""

    async def run() -> tuple[Asked, Client]:
        exchange, client = exchange_of(raw)
        settings = generation()
        route = route_of(exchange, settings)
        tenant = authenticate(exchange, settings).tenant
        return await read_request(
            exchange, settings, route, tenant, Study(Experience(), lambda: 0.0), lambda _: None
        ), client

    return asyncio.run(run())


def refused(raw: bytes) -> str:
    """The code with which a request is refused."""
    with pytest.raises(RequestError) as caught:
        intake(raw)
    return caught.value.code


def test_a_json_request() -> None:
    """The body is read and names the model, by which each backend knows it."""
    asked, _ = intake(request("/v1/chat/completions", b'{"model": "gpt-4o-mini", "n": 1}'))
    assert (asked.work.api, asked.work.model, asked.work.sent_name) == ("chat", "llama", None)
    assert asked.content_for("meta/llama", asks_usage=False) == (b'{"model": "meta/llama", "n": 1}',)
    assert asked.content_for(None, asks_usage=False) == (b'{"model": "gpt-4o-mini", "n": 1}',)
    usage = b'"stream_options":{"include_usage":true},'
    assert asked.content_for("a", asks_usage=True) == (b'{%b"model": "a", "n": 1}' % usage,)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (request("/v1/nothing"), "unknown_path"),
        (request("/v1/chat/completions", method="GET"), "method_not_allowed"),
        (request("/v1/models", b"{}"), "method_not_allowed"),
        (request("/v1/realtime", method="GET"), "unknown_path"),
        (request("/v1/chat/completions", b"{"), "invalid_json"),
        (request("/v1/chat/completions", b'{"model": "nobody"}'), "model_not_found"),
        (request("/v1/chat/completions", b'{"model": "llama"}', b"x-api-key: wrong\r\n"), "invalid_api_key"),
        (request("/v1/chat/completions", b'{"model": "phi"}', b"x-api-key: key-of-acme\r\n"), "model_not_allowed"),
    ],
)
def test_what_is_refused(raw: bytes, code: str) -> None:
    """Each step refuses with its own code."""
    assert refused(raw) == code


def test_a_length_that_is_too_large_is_refused_unread() -> None:
    """The stated length is enough: no byte of the body is waited for, and no 100 sent."""

    async def run() -> None:
        lines = b"Content-Length: 999999999\r\nExpect: 100-continue\r\n"
        raw = request("/v1/chat/completions", lines=lines)
        exchange, client = exchange_of(raw)
        settings = generation()
        route = route_of(exchange, settings)
        with pytest.raises(RequestError) as caught:
            await read_request(
                exchange,
                settings,
                route,
                authenticate(exchange, settings).tenant,
                Study(Experience(), lambda: 0.0),
                lambda _: None,
            )
        assert (caught.value.code, client.sent) == ("body_too_large", b"")

    asyncio.run(run())


def test_claimed_paths() -> None:
    """A path that only a backend claims is served by it, body unread."""
    asked, _ = intake(request("/custom/x", b"data"))
    assert (asked.work.api, asked.work.claim, asked.work.model) == ("claimed", "/custom/x", None)
    assert asked.content_for(None, asks_usage=True) is None


def test_upgrades() -> None:
    """Where a backend allows it, another protocol may be asked for."""
    lines = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    asked, _ = intake(request("/v1/realtime?model=llama", lines=lines, method="GET"))
    assert (asked.work.upgrade, asked.work.claim, asked.work.sent_name) == (True, "/v1/realtime", "llama")
    exchange, _ = exchange_of(request("/v1/realtime", lines=lines, method="GET"))
    assert route_of(exchange, generation()) is CLAIMED


def test_the_model_of_an_unread_body() -> None:
    """Path, query and form name the model, in this order, and the name can't be changed."""
    asked, _ = intake(request("/v2/models/resnet/infer", b"tensor"))
    assert (asked.work.model, asked.work.sent_name) == ("resnet", "resnet")
    asked, _ = intake(request("/v1/images/edits?model=llama", b"image"))
    assert asked.work.sent_name == "llama"
    form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nllama\r\n--b--\r\n'
    kind = b"Content-Type: multipart/form-data; boundary=b\r\n"
    asked, _ = intake(request("/v1/audio/transcriptions", form, kind))
    assert (asked.work.model, asked.document) == ("llama", None)
    asked, _ = intake(request("/v1/audio/transcriptions", b"RIFF"))
    assert asked.work.model is None


def test_a_key_is_proved_once_for_each_connection_and_policy() -> None:
    """The same key on the same connection is remembered; another key, or another policy, is looked up."""
    exchange, _ = exchange_of(request("/v1/chat/completions", lines=b"Authorization: Bearer key-of-acme\r\n"))
    first, second = generation(1), generation(2)
    assert authenticate(exchange, first).tenant.name == "acme"
    assert authenticate(exchange, first) is authenticate(exchange, first)
    assert authenticate(exchange, second) is not authenticate(exchange, first)
    exchange.head.fields[b"authorization"] = b"Bearer wrong"
    with pytest.raises(RequestError):
        authenticate(exchange, first)
    del exchange.head.fields[b"authorization"]
    assert authenticate(exchange, first).tenant.name == "guest"
