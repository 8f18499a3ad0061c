"""What a policy means for telemetry."""

from pathlib import Path
from typing import Any

import numpy as np

from gpubalancer.board.board import Board
from gpubalancer.board.layout import Hardware
from gpubalancer.policy.schema import Policy
from gpubalancer.sensing import Senses, target_of
from gpubalancer.telemetry.discover import Discovery


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
