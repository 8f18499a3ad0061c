"""Processes of a run: ready when they answer rightly, and gone afterwards."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import accounting
from bench.load import LoadError, play_apart
from bench.peers import Contestant
from bench.plan import Plan
from bench.running import Cores, StartError, answers, backends, contestant, divide_cores, free_ports, run_values

HERE = divide_cores(sorted(os.sched_getaffinity(0)))

# A "balancer": another stub server on the contestant's port, started by a launcher that stays.
LAUNCHER = "import subprocess, sys; subprocess.call([sys.executable, '-m', 'bench.backends', '--port', sys.argv[1]])"

STOPPABLE = """
import os, pathlib, signal, sys
from bench.running import backends, divide_cores, end_processes_on_sigterm
end_processes_on_sigterm()
with backends(divide_cores([min(os.sched_getaffinity(0))]), pathlib.Path(sys.argv[1]), 0.1) as ports:
    print(*ports, flush=True)
    signal.pause()
"""


def runs(pid: int) -> bool:
    """False for a process that is gone, or dead and only not yet waited for."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("available", "first", "rest"), [([0, 1], {0}, {1}), ([3, 2, 7], {2}, {3, 7}), ([5], {5}, {5})]
)
def test_contestant_has_a_core_of_its_own(available: list[int], first: set[int], rest: set[int]) -> None:
    """The first core is the contestant's; a single one is shared, and said to be."""
    cores = divide_cores(available)
    assert set(cores.contestant) == first
    assert set(cores.others) == rest
    assert cores.shared is (len(available) == 1)


def test_free_ports_are_different() -> None:
    """Ports that are asked for together do not collide."""
    assert len(set(free_ports(20))) == 20


def test_every_run_has_a_new_key() -> None:
    """No key is ever written down in the checkout."""
    assert run_values([1, 2])["key"] != run_values([1, 2])["key"]


def test_contestant_is_measured_through_its_port_and_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backends and a contestant come up, the load generator's process gets right answers, and nothing stays behind."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    row = Contestant("stub", "", ("-c", LAUNCHER, "$port"), "")
    with backends(HERE, tmp_path, 0.05) as ports:
        assert all(answers(port, "any") for port in ports)
        values = run_values(ports)
        with contestant(row, Path(sys.executable), values, HERE, tmp_path / "stub") as started:
            tree = accounting.process_tree(started.pid)
            assert len(tree) == 2
            assert os.sched_getaffinity(tree[-1]) == HERE.contestant
            plan = Plan(
                "unary", (int(values["port"]),), values["key"], 64, 0.3, 4, rate_per_s=50, watch_pid=started.pid
            )
            result = play_apart(plan, HERE.others)
            assert (result.errors, result.done) == ({}, result.units)
            assert result.done > 0
            assert result.cpu_s > 0
    deadline_s = time.monotonic() + 10
    while any(runs(pid) for pid in tree) and time.monotonic() < deadline_s:
        pass
    assert not any(runs(pid) for pid in tree)
    assert not any(answers(port, "any") for port in [*ports, int(values["port"])])


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("print('no such file: x'); raise SystemExit(3)", "ended with 3: no such file: x"),
        ("pass", "it printed nothing"),
    ],
)
def test_contestant_that_ends_says_why(tmp_path: Path, script: str, said: str) -> None:
    """Its last words are in the error."""
    row = Contestant("stub", "", ("-c", script), "")
    with (
        pytest.raises(StartError, match=said),
        contestant(row, Path(sys.executable), run_values([1, 2]), HERE, tmp_path / "stub"),
    ):
        pass


def test_sigterm_leaves_nothing_running(tmp_path: Path) -> None:
    """A bench that is told to stop ends its backends first."""
    command = [sys.executable, "-c", STOPPABLE, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as bench:
        assert bench.stdout is not None
        ports = [int(port) for port in bench.stdout.readline().split()]
        assert all(answers(port, "any") for port in ports)
        bench.terminate()
    assert bench.returncode == 128 + signal.SIGTERM
    assert not any(answers(port, "any") for port in ports)


def test_wrong_answer_is_not_ready() -> None:
    """A port where something listens that is no chat server is not an answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.close()
        assert not answers(port, "any")


def test_generator_that_fails_is_told_from_a_contestant_that_does() -> None:
    """A plan that makes no sense raises, with the generator's own words."""
    with pytest.raises(LoadError, match="nonsense"):
        play_apart(Plan("nonsense", (1,), "k", 64, 0.1, 1))


def test_cores_are_values() -> None:
    """Two divisions of the same cores are equal."""
    assert divide_cores([0, 1]) == Cores(frozenset({0}), frozenset({1}))
