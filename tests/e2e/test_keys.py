"""Keys, what they open, and where they never go."""

import hashlib
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.backends import Backend, answer_ok, backend
from tests.e2e.clients import CHAT, ask, chat
from tests.e2e.processes import COMMAND, Balancer, eventually, serving

KEY, LIMITED_KEY, CREDENTIAL = "gb-secret-of-acme", "gb-secret-of-umbrella", "credential-of-the-backend"
BEARER = {"Authorization": f"Bearer {KEY}"}
LIMITED = {"Authorization": f"Bearer {LIMITED_KEY}"}


def _digest(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Backend]]:
    """An internal backend and one that only public requests may reach."""
    with backend(answer_ok) as inner, backend(answer_ok) as public:
        yield {"inner": inner, "public": public}


@pytest.fixture(scope="module")
def balancer(tmp_path_factory: pytest.TempPathFactory, servers: dict[str, Backend]) -> Iterator[Balancer]:
    """Two tenants, one with every model and one with `m` only and tiers up to internal."""
    backends = [
        servers["inner"].settings("inner", models=["m", "n"], clearance="restricted", credential=CREDENTIAL),
        servers["public"].settings("public", models=["m", "n", "only-public"], clearance="public"),
    ]
    tenants: Any = [
        {"name": "acme", "keys": [_digest(KEY)]},
        {"name": "umbrella", "keys": [_digest(LIMITED_KEY)], "models": ["m"], "max_tier": "internal"},
    ]
    with serving(tmp_path_factory.mktemp("keys"), backends, tenants=tenants) as balancer:
        yield balancer


@pytest.fixture(autouse=True)
def _nothing_recorded(servers: dict[str, Backend]) -> None:
    for server in servers.values():
        server.calls.clear()


@pytest.mark.parametrize(
    "fields", [BEARER, {"x-api-key": KEY}, {"api-key": KEY}, {"authorization": f"bearer {KEY}"}], ids=str
)
def test_a_known_key_opens(balancer: Balancer, fields: dict[str, str]) -> None:
    """A tenant's key is taken from each of the fields in which SDKs send it."""
    assert ask(balancer.port, body=chat(), fields=fields).status == 200


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "missing_api_key"),
        ({"Authorization": "Bearer gb-wrong"}, "invalid_api_key"),
        ({"Authorization": f"Basic {KEY}"}, "invalid_api_key"),
        ({"x-api-key": KEY.upper()}, "invalid_api_key"),
        (BEARER | {"x-api-key": LIMITED_KEY}, "invalid_api_key"),
        ({"Authorization": f"Bearer {_digest(KEY)}"}, "invalid_api_key"),
    ],
)
def test_no_key_or_a_wrong_one_is_401(
    balancer: Balancer, servers: dict[str, Backend], fields: dict[str, str], code: str
) -> None:
    """The error has OpenAI's shape, the challenge is sent, and nothing reaches a backend."""
    answer = ask(balancer.port, body=chat(), fields=fields)
    error = answer.json()["error"]
    assert (answer.status, error["type"], error["code"]) == (401, "authentication_error", code)
    assert set(error) == {"message", "type", "code", "param"}
    assert answer.fields["www-authenticate"] == "Bearer"
    assert not any(server.calls for server in servers.values())


def test_401_on_messages_has_anthropics_shape(balancer: Balancer) -> None:
    """Clients of Anthropic's API get the error that their SDK reads."""
    answer = ask(balancer.port, "/v1/messages", body=chat(max_tokens=5))
    assert answer.status == 401
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "api-key"])
def test_the_clients_key_goes_nowhere(balancer: Balancer, servers: dict[str, Backend], name: str) -> None:
    """It is neither sent to a backend nor logged; a backend gets its credential, or no key at all."""
    value = f"Bearer {KEY}" if name == "Authorization" else KEY
    for number in range(12):
        answer = ask(balancer.port, f"{CHAT}?q=1", chat(), {name: value, "x-request-id": f"{name}-{number}"})
        assert answer.status == 200
    inner, public = servers["inner"].calls, servers["public"].calls
    assert {call.fields.get("authorization") for call in inner} == {f"Bearer {CREDENTIAL}"}
    assert {call.fields.get("authorization") for call in public} <= {None}
    assert not any(KEY.encode() in call.head + call.content for call in inner + public)
    balancer.logged(request_id=f"{name}-11")
    log = balancer.log.read_text()
    assert KEY not in log
    assert CREDENTIAL not in log


def test_a_model_that_the_key_does_not_open(balancer: Balancer, servers: dict[str, Backend]) -> None:
    """It is refused with 403, is not listed, and an unknown model is 404."""
    answer = ask(balancer.port, body=chat(model="n"), fields=LIMITED)
    assert (answer.status, answer.json()["error"]["code"]) == (403, "model_not_allowed")
    answer = ask(balancer.port, body=chat(model="nothing"), fields=LIMITED)
    assert (answer.status, answer.json()["error"]["code"]) == (404, "model_not_found")
    listed = ask(balancer.port, "/v1/models", fields=LIMITED).json()["data"]
    assert [model["id"] for model in listed] == ["m"]
    assert ask(balancer.port, "/v1/models/n", fields=LIMITED).status == 404
    assert not any(server.calls for server in servers.values())


@pytest.mark.parametrize("tier", ["internal", "confidential", "restricted"])
def test_a_raised_tier_never_reaches_a_public_backend(
    balancer: Balancer, servers: dict[str, Backend], tier: str
) -> None:
    """All requests go to the backend that is cleared, although the other is as idle."""
    answers = [ask(balancer.port, body=chat(), fields=BEARER | {"x-gpubalancer-tier": tier}) for _ in range(15)]
    said = {
        (answer.status, *map(answer.fields.get, ("x-gpubalancer-backend", "x-gpubalancer-tier"))) for answer in answers
    }
    assert said == {(200, "inner", tier)}
    assert servers["public"].calls == []
    assert not any("x-gpubalancer" in name for call in servers["inner"].calls for name in call.fields)


def test_a_tier_that_nobody_may_serve(balancer: Balancer, servers: dict[str, Backend]) -> None:
    """Without a cleared backend the answer is 503, above the key's own limit 403, and nothing is sent anywhere."""
    fields = {"x-gpubalancer-tier": "restricted"}
    answer = ask(balancer.port, body=chat(model="only-public"), fields=BEARER | fields)
    assert (answer.status, answer.json()["error"]["code"]) == (503, "no_backend")
    answer = ask(balancer.port, body=chat(), fields=LIMITED | fields)
    assert (answer.status, answer.json()["error"]["code"]) == (403, "tier_not_served")
    answer = ask(balancer.port, body=chat(), fields=BEARER | {"x-gpubalancer-tier": "secret"})
    assert (answer.status, answer.json()["error"]["code"]) == (400, "invalid_header")
    assert not any(server.calls for server in servers.values())


def test_keys_new_makes_a_key_that_opens(balancer: Balancer) -> None:
    """The line that `keys new` prints for the file belongs to the key that it shows; no two keys are equal."""
    texts = [
        subprocess.run([*COMMAND, "keys", "new", "--tenant", "new"], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    keys = [re.findall(r"\bgb-[\w-]+", text)[0] for text in texts]
    assert keys[0] != keys[1]
    assert f'"{_digest(keys[0])}"' in texts[0]
    before = balancer.settings
    balancer.write({**before, "tenants": [*before["tenants"], {"name": "new", "keys": [_digest(keys[0])]}]})
    assert balancer.reload()[0] == 200
    statuses = [ask(balancer.port, body=chat(), fields={"Authorization": f"Bearer {key}"}).status for key in keys]
    assert statuses == [200, 401]
    refused = eventually(lambda: balancer.lines(reason="invalid_api_key", tenant="-"), "the refusal in the log")
    assert refused[-1]["status"] == 401
