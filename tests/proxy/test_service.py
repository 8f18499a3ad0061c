"""A request's life from its head to its record, whatever happens on the way."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import chat, request_bytes
from tests.proxy.office import Office, client, play
from tests.proxy.script import DONE, EVENT, STOP, USAGE, ask_for_stream, ended, scripted, streaming


def fields(**given: str) -> str:
    """Header lines."""
    return "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())


def test_a_served_request_is_recorded_once(tmp_path: Path) -> None:
    """Ids, sizes and instants are in the record; the instants are in order."""

    async def scene(office: Office) -> None:
        async with client(office) as one:
            await office.hand(office.policy("a"))
            one.writer.write(request_bytes(body={**chat(), "model": "a"}, fields=fields(x_request_id="id-1")))
            answer = await one.answer()
            await ended(office)
        (outcome,) = office.outcomes
        assert answer.values("x-request-id") == ["id-1"] == [outcome.request_id]
        assert (outcome.status, outcome.backend, outcome.model, outcome.api, outcome.reason) == (
            200,
            "a",
            "a",
            "chat",
            "",
        )
        assert outcome.response_bytes == len(answer.body)
        assert outcome.request_bytes > 0
        assert outcome.started_s <= outcome.sent_s <= outcome.first_token_s <= outcome.last_token_s <= outcome.ended_s

    play(tmp_path, scene)


@pytest.mark.parametrize("given", ["has space", 'quo"te', "a" * 129, ""])
def test_an_id_that_could_do_harm_is_replaced(tmp_path: Path, given: str) -> None:
    """Ids go into heads and logs: only short ones of plain characters are taken over."""

    async def scene(office: Office) -> None:
        async with client(office) as one:
            await office.hand(office.policy("a"))
            head = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Request-Id: %b\r\n\r\n" % given.encode("latin-1")
            one.writer.write(head)
            answer = await one.answer()
        (made,) = answer.values("x-request-id")
        assert made.startswith("req-")

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/nothing", chat(), 404, "unknown_path"),
        ("/v1/chat/completions", {"messages": []}, 400, "missing_model"),
        ("/v1/chat/completions", chat(model="b"), 404, "model_not_found"),
        ("/v1/messages", chat(model="b"), 404, "model_not_found"),
    ],
)
def test_a_refusal_is_answered_and_recorded(
    tmp_path: Path, path: str, body: dict[str, object], status: int, code: str
) -> None:
    """Its code is the record's reason; on Anthropic's paths the id is in Anthropic's field as well."""

    async def scene(office: Office) -> None:
        async with client(office) as one:
            await office.hand(office.policy("a"))
            one.writer.write(request_bytes(path, body))
            answer = await one.answer()
            await ended(office)
        (outcome,) = office.outcomes
        assert (answer.status, outcome.status, outcome.reason, outcome.attempts) == (status, status, code, 0)
        anthropic = path == "/v1/messages"
        assert answer.values("request-id") == ([outcome.request_id] if anthropic else [])
        assert ("type" in json.loads(answer.body)) is anthropic
        assert (outcome.usage_source, office.backend.asked) == ("", 0)

    play(tmp_path, scene)


def test_a_loop_is_refused(tmp_path: Path) -> None:
    """A request that has passed here before goes nowhere."""

    async def scene(office: Office) -> None:
        async with client(office) as one:
            await office.hand(office.policy("a"))
            one.writer.write(request_bytes(fields=fields(via="1.1 gpubalancer-test")))
            assert (await one.answer()).status == 508

    play(tmp_path, scene)


def test_models_in_the_clients_own_shape(tmp_path: Path) -> None:
    """Who sends `anthropic-version` gets Anthropic's list, everybody else OpenAI's."""

    async def scene(office: Office) -> None:
        async with client(office) as one:
            await office.hand(office.policy("a", "b"))
            openai = json.loads((await one.ask(target="/v1/models")).body)
            one.writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAnthropic-Version: 2023-06-01\r\n\r\n")
            anthropic = json.loads((await one.answer()).body)
        assert (openai["object"], [each["object"] for each in openai["data"]]) == ("list", ["model", "model"])
        assert [each["type"] for each in anthropic["data"]] == ["model", "model"]
        assert (anthropic["has_more"], anthropic["first_id"], anthropic["last_id"]) == (False, "a", "b")

    play(tmp_path, scene)


@pytest.mark.parametrize("own", [b"", b"Request-Id: req_theirs\r\n"])
def test_an_answer_on_anthropics_path_has_one_request_id(tmp_path: Path, own: bytes) -> None:
    """Ours where the backend gives none, else the backend's; `x-request-id` is always ours."""

    async def answering(body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n\r\n{}" % own)

    async def scene(office: Office) -> None:
        async with scripted(office, answering), client(office) as one:
            await office.hand(office.policy("a"))
            one.writer.write(request_bytes("/v1/messages", chat(model="a"), fields(x_request_id="id-1")))
            answer = await one.answer()
        assert answer.values("request-id") == ["req_theirs" if own else "id-1"]
        assert answer.values("x-request-id") == ["id-1"]

    play(tmp_path, scene)


def test_only_what_was_reported_is_learned(tmp_path: Path) -> None:
    """A count of our own, or a bound put on a lie, must not teach us what to expect."""

    async def scene(office: Office) -> None:
        learned: list[dict[str, Any]] = []
        async with client(office) as one:
            for usage in (b"", USAGE.replace(b'"completion_tokens":3', b'"completion_tokens":-3'), USAGE):
                async with scripted(office, streaming(EVENT, STOP, *([usage] if usage else []), DONE)):
                    await office.hand(office.policy("a"))
                    ask_for_stream(one)
                    await one.answer()
                await ended(office, len(learned) + 1)
                learned.append(office.worker._study.experience.to_state())
        assert [outcome.usage_source for outcome in office.outcomes] == ["counted", "counted", "reported"]
        assert learned[0] == learned[1] != learned[2]

    play(tmp_path, scene)


def test_a_client_that_leaves_is_recorded_as_gone(tmp_path: Path) -> None:
    """Whatever it waited for is given up."""

    async def scene(office: Office) -> None:
        office.backend.may_answer.clear()
        async with client(office) as one:
            await office.hand(office.policy("a"))
            one.send()
            await office.backend.came.wait()
        await ended(office)
        assert (office.outcomes[0].code, office.outcomes[0].reason) == (499, "client_left")

    play(tmp_path, scene)
