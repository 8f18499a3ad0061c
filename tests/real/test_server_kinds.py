"""Shared budgets where Sentinels know the server, and on a Cluster's node."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpubalancer.domain.budget import Refusal, Spending
from tests.board.budget_terms import bucket, claims, window
from tests.e2e.processes import eventually, free_port
from tests.real.test_budget_stores import YEAR_NS, held, left, settled, shared
from tests.real.valkey_server import NAMES, is_up, play, running

pytestmark = pytest.mark.real

SMALL = Spending(3, 0, 2, 1)


@contextmanager
def program(folder: Path, *arguments: str, port: int) -> Iterator[None]:
    """Run the server's program in some other way."""
    path = next(found for name in NAMES if (found := shutil.which(name)))
    command = [path, *arguments, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: is_up(port), "the server to listen")
            yield
        finally:
            process.terminate()


def ask(port: int, *words: str) -> str:
    """What the server's own client prints."""
    client = shutil.which("valkey-cli") or shutil.which("redis-cli") or ""
    ended = subprocess.run([client, "-p", str(port), *words], check=True, capture_output=True, text=True, timeout=10)
    return ended.stdout.strip()


async def spend(folder: Path, url: str) -> None:
    """Reserve and settle in several budgets of one request, from three balancers."""
    terms, wide = window("w", 100, YEAR_NS), bucket("b", 1000, YEAR_NS)
    async with shared(folder, url) as stores:
        for store in stores:
            (await held(store, claims(terms, wide), SMALL)).settle(SMALL, 0)
        await settled(list(stores))
        assert await left(stores[0], terms) == 85
        assert isinstance(await stores[1].reserve(claims(terms, wide), Spending(90, 0, 0, 1)), Refusal)


def test_sentinels_tell_where_the_server_is(tmp_path: Path) -> None:
    """A Sentinel's word is enough; the server's own address stands nowhere."""
    port = free_port()
    with running() as server:
        config = tmp_path / "sentinel.conf"
        config.write_text(f"sentinel monitor budgets 127.0.0.1 {server.port} 1\n")
        with program(tmp_path, str(config), "--sentinel", port=port):
            play(spend(tmp_path, f"valkey://127.0.0.1:{port}/0?sentinel=budgets"))


def test_a_node_of_a_cluster_takes_all_budgets(tmp_path: Path) -> None:
    """Their keys carry one tag, and so stand in one slot."""
    port = free_port()
    with program(tmp_path, "--cluster-enabled", "yes", "--save", "", port=port):
        ask(port, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        eventually(lambda: "cluster_state:ok" in ask(port, "CLUSTER", "INFO"), "the cluster")
        play(spend(tmp_path, f"valkey://127.0.0.1:{port}/0"))
        keys = ask(port, "KEYS", "*").splitlines()
        assert keys
        assert all(key.startswith("{gpubalancer}:") for key in keys)
