"""A worker: what it serves when it is told to, what it tells, and how it ends."""

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
import uvloop

from tests.proxy.office import LINES_DROPPED, Office, client, play


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_request_is_served_logged_and_counted(tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """With its first policy a worker serves; each request is logged once and in the reports once."""

    async def scene(office: Office) -> None:
        await office.hand(office.policy("a"))
        async with client(office) as one:
            for _ in range(3):
                assert (await one.ask()).status == 200
            assert (await one.ask("nobody")).status == 404
        await office.end()
        assert [(each.code, each.model, each.backend) for each in office.outcomes] == [(200, "a", "a")] * 3 + [
            (404, "-", "-")
        ]
        await office.hear(lambda: office.served() == 4)
        assert (office.backend.accepted, office.backend.asked) == (1, 3)

    play(tmp_path, scene, loop=loop)


def test_nobody_is_served_before_the_first_policy(tmp_path: Path) -> None:
    """A connection that comes early waits, and is served as soon as the worker knows how."""

    async def scene(office: Office) -> None:
        async with client(office) as early:
            early.send()
            await office.hear(lambda: bool(office.counts()))
            assert office.counts()[0]["connections"] == office.backend.asked == 0
            await office.hand(office.policy("a"))
            assert (await early.answer()).status == 200

    play(tmp_path, scene)


def test_a_worker_without_a_policy_ends_when_told(tmp_path: Path) -> None:
    """A drain that comes before any policy ends the worker, and it still reports."""

    async def scene(office: Office) -> None:
        await office.end()
        assert office.running.done()
        await office.hear(lambda: bool(office.counts()))

    play(tmp_path, scene)


def test_reports(tmp_path: Path) -> None:
    """Without being asked a worker tells its open connections, its counts and the log lines that it has lost."""

    async def scene(office: Office) -> None:
        await office.hand(office.policy("a"))
        async with client(office) as one, client(office) as two:
            assert (await one.ask()).status == (await two.ask()).status == 200
            await office.hear(lambda: office.counts()[-1:] != [] and office.counts()[-1]["connections"] == 2)
            await office.hear(lambda: office.served() == 2)
            assert {report["lines_dropped"] for report in office.counts()} == {LINES_DROPPED}

    play(tmp_path, scene)


# Policies.


def test_another_policy(tmp_path: Path) -> None:
    """After a reload new models are served on the same client's connection, and those that went are unknown."""

    async def scene(office: Office) -> None:
        await office.hand(office.policy("a", "b"))
        async with client(office) as one:
            assert [(await one.ask(model)).status for model in "abc"] == [200, 200, 404]
            await office.hand(office.policy("b", "c"))
            assert [(await one.ask(model)).status for model in "abc"] == [404, 200, 200]
            models = json.loads((await one.ask(target="/v1/models")).body)
            assert [each["id"] for each in models["data"]] == ["b", "c"]

    play(tmp_path, scene)


def test_connections_of_unchanged_backends_survive(tmp_path: Path) -> None:
    """A reload that changes other things reuses the open connection; a new credential is shown on a new one."""

    async def scene(office: Office) -> None:
        async with client(office) as one:
            accepted, shown = [], []
            for more in (", slots: 4", ", slots: 8", ", credential: fake-credential"):
                await office.hand(office.policy("a", more=more))
                answer = await one.ask()
                accepted.append(office.backend.accepted)
                shown.append(json.loads(answer.body)["shown"])
        assert accepted == [1, 1, 2]
        assert shown == ["", "", "bearer fake-credential"]

    play(tmp_path, scene)


def test_a_request_keeps_the_policy_that_it_began_with(tmp_path: Path) -> None:
    """A request in flight to a backend that a reload removes is answered whole."""

    async def scene(office: Office) -> None:
        await office.hand(office.policy("a"))
        async with client(office) as one:
            office.backend.may_answer.clear()
            one.send()
            await office.backend.came.wait()
            await office.hand(office.policy("b"))
            office.backend.may_answer.set()
            assert (await one.answer()).status == 200
            assert (await one.ask("a")).status == 404
            assert (await one.ask("b")).status == 200

    play(tmp_path, scene)


def test_discovered_models_are_served(tmp_path: Path) -> None:
    """What the supervisor has learned of a backend counts as if the policy had said it."""

    async def scene(office: Office) -> None:
        named = office.policy("a")
        policy = named.model_copy(update={"backends": (named.backends[0].model_copy(update={"models": None}),)})
        async with client(office) as one:
            await office.hand(policy)
            assert (await one.ask("llama")).status == 404
            await office.hand(
                policy, {"a": {"models": ["llama"], "engine": "vllm", "kind": "gpu", "adapters": ["llama-lora"]}}
            )
            assert (await one.ask("llama")).status == 200

    play(tmp_path, scene)


# Settings.


def test_connections_are_limited_by_the_workers_share(tmp_path: Path) -> None:
    """Of the connections that the policy allows each worker takes its part; one more is told so and closed."""

    async def scene(office: Office) -> None:
        await office.hand(office.policy("a", sections="listen: {limits: {connections: 4}}"))
        async with client(office) as one, client(office) as two, client(office) as three:
            assert [(await each.ask()).status for each in (one, two)] == [200, 200]
            refused = await three.answer()
            assert (refused.status, json.loads(refused.body)["error"]["code"]) == (503, "too_many_connections")
            assert await three.at_end()

    play(tmp_path, scene, workers=2)


def test_limits_are_those_of_the_policy(tmp_path: Path) -> None:
    """A target longer than `target_bytes` is refused as too long."""

    async def scene(office: Office) -> None:
        await office.hand(office.policy("a", sections="listen: {limits: {target_bytes: 100}}"))
        for length, status in ((100, 404), (101, 414)):
            async with client(office) as one:
                assert (await one.ask(target="/".ljust(length, "x"))).status == status

    play(tmp_path, scene)


def test_tls(tmp_path: Path) -> None:
    """With a certificate the port speaks TLS, and a client that does not gets no answer."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "certificate.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    files = f'{{certificate: "{tmp_path}/certificate.pem", key: "{tmp_path}/key.pem"}}'

    async def scene(office: Office) -> None:
        await office.hand(office.policy("a", sections=f"listen: {{tls: {files}}}"))
        async with client(office, trust) as one:
            assert (await one.ask()).status == 200
        async with client(office) as plain:
            plain.send()
            assert b"HTTP" not in await plain.reader.read()
        assert office.backend.asked == 1

    play(tmp_path, scene)


# The end.


def test_draining(tmp_path: Path) -> None:
    """Nobody new comes in, idle connections close, what is in flight is answered whole, and then the worker ends."""

    async def scene(office: Office) -> None:
        await office.hand(office.policy("a"))
        async with client(office) as idle, client(office) as busy:
            assert (await idle.ask()).status == 200
            office.backend.may_answer.clear()
            office.backend.came.clear()
            busy.send()
            await office.backend.came.wait()
            ending = asyncio.create_task(office.end())
            assert await idle.at_end()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", office.port)
            assert not ending.done()
            office.backend.may_answer.set()
            answer = await busy.answer()
            assert (answer.status, answer.values("connection")) == (200, ["close"])
            assert await busy.at_end()
            await ending
        assert [each.code for each in office.outcomes] == [200, 200]
        await office.hear(lambda: office.served() == 2)

    play(tmp_path, scene)


def test_a_drain_has_an_end(tmp_path: Path) -> None:
    """What is still in flight after `drain_timeout` is broken off, logged as such, and its slot is free."""

    async def scene(office: Office) -> None:
        await office.hand(office.policy("a", sections="listen: {limits: {drain_timeout: 100ms}}"))
        async with client(office) as one:
            office.backend.may_answer.clear()
            one.send()
            await office.backend.came.wait()
            await office.end()
            assert await one.at_end()
        assert [each.reason for each in office.outcomes] == ["draining"]
        assert int(office.board.in_flight.sum()) == 0

    play(tmp_path, scene)


def test_a_worker_outlives_its_supervisor_until_there_is_another(tmp_path: Path) -> None:
    """Without its channel a worker serves on; when the board shows a successor it drains and ends."""

    async def scene(office: Office) -> None:
        await office.hand(office.policy("a"))
        async with client(office) as one:
            office.channel.close()
            assert (await one.ask()).status == 200
            done, _ = await asyncio.wait({office.running}, timeout=1.0)
            assert not done
            assert (await one.ask()).status == 200
            office.board.bump_epoch()
            assert await one.at_end()
            await office.running
        assert [each.code for each in office.outcomes] == [200, 200]

    play(tmp_path, scene)
