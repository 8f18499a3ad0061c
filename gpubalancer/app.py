"""The composition root: the only module that knows every part.

`serve` is the supervisor process: it owns the board and the ports, keeps the workers, probes the backends, reloads the
policy and answers the operator. `work` is a worker process.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from gpubalancer import logs
from gpubalancer.board.board import Board, BoardError
from gpubalancer.board.prefixes import Prefixes, open_table
from gpubalancer.bookkeeping import Bookkeeping
from gpubalancer.brain.budget import BudgetPlan
from gpubalancer.brain.fleet import Discovery
from gpubalancer.brain.tokens.tokenizer import TokenizerError
from gpubalancer.brain.tokens.vocabularies import NAMES, known
from gpubalancer.control import admin
from gpubalancer.control.admin import Readiness
from gpubalancer.control.fleet import describe_fleet
from gpubalancer.control.reload import Fingerprint, Reload, Reloader
from gpubalancer.domain.outcome import Outcome
from gpubalancer.domain.tally import Tally
from gpubalancer.inquiry import Inquiry
from gpubalancer.ledger.ingest import JOURNAL
from gpubalancer.ledger.report import QueryError
from gpubalancer.ledger.store import StoreError
from gpubalancer.policy.diff import diff
from gpubalancer.policy.load import load
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.channel import Message
from gpubalancer.proxy.supervisor import Supervisor, bind_when_free
from gpubalancer.proxy.treasury import Treasury
from gpubalancer.proxy.worker import Post, Worker
from gpubalancer.reconciling import BUDGETS, spent_of
from gpubalancer.recording import Recorder
from gpubalancer.sensing import Senses, target_of
from gpubalancer.telemetry import discover, probes
from gpubalancer.telemetry.gpus import Alarm
from gpubalancer.telemetry.metrics import Exposition
from gpubalancer.telemetry.samples import Sources
from gpubalancer.valkey.connection import MissingDriverError
from gpubalancer.wire.tls import server_context

DISCOVERY_RETRY_S = 2.0
SWITCH_S = 0.001
"""How long a worker's thread may keep the event loop from the interpreter's lock (Python's own default is 5 ms)."""
HANDOVER_S = 3.0
"""How long workers of a supervisor that died may take to let the port go."""


class StartError(Exception):
    """The balancer can't start; the message is one plain sentence."""


class Balancer:
    """The supervisor's side of everything; what the admin port asks is answered here."""

    def __init__(
        self,
        path: Path,
        policy: Policy,
        board: Board,
        prefixes: Prefixes | None,
        treasury: Treasury,
        books: Bookkeeping,
        listeners: list[socket.socket],
    ) -> None:
        self._path = path
        self._board = board
        self._treasury = treasury
        self._books = books
        self._tally = Tally()
        self._decisions: deque[dict[str, Any]] = deque(maxlen=admin.DECISIONS_LIMIT)
        self._supervisor = Supervisor(
            board,
            listeners,
            _pseudonym(),
            self._tally.merge,
            self._decisions.extend,
            self._tell_buried,
            self._answer_usage,
            self._connect_failed,
            treasury,
        )
        self._reloader = Reloader(policy, lambda: load(path, os.environ), self._apply, _compare)
        self._senses = Senses(board, _say_alarm)
        self._discovered: dict[str, discover.Discovery] = {}
        self._inquiry = Inquiry(
            board, prefixes, lambda: self._reloader.policy, self._what_servers_said, lambda: self._supervisor.learned
        )
        self._state = "starting"
        self._exposition = Exposition(self._sources())
        self._looking = asyncio.Event()

    async def run(self, since: Fingerprint) -> None:
        """Serve until told to stop."""
        policy = self._reloader.policy
        runner = await _open_admin(self, policy)
        try:
            self._look(policy)
        except OSError as error:
            await runner.cleanup()
            raise StartError(f"The TLS files of a backend can't be used: {error.strerror or error}.") from None
        jobs = [asyncio.create_task(job) for job in (self._senses.run(), self._discover())]
        stop = asyncio.Event()
        _on_signals(stop, self._reloader, self._supervisor)
        self._books.start()
        try:
            await self._rebuild_budgets(policy)
            await self._start(policy)
            self._state = "serving"
            jobs.append(asyncio.create_task(self._reloader.watch(self._path, since)))
            logs.say("serving", data=_addresses(self._supervisor), admin=runner.addresses[0][:2], policy=policy.hash)
            await stop.wait()
            self._state = "draining"
            logs.say("draining", connections=self._supervisor.connections)
        finally:
            for job in jobs:
                job.cancel()
            await self._supervisor.stop()
            await self._books.stop()
            await runner.cleanup()
            self._treasury.close()
            self._board.close()
            logs.say("stopped")

    async def _start(self, policy: Policy) -> None:
        try:
            await self._supervisor.start(policy)
        except TokenizerError as error:
            raise StartError(f"A tokenizer can't be loaded: {error}.") from None
        except MissingDriverError as error:
            raise StartError(f"{error}.") from None

    async def _rebuild_budgets(self, policy: Policy) -> None:
        """Fill budgets whose file was set aside from the ledger."""
        if self._treasury.set_aside is None:
            return
        plan, now_ns = BudgetPlan(policy), self._treasury.now_ns()
        try:
            spent = await self._books.ask(lambda ledger: spent_of(ledger, plan, now_ns))
        except (StoreError, OSError) as error:
            logs.say("budgets begin anew", why=str(error))
        else:
            logs.say("budgets rebuilt", spent_from=self._treasury.rebuild(plan, spent, now_ns))

    # What the admin port asks.

    def readiness(self) -> Readiness:
        """Whether we serve."""
        state: Any = self._state
        return Readiness(state, self._supervisor.alive, self._reloader.policy.hash, self._reloader.last_failure)

    def metrics(self) -> bytes:
        """The page for Prometheus."""
        return self._exposition.render()

    def fleet(self) -> list[dict[str, Any]]:
        """All backends."""
        return describe_fleet(self._reloader.policy, self._board, self._discovered, time.monotonic())

    def decisions(self, most: int) -> list[dict[str, Any]]:
        """The last requests, the latest first; workers tell theirs once a second."""
        latest = sorted(self._decisions, key=itemgetter("time"), reverse=True)
        return latest[:most]

    async def explain(self, body: bytes) -> dict[str, Any]:
        """What would be decided of a request now."""
        return await self._inquiry.explain(body)

    async def usage(self, by: str, tenant: str | None, since: str | None) -> dict[str, Any]:
        """What was spent."""
        return await self._books.usage(by, tenant, since)

    async def reload(self) -> Reload:
        """Read the policy file again."""
        return await self._reloader.reload("a request to the admin port")

    def drain(self, name: str, draining: bool) -> bool:
        """Send a backend no new requests, or again."""
        row = self._board.rows().get(name)
        if row is not None:
            self._board.draining[row] = 1 if draining else 0
        return row is not None

    # What the parts ask of one another.

    def _tell_buried(self, outcome: Outcome) -> None:
        """A request of a worker that was killed has been settled and recorded."""
        self._tally.add(outcome)
        logs.say_ended(outcome)

    async def _answer_usage(self, message: Message) -> Message:
        """What a worker is to tell a tenant that asks for its own usage."""
        try:
            return {"report": await self._books.usage(message["by"], message["tenant"], message["since"])}
        except QueryError as error:
            return {"code": "invalid_query", "message": str(error)}
        except StoreError:
            return {"code": "usage_unavailable"}

    async def _apply(self, policy: Policy) -> None:
        await self._supervisor.apply(policy)
        self._look(policy)

    def _look(self, policy: Policy) -> None:
        """Look at this policy's backends from now on."""
        self._senses.replace(policy, self._discovered)
        self._looking.set()

    async def _discover(self) -> None:
        """Ask backends what the policy leaves open, again and again until they have said it."""
        async with probes.open_session() as session:
            while True:
                self._looking.clear()
                before = dict(self._discovered)
                for backend in [each for each in self._reloader.policy.backends if each.models is None]:
                    found = await discover.discover(session, target_of(backend, None))
                    if found is not None:
                        self._discovered[backend.name] = found
                await self._supervisor.learn(self._what_servers_said())
                if self._discovered != before:
                    self._senses.replace(self._reloader.policy, self._discovered)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DISCOVERY_RETRY_S):
                        await self._looking.wait()

    def _what_servers_said(self) -> dict[str, Discovery]:
        return {
            name: Discovery(found.models, found.engine, found.kind, tuple(found.adapters))
            for name, found in self._discovered.items()
        }

    def _connect_failed(self, backend: str) -> None:
        self._senses.connect_failed(backend)

    def _sources(self) -> Sources:
        board, supervisor, reloader = self._board, self._supervisor, self._reloader
        return Sources(
            tally=self._tally,
            in_flight=lambda: {name: int(board.in_flight[:, row].sum()) for name, row in board.rows().items()},
            backend_up=lambda: {name: bool(board.up[row]) for name, row in board.rows().items()},
            workers=lambda: supervisor.alive,
            worker_restarts=lambda: supervisor.restarts,
            connections=lambda: supervisor.connections,
            config_hash=lambda: reloader.policy.hash,
            config_reloads=lambda: {str(result): count for result, count in reloader.counts.items()},
            log_lines_dropped=lambda: supervisor.lines_dropped,
            records_lost=lambda: supervisor.records_lost,
            journal_faults=self._books.faults,
            ledger_lag_s=self._books.lag_s,
            ledger_failures=lambda: self._books.failures,
            telemetry_age_s=self._senses.columns.ages_s,
            hardware=self._senses.columns.hardware,
            idle_joules=self._senses.columns.idle_joules,
            carbon_grams_per_kwh=lambda: reloader.policy.telemetry.carbon_grams_per_kwh,
            gpus=self._senses.columns.gpus,
            backend_cost_s=self._inquiry.typical_costs,
            budget_remaining=self._treasury.remaining,
            reservations=lambda: supervisor.reservations,
        )


async def serve(path: Path, policy: Policy, since: Fingerprint) -> None:
    """Run the balancer on a policy until SIGTERM or SIGINT.

    Raises:
        StartError: a port, a file or a folder that the policy names can't be had.
    """
    directory = policy.state.directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
        workers = policy.listen.worker_count(os.cpu_count() or 1)
        board = Board.create(directory / "board", workers, len(policy.backends))
        prefixes = open_table(directory / "prefixes", policy.routing.prefixes.table_bytes, board)
        recorder = Recorder(directory / JOURNAL, "supervisor", logs.say)
        treasury = Treasury(directory / BUDGETS, recorder.bury)
        books = Bookkeeping(directory, policy.state.ledger_url, logs.say)
    except OSError as error:
        raise StartError(f"The state directory {directory} can't be written: {error.strerror}.") from None
    except (BoardError, StoreError) as error:
        raise StartError(f"{error}.") from None
    for set_aside in (board.set_aside, treasury.set_aside):
        if set_aside:
            logs.say("file set aside", why=set_aside)
    _check_certificates(policy)
    try:
        listeners = await bind_when_free(policy.listen.host, policy.listen.port, workers, HANDOVER_S)
    except OSError as error:
        where = f"{policy.listen.host}:{policy.listen.port}"
        raise StartError(f"The data port {where} can't be had: {os.strerror(error.errno or 0)}.") from None
    await Balancer(path, policy, board, prefixes, treasury, books, listeners).run(since)


async def work(index: int, channel_fd: int, listen_fd: int, board_path: Path, via: str) -> None:
    """Run one worker on what its supervisor handed down."""
    sys.setswitchinterval(SWITCH_S)
    loop = asyncio.get_running_loop()
    access_log, recorder = logs.AccessLog(1), Recorder(board_path.with_name(JOURNAL), f"worker{index}", logs.say)
    board = Board.attach(board_path)
    post = Post(index, board, socket.socket(fileno=listen_fd), socket.socket(fileno=channel_fd), via.encode())
    worker = Worker(post, access_log.add, lambda: access_log.dropped, recorder)
    # The terminal's interrupt reaches the whole group; the supervisor decides what becomes of it.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.add_signal_handler(signal.SIGTERM, worker.drain)
    writing = asyncio.create_task(access_log.run())
    try:
        await worker.run()
    finally:
        writing.cancel()
        access_log.close()
        recorder.close()
        board.close()


def _pseudonym() -> bytes:
    return b"1.1 gpubalancer-%b" % os.urandom(4).hex().encode()


def _compare(old: Policy, new: Policy) -> list[str]:
    change = diff(old, new)
    return [
        *(f"backend {name} added" for name in change.added),
        *(f"backend {name} removed" for name in change.removed),
        *(f"backend {name} changed" for name in change.changed),
        *(f"{path} needs a restart" for path in change.needs_restart),
    ]


def _say_alarm(name: str, alarm: Alarm) -> None:
    logs.say("gpu alarm", backend=name, kind=alarm.kind, gpu=alarm.uuid, detail=alarm.detail)


def find_tokenizers(policy: Policy) -> list[str]:
    """What is wrong with the tokenizers that a policy names, a sentence each; nothing is loaded."""
    return [
        f"models.{name}.tokenizer: there is no {model.tokenizer!r}: expected {', '.join(NAMES)}, a model of OpenAI's, "
        "or the path of a tokenizer.json"
        for name, model in policy.models.items()
        if model.tokenizer is not None and not known(model.tokenizer)
    ]


def _check_certificates(policy: Policy) -> None:
    tls = policy.listen.tls
    if tls is None or tls.certificate is None or tls.key is None:
        return
    try:
        server_context(tls.certificate, tls.key, tls.client_ca)
    except OSError as error:
        raise StartError(f"The certificate of the data port can't be used: {error.strerror or error}.") from None


async def _open_admin(balancer: Balancer, policy: Policy) -> Any:
    token = policy.admin.token
    app = admin.build_app(balancer, lambda: token.get_secret_value() if token else None)
    try:
        return await admin.start(app, policy.admin.host, policy.admin.port)
    except OSError as error:
        where = f"{policy.admin.host}:{policy.admin.port}"
        raise StartError(f"The admin port {where} can't be had: {os.strerror(error.errno or 0)}.") from None


def _addresses(supervisor: Supervisor) -> Mapping[str, object]:
    host, port = supervisor.address
    return {"host": host, "port": port, "workers": supervisor.alive}


def _on_signals(stop: asyncio.Event, reloader: Reloader, supervisor: Supervisor) -> None:
    """SIGHUP reloads, SIGTERM drains and stops; so does SIGINT, and the second one at once."""
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if stop.is_set():
            supervisor.kill()
        stop.set()

    loop.add_signal_handler(signal.SIGHUP, lambda: reloader.request("SIGHUP"))
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)
