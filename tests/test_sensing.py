"""What a policy means for telemetry."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web

from gpubalancer.board.board import Board
from gpubalancer.board.layout import Hardware
from gpubalancer.policy.schema import Policy
from gpubalancer.sensing import Senses, target_of
from gpubalancer.telemetry.discover import Discovery
from gpubalancer.telemetry.gpus import Gpu, Snapshot


def policy(*backends: dict[str, Any]) -> Policy:
    """A policy of these backends."""
    return Policy.model_validate({"backends": list(backends)})


def test_an_engine_that_the_policy_leaves_open_is_the_one_that_was_discovered() -> None:
    """What the policy says goes first."""
    open_one, said = policy(
        {"name": "a", "url": "http://127.0.0.1:9"}, {"name": "b", "url": "http://127.0.0.1:8", "engine": "tgi"}
    ).backends
    found = Discovery(None, "vllm", ())
    assert target_of(open_one, None).engine is None
    assert target_of(open_one, found).engine == "vllm"
    assert target_of(said, found).engine == "tgi"


def test_a_credential_goes_to_discovery_and_the_agents_own_to_the_agent_only() -> None:
    """The backend's secret is not the agent's."""
    backend = policy({"name": "a", "url": "http://127.0.0.1:9", "credential": "secret-of-a"}).backends[0]
    assert target_of(backend, None).credential == "secret-of-a"


def test_what_is_no_longer_read_is_forgotten(tmp_path: Path) -> None:
    """A reload that takes an agent away takes its last word off the board, too."""
    board = Board.create(tmp_path / "board", workers=1, backends=1)
    row = board.assign_rows(["a"])["a"]
    senses = Senses(board, lambda name, alarm: None)
    url = "http://127.0.0.1:9"
    senses.replace(policy({"name": "a", "url": url, "engine": "vllm", "telemetry": {"agent": url}}), {})
    board.hardware[row], board.scraped_s[row], board.running[row] = Hardware.FAULTY, 5.0, 3
    senses.replace(policy({"name": "a", "url": url, "engine": "vllm", "telemetry": {"agent": url}}), {})
    assert (board.hardware[row], board.running[row]) == (Hardware.FAULTY, 3)
    senses.replace(policy({"name": "a", "url": url, "engine": "openai"}), {})
    assert board.hardware[row] == Hardware.UNKNOWN
    assert np.isnan(board.running[row])
    board.close()


def test_gpus_that_an_agent_tells_of_can_be_shown(tmp_path: Path) -> None:
    """What an agent tells comes to the columns, and goes with the agent."""
    board = Board.create(tmp_path / "board", workers=1, backends=1)
    board.assign_rows(["a"])
    snapshot = Snapshot(1.0, "h", gpus=(Gpu(0, "GPU-0"),))

    async def tell(url: str) -> None:
        senses = Senses(board, lambda name, alarm: None)
        backend = {"name": "a", "url": url, "engine": "openai"}
        senses.replace(policy(backend | {"telemetry": {"agent": url}}), {})
        looking = asyncio.create_task(senses.run())
        async with asyncio.timeout(10):
            while not senses.columns.gpus():  # noqa: ASYNC110  nobody announces what is written
                await asyncio.sleep(0.01)
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
        assert senses.columns.gpus() == {"a": snapshot}
        assert list(senses.columns.ages_s()) == ["a"]
        senses.replace(policy(backend), {})
        assert senses.columns.gpus() == {}

    async def main() -> None:
        async def answer(request: web.Request) -> web.Response:
            is_asked = request.path == "/v1/gpus"
            return web.Response(body=snapshot.json() if is_asked else b"", status=200 if is_asked else 404)

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await tell(f"http://127.0.0.1:{runner.addresses[0][1]}")
        await runner.cleanup()

    asyncio.run(main())
    board.close()
