"""Where a request would go, for one that nobody sends."""

import contextlib
import json
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpubalancer.brain.choose import choose
from gpubalancer.brain.columns import build_economy
from gpubalancer.brain.experience import Experience
from gpubalancer.brain.fleet import Discovery
from gpubalancer.brain.insight import build_insight
from gpubalancer.brain.live import Live
from gpubalancer.brain.method import method_of
from gpubalancer.control.explain import (
    CHAT,
    OFFLINE,
    Question,
    Scene,
    explain_offline,
    explain_request,
    read_question,
    write_question,
)
from gpubalancer.domain.errors import RequestError
from tests.brain.policies import TEXT, fleet, policy

SECRET = "do not show this"
OPEN = TEXT + "sensitivity: {patterns: [{name: falcon, regex: falcon, tier: secret}]}\n"
UNDECLARED = "backends: [{name: a, url: 'http://127.0.0.1:9001'}, {name: b, url: 'http://127.0.0.1:9002', models: [x]}]"
PRIORITIES = b"x-gpubalancer-priority"


def chat(text: str = SECRET, model: str = "llama", **more: Any) -> bytes:
    """The body of a chat."""
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **more}).encode()


def question(body: bytes | None = None, tenant: str | None = None, path: str = CHAT, **fields: str) -> Question:
    """What is asked; of headers `_` stands for `-`."""
    head = {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}
    return Question(tenant, path, head, chat() if body is None else body)


def scene(live: Live | None = None, text: str = OPEN) -> Scene:
    """The fleet of `policies`, idle unless told otherwise."""
    read, backends = policy(text), fleet(text)
    idle = Live(up=np.ones(3, np.bool_), draining=np.zeros(3, np.bool_), in_flight=np.zeros(3, np.int32))
    method = method_of(read.routing, build_economy(read, backends))
    return Scene(read, backends, method, live or idle, build_insight(read, 0, None), Experience())


def shown(asked: Question, of: Scene | None = None) -> dict[str, Any]:
    """The JSON of the table."""
    table, _ = explain_request(asked, of or scene(), 0.0, Random(1))
    answer: dict[str, Any] = json.loads(json.dumps(table.to_json()))
    return answer


def refusal(asked: Question) -> tuple[str, str]:
    """Code and sentence of what the question is refused with."""
    with pytest.raises(RequestError) as caught:
        explain_request(asked, scene(), 0.0, Random(1))
    return caught.value.code, caught.value.message


def test_the_table_of_a_request() -> None:
    """Each backend with its terms or what dropped it, the policy, and the request with its tier by name."""
    answer = shown(question(tenant="acme", x_gpubalancer_priority="batch"))
    assert {row["name"]: row["dropped"] for row in answer["backends"]} == {"a": None, "b": None, "c": "api"}
    assert answer["choice"] in ("a", "b")
    assert answer["policy"] == policy(OPEN).hash
    work = answer["work"]
    assert (work["tier"], work["tenant"], work["model"], work["priority"]) == ("internal", "acme", "llama", "batch")
    assert (work["counted"], work["prompt_tokens"] > 0) == (False, True)


def test_an_alias_and_the_answer_that_is_asked_for_are_understood() -> None:
    """As a worker would: the public name of the model, a stream, and no more output than the client allows."""
    work = shown(question(chat(model="gpt-4o-mini", max_tokens=7, stream=True)))["work"]
    assert (work["model"], work["output_tokens_high"], work["streamed"]) == ("llama", 7, True)


def test_what_is_found_in_the_text_raises_the_tier() -> None:
    """Detectors read the text, and only backends that are cleared stay."""
    answer = shown(question(chat("about falcon")))
    assert (answer["choice"], answer["work"]["tier"], answer["work"]["tier_source"]) == (
        "a",
        "secret",
        "detector:falcon",
    )
    assert answer["backends"][1]["dropped"] == "clearance"
    assert answer["work"]["findings"] == {"falcon": 1}


def test_the_state_of_the_fleet_decides() -> None:
    """What is down, draining or full is named."""
    live = Live(up=np.array([True, False, True]), draining=np.zeros(3, np.bool_), in_flight=np.array([8, 0, 0]))
    answer = shown(question(), scene(live))
    assert [row["dropped"] for row in answer["backends"]] == ["slots", "down", "api"]
    assert (answer["choice"], answer["reason"]) == (None, "waits until one is free and keeps the SLO")


def test_no_text_of_the_request_is_in_the_answer() -> None:
    """Neither of its messages nor of fields that nobody knows."""
    asked = question(chat(tools=[{"type": "function", "function": {"name": "t", "description": SECRET}}], note=SECRET))
    assert SECRET not in json.dumps(shown(asked))


def test_paths_whose_body_is_not_read() -> None:
    """The model comes from the path or the query, and the tier is what the tenant's may be at most."""
    answer = shown(question(b"null", path="/v2/models/resnet/infer"))
    assert (answer["work"]["api"], answer["work"]["model"], answer["work"]["tier"]) == ("kserve", "resnet", "secret")
    assert answer["backends"][2]["dropped"] == "clearance"
    assert shown(question(b"{}", path="/v1/audio/transcriptions?model=llama"))["work"]["model"] == "llama"
    assert shown(question(b"{}", path="/custom/x"))["backends"][0]["dropped"] == "claim"


@pytest.mark.parametrize(
    ("asked", "code", "part"),
    [
        (question(chat(model="none")), "model_not_found", "'none'"),
        (question(chat(model="phi"), tenant="acme"), "model_not_allowed", "'phi'"),
        (question(chat("about falcon"), tenant="acme"), "tier_not_served", "found in this request"),
        (question(tenant="none"), "malformed_request", "no tenant 'none'; there are acme, guest"),
        (question(b"[1]"), "invalid_json", "object"),
        (question(b'{"model": "llama", "model": "phi", "messages": []}'), "invalid_json", "twice"),
        (question(path="/nothing"), "unknown_path", "nothing at this path"),
        (question(path="/v1/models"), "method_not_allowed", "no POST"),
        (question(x_gpubalancer_tier="top"), "invalid_header", "x-gpubalancer-tier"),
    ],
)
def test_what_a_request_would_be_refused_with(asked: Question, code: str, part: str) -> None:
    """Before a backend is chosen the answer is the error that the client would get."""
    assert refusal(asked)[0] == code
    assert part in refusal(asked)[1]


def test_a_tenant_must_be_named_where_everybody_needs_a_key() -> None:
    """With the names that there are."""
    keyed = scene(text=OPEN.replace("anonymous: guest", "anonymous: null"))
    with pytest.raises(RequestError, match="a tenant must be named: acme, guest") as caught:
        explain_request(question(), keyed, 0.0, Random(1))
    assert caught.value.code == "malformed_request"


def test_of_many_tenants_some_are_named() -> None:
    """A sentence stays a sentence."""
    many = "".join(f"  - {{name: t{number}}}\n" for number in range(20))
    crowded = scene(text=OPEN.replace("anonymous: guest", f"{many}anonymous: guest"))
    with pytest.raises(RequestError, match="acme, guest, t0, t1, t2, t3, t4, t5 and 14 more"):
        explain_request(question(tenant="none"), crowded, 0.0, Random(1))


COUNTS = st.lists(st.integers(0, 9), min_size=3, max_size=3)
BOOLS = st.lists(st.booleans(), min_size=3, max_size=3)
TEXTS = st.sampled_from(("hello", "about falcon", "word " * 2000))


@settings(max_examples=30, deadline=None)
@given(COUNTS, BOOLS, BOOLS, TEXTS, st.sampled_from((None, "internal", "secret")), st.integers(0, 99))
def test_the_tables_choice_is_what_choose_takes(
    in_flight: list[int], up: list[bool], draining: list[bool], text: str, tier: str | None, seed: int
) -> None:
    """For any state and request: the choice is that of `choose`, nothing dropped it, and it may see the tier."""
    live = Live(up=np.array(up), draining=np.array(draining), in_flight=np.array(in_flight, np.int32))
    of, fields = scene(live), {} if tier is None else {"x_gpubalancer_tier": tier}
    table, work = explain_request(question(chat(text), **fields), of, 0.0, Random(seed))
    index = choose(of.fleet, work, live, None, Random(seed), of.method).index
    assert table.choice == (None if index is None else of.fleet.names[index])
    if index is not None:
        assert table.rows[index].dropped is None
        assert of.fleet.clearance[index] >= work.tier
        assert (up[index], draining[index]) == (True, False)


def test_offline_everybody_is_up_and_idle() -> None:
    """The same policy gives the same answer each time, and the notes say what it rests on."""
    first, second = (explain_offline(question(), policy(OPEN), 0.0) for _ in range(2))
    assert first == second
    assert first["choice"] in ("a", "b")
    assert first["notes"][0] == OFFLINE


def test_offline_models_that_the_policy_leaves_open_are_taken_to_be_served() -> None:
    """And the notes say of whom nobody knows; whose models are declared serves those only."""
    answer = explain_offline(question(chat(model="anything")), policy(UNDECLARED), 0.0)
    assert [row["dropped"] for row in answer["backends"]] == [None, "model"]
    assert (answer["choice"], answer["work"]["model"]) == ("a", "anything")
    assert [note.partition(";")[0] for note in answer["notes"][1:]] == [
        "offline the models of a cannot be known",
        "offline the engine of a, b cannot be known",
        "offline the kind of a, b cannot be known",
    ]


def test_online_only_what_servers_said_counts() -> None:
    """Nothing is taken for granted of a running balancer's fleet."""
    text = "backends: [{name: a, url: 'http://127.0.0.1:9001'}, {name: b, url: 'http://127.0.0.1:9002'}]\n"
    read, found = policy(text), fleet(text, {"b": Discovery(("m",))})
    live = Live(up=np.ones(2, np.bool_), draining=np.zeros(2, np.bool_), in_flight=np.zeros(2, np.int32))
    method = method_of(read.routing, build_economy(read, found))
    of = Scene(read, found, method, live, build_insight(read, 0, None), Experience())
    assert [row["dropped"] for row in shown(question(chat(model="m")), of)["backends"]] == ["model", None]


def test_a_question_survives_its_json() -> None:
    """What the command writes, the admin port reads."""
    asked = question(tenant="acme", path="/v1/completions", x_gpubalancer_tier="internal")
    back = read_question(write_question(asked))
    assert (back.tenant, back.path, back.fields) == (asked.tenant, asked.path, asked.fields)
    assert json.loads(back.body) == json.loads(asked.body)


def test_a_questions_defaults() -> None:
    """A body is enough: a chat of whoever pays without a key. Names of headers are taken in any case."""
    assert read_question(b'{"body": {}}') == Question(None, CHAT, {}, b"{}")
    assert read_question(b'{"body": 1, "headers": {"X-A": "b"}}').fields == {b"x-a": b"b"}


@pytest.mark.parametrize(
    ("content", "code", "param"),
    [
        (b"{", "invalid_json", None),
        (b"[]", "malformed_request", None),
        (b"{}", "malformed_request", None),
        (b'{"body": {}, "tennant": "a"}', "malformed_request", None),
        (b'{"body": {}, "tenant": 1}', "malformed_request", "tenant"),
        (b'{"body": {}, "path": "v1"}', "malformed_request", "path"),
        (b'{"body": {}, "headers": []}', "malformed_request", "headers"),
        (b'{"body": {}, "headers": {"a": 1}}', "malformed_request", "headers"),
    ],
)
def test_questions_that_make_no_sense(content: bytes, code: str, param: str | None) -> None:
    """The error names the field at fault."""
    with pytest.raises(RequestError) as caught:
        read_question(content)
    assert (caught.value.code, caught.value.param) == (code, param)


SHAPES = st.recursive(
    st.none() | st.text(), lambda inner: st.dictionaries(st.sampled_from(("body", "tenant", "path", "headers")), inner)
)


@given(st.binary(max_size=60) | SHAPES.map(lambda shape: json.dumps(shape).encode()))
def test_any_bytes_are_a_question_or_a_refusal(content: bytes) -> None:
    """Whatever is sent, nothing but a question or a `RequestError` comes of it."""
    with contextlib.suppress(RequestError):
        assert read_question(content).path.startswith("/")
