"""The supervisor: its sockets, and worker processes that come, go and fail. The processes are fakes that tell all."""

import asyncio
import errno
import json
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import uvloop

from gpubalancer.board.board import BoardError
from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budgets import Till
from gpubalancer.board.slots import Slots
from gpubalancer.brain.fleet import Discovery
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy import supervisor as module
from gpubalancer.proxy.supervisor import bind, bind_when_free
from tests.proxy.crew import DEADLINE_S, INTERPRETER, VIA, WORKERS, Crew, MakeCrew, eventually, fake_crew, play, policy


@pytest.fixture
def crew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeCrew:
    """Makes a crew whose processes are fakes."""
    return fake_crew(tmp_path, monkeypatch)


# Sockets.


def test_each_worker_has_a_socket_on_the_one_port() -> None:
    """All sockets listen on one port without blocking, and a connection comes in by one of them."""
    listeners = bind("127.0.0.1", 0, 3)
    try:
        assert len({listener.getsockname() for listener in listeners}) == 1
        assert not any(listener.getblocking() for listener in listeners)
        with socket.create_connection(listeners[0].getsockname()):
            assert sum(_accepts(listener) for listener in listeners) == 1
    finally:
        for listener in listeners:
            listener.close()


def _accepts(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def test_a_port_in_use_is_refused() -> None:
    """A port that somebody has is not shared, not even with one who would share it."""
    (first,) = bind("127.0.0.1", 0, 1)
    with first, pytest.raises(OSError) as caught:
        bind("127.0.0.1", first.getsockname()[1], 1)
    assert caught.value.errno == errno.EADDRINUSE


def test_a_port_is_waited_for() -> None:
    """`bind_when_free` has the port as soon as it is let go, and gives up when the time is over."""

    async def run() -> None:
        (first,) = bind("127.0.0.1", 0, 1)
        port = first.getsockname()[1]
        with pytest.raises(OSError) as caught:
            await bind_when_free("127.0.0.1", port, 1, 0.0)
        assert caught.value.errno == errno.EADDRINUSE
        waiting = asyncio.ensure_future(bind_when_free("127.0.0.1", port, 2, DEADLINE_S))
        await asyncio.sleep(0)
        assert not waiting.done()
        first.close()
        listeners = await waiting
        assert [listener.getsockname()[1] for listener in listeners] == [port] * 2
        for listener in listeners:
            listener.close()

    asyncio.run(run())


# Policies.


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_start(crew: MakeCrew, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """`start` returns when every worker serves, and each was told all that it needs."""

    async def scene(crew: Crew) -> None:
        wanted = policy("a", "b", more=", credential: fake-credential")
        assert crew.supervisor.alive == 0
        await crew.supervisor.start(wanted)
        assert (crew.supervisor.alive, crew.supervisor.restarts) == (WORKERS, 0)
        told = crew.told(1)
        assert len(told) == WORKERS
        for message in told:
            assert Policy.model_validate(message["policy"]) == wanted
            assert message["rows"] == crew.board.rows()
            assert (set(message["rows"]), message["discovered"]) == ({"a", "b"}, {})
        arguments = [said["arguments"] for said in crew.heard]
        assert {each["--index"] for each in arguments} == {"0", "1"}
        assert {(each["--board"], each["--via"]) for each in arguments} == {(str(crew.board.path), VIA.decode())}
        assert (crew.supervisor.connections, crew.supervisor.lines_dropped) == (1 + 2, 20)
        assert await crew.visit() in crew.pids()

    play(crew, scene, loop)


def test_a_backend_is_tried_before_anything_is_known_of_it(crew: MakeCrew) -> None:
    """A backend that was never probed counts as up; one that was found down stays down over a reload."""

    async def scene(crew: Crew) -> None:
        await crew.supervisor.start(policy("a"))
        row = crew.board.rows()["a"]
        assert crew.board.up[row] == 1
        crew.board.up[row], crew.board.probed_s[row] = 0, 1.0
        await crew.supervisor.apply(policy("a", "b"))
        assert [int(crew.board.up[crew.board.rows()[name]]) for name in ("a", "b")] == [0, 1]

    play(crew, scene)


def test_apply(crew: MakeCrew) -> None:
    """Every worker gets the next policy under the next number, in the same process."""

    async def scene(crew: Crew) -> None:
        await crew.supervisor.start(policy("a"))
        await crew.supervisor.apply(policy("b"))
        assert [set(message["rows"]) for message in crew.told(2)] == [{"b"}] * WORKERS
        assert len(crew.pids()) == WORKERS
        assert crew.supervisor.restarts == 0

    play(crew, scene)


def test_a_policy_that_cannot_be_served_changes_nothing(crew: MakeCrew, tmp_path: Path) -> None:
    """After a trust file that is none, or too many backends, old policy, rows and number stand for who comes new."""

    async def scene(crew: Crew) -> None:
        await crew.supervisor.start(policy("a"))
        rows = crew.board.rows()
        (tmp_path / "ca.pem").write_text("no certificate")
        broken = policy("b", more=f', tls: {{ca: "{tmp_path}/ca.pem"}}', scheme="https")
        crowd = policy(*(f"n{number}" for number in range(crew.board.layout.backends_limit + 1)))
        for wrong, error in ((broken, OSError), (crowd, BoardError)):
            with pytest.raises(error):
                await crew.supervisor.apply(wrong)
        assert crew.board.rows() == rows
        crew.kill(0)
        await eventually(lambda: len(crew.told(1)) == WORKERS + 1, "a new worker to be told")
        assert crew.told(1)[-1] == crew.told(1)[0]
        assert crew.told(2) == []
        await crew.supervisor.apply(policy("b"))
        assert len(crew.told(2)) == WORKERS

    play(crew, scene)


def test_learning(crew: MakeCrew) -> None:
    """What a server said of itself goes to every worker once; to say the same again tells nobody anything."""

    async def scene(crew: Crew) -> None:
        found = {"a": Discovery(("llama", "phi"), "vllm", "gpu", ("phi",))}
        await crew.supervisor.learn({"a": Discovery(("early",), None, None)})
        assert crew.heard == []
        await crew.supervisor.start(policy("a"))
        await crew.supervisor.learn(found)
        await crew.supervisor.learn(dict(found))
        wanted = {"a": {"models": ["llama", "phi"], "engine": "vllm", "kind": "gpu", "adapters": ["phi"]}}
        assert [message["discovered"] for message in crew.told(2)] == [wanted] * WORKERS
        assert crew.told(3) == []
        await crew.supervisor.apply(policy("a"))
        assert [message["discovered"] for message in crew.told(3)] == [wanted] * WORKERS

    play(crew, scene)


def test_workers_that_do_not_answer(crew: MakeCrew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that the workers do not take in time is a time-out."""
    monkeypatch.setattr(module, "ADOPT_S", 0.3)
    (tmp_path / "mute").touch()

    async def scene(crew: Crew) -> None:
        with pytest.raises(TimeoutError):
            await crew.supervisor.start(policy("a"))
        assert crew.supervisor.alive == 0

    play(crew, scene)


# Processes.


def test_a_dead_worker_is_replaced(crew: MakeCrew) -> None:
    """Another process takes the seat with the present policy; what is counted over processes goes on."""

    async def scene(crew: Crew) -> None:
        await crew.supervisor.start(policy("a"))
        await crew.supervisor.apply(policy("b"))
        victim = crew.kill(0)
        await eventually(lambda: crew.supervisor.restarts == 1, "the death to be seen")
        await eventually(lambda: crew.supervisor.alive == WORKERS, "a new worker")
        assert len(crew.pids()) == WORKERS + 1
        assert crew.pids()[-1] != victim
        assert set(crew.told(2)[-1]["rows"]) == {"b"}
        assert (crew.supervisor.connections, crew.supervisor.lines_dropped) == (1 + 2, 30)

    play(crew, scene)


def test_a_connection_waits_for_the_next_worker(crew: MakeCrew) -> None:
    """While no worker lives, a client's connection waits in the socket and is served by the next one."""

    async def scene(crew: Crew) -> None:
        await crew.supervisor.start(policy("a"))
        before = [crew.kill(index) for index in range(WORKERS)]
        await eventually(lambda: crew.supervisor.restarts == WORKERS, "the deaths to be seen")
        assert await crew.visit() not in before

    play(crew, scene)


def test_a_start_that_fails_is_tried_again(crew: MakeCrew, tmp_path: Path) -> None:
    """Processes that end at once are started anew, after pauses that grow, until they serve."""
    for number in range(3):
        (tmp_path / f"broken-{number}").touch()

    async def scene(crew: Crew) -> None:
        began_s = time.monotonic()
        await crew.supervisor.start(policy("a"))
        assert (crew.supervisor.alive, crew.supervisor.restarts) == (WORKERS, 3)
        # Of three failures in two seats, one seat has at least two.
        assert time.monotonic() - began_s >= 2 * module.RESTART_FIRST_S + 4 * module.RESTART_FIRST_S

    play(crew, scene)


def test_a_process_that_cannot_be_had_is_tried_again(crew: MakeCrew, tmp_path: Path) -> None:
    """Where the system gives no process, a seat stays empty until it does."""

    async def scene(crew: Crew) -> None:
        (tmp_path / INTERPRETER).chmod(0o600)
        starting = asyncio.ensure_future(crew.supervisor.start(policy("a")))
        await eventually(lambda: crew.supervisor.restarts == WORKERS, "the first tries to fail")
        (tmp_path / INTERPRETER).chmod(0o700)
        await starting
        assert crew.supervisor.alive == WORKERS

    play(crew, scene)


def test_the_slots_of_whoever_has_died_are_free(crew: MakeCrew) -> None:
    """When a worker ends, the counts of all dead ones go, those of a dead supervisor's too; a living one's stay."""

    async def scene(crew: Crew) -> None:
        await crew.supervisor.start(policy("a"))
        row = crew.board.rows()["a"]
        with closing(Slots(crew.board, 1)) as living:
            assert living.take(row, 8) is not None
            crew.board.in_flight[0, row] = 3
            crew.kill(0)
            await eventually(lambda: crew.supervisor.restarts == 1, "the death to be seen")
            assert list(crew.board.in_flight[:, row]) == [0, 1]
        # Now it has gone without a word, as an orphan that is killed; its row is not the next victim's.
        await eventually(lambda: crew.supervisor.alive == WORKERS, "a new worker")
        crew.kill(0)
        await eventually(lambda: crew.supervisor.restarts == 2, "the second death to be seen")
        assert list(crew.board.in_flight[:, row]) == [0, 0]

    play(crew, scene)


# The end.


def test_stop(crew: MakeCrew) -> None:
    """Every worker is told to drain and waited for, nobody is replaced, and the port is closed."""

    async def scene(crew: Crew) -> None:
        await crew.supervisor.start(policy("a"))
        address = crew.supervisor.address
        await crew.supervisor.stop()
        assert {path.name for path in crew.folder.glob("drained-*")} == {f"drained-{pid}" for pid in crew.pids()}
        assert (crew.supervisor.alive, crew.supervisor.restarts, crew.supervisor.connections) == (0, 0, 0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)

    play(crew, scene)


def test_a_worker_that_is_being_started_is_stopped_too(crew: MakeCrew) -> None:
    """A `stop` that comes while processes are being started does not wait for them for ever."""

    async def scene(crew: Crew) -> None:
        starting = asyncio.ensure_future(crew.supervisor.start(policy("a")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await crew.supervisor.stop()
        assert len(list(crew.folder.glob("drained-*"))) == WORKERS
        starting.cancel()

    play(crew, scene)


def test_kill_ends_those_who_will_not(crew: MakeCrew, tmp_path: Path) -> None:
    """A worker that does not end when told holds `stop` up until it is killed."""

    async def scene(crew: Crew) -> None:
        (tmp_path / "deaf").touch()
        await crew.supervisor.start(policy("a"))
        stopping = asyncio.ensure_future(crew.supervisor.stop())
        await eventually(lambda: len(list(tmp_path.glob("drained-*"))) == WORKERS, "the workers to be told")
        assert not stopping.done()
        crew.supervisor.kill()
        await stopping
        assert crew.supervisor.alive == 0

    play(crew, scene)


def test_a_workers_question_for_usage_is_answered(crew: MakeCrew, tmp_path: Path) -> None:
    """By whoever keeps the ledger, to the worker that asked, under the question's number."""
    (tmp_path / "curious").touch()

    async def scene(crew: Crew) -> None:
        await crew.supervisor.start(policy("a"))
        await eventually((tmp_path / "answered").exists, "an answer")
        await eventually((tmp_path / "answered").read_text, "all of it")
        answer = json.loads((tmp_path / "answered").read_text())
        assert answer == {"kind": "usage", "number": 7, "report": "acme"}

    play(crew, scene)


def test_what_dead_workers_left_is_told(crew: MakeCrew, tmp_path: Path) -> None:
    """Before the next one starts, each request once."""

    async def scene(crew: Crew) -> None:
        till = Till(BudgetFile.attach(tmp_path / "budgets"), 5)
        till.enter(till.now_ns(), b"d-1").sent(10, b"gpu-1\ngpu")
        till.close()
        await crew.supervisor.start(policy("a"))
        assert [(outcome.decision_id, outcome.backend) for outcome in crew.buried] == [("d-1", "gpu-1")]
        assert crew.supervisor.records_lost == 4

    play(crew, scene)


def test_who_cannot_be_reached_is_told_on(crew: MakeCrew) -> None:
    """At once, by name, by each worker that says so."""

    async def scene(crew: Crew) -> None:
        await crew.supervisor.start(policy("a"))
        assert crew.unreachable == ["a"] * WORKERS

    play(crew, scene)
