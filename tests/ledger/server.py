"""A real PostgreSQL server, if this machine has the programs."""

import importlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_S = 30.0


class AbsentError(Exception):
    """There is no server to test with; the message says what is missing."""


@dataclass
class Server:
    """One server with a folder of its own; it may be killed and started again."""

    programs: Path
    data: Path
    user: str | None
    port: int
    process: "subprocess.Popen[bytes] | None" = None
    databases: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = ["-D", str(self.data), "-p", str(self.port), "-h", "127.0.0.1", "-k", "", "-F"]
        log = (self.data.parent / "log").open("ab")
        self.process = subprocess.Popen([self.programs / "postgres", *options], user=self.user, stdout=log, stderr=log)
        log.close()
        deadline_s = time.monotonic() + START_S
        while not self._answers():
            assert time.monotonic() < deadline_s, (self.data.parent / "log").read_text()
            assert self.process.poll() is None, (self.data.parent / "log").read_text()

    def kill(self) -> None:
        """End it at once, without the checkpoint that would save it the recovery."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def stop(self) -> None:
        """End it, whoever is still connected."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(START_S)

    async def new_database(self) -> str:
        """The URL of a database that nobody has used yet."""
        name = f"ledger_{next(self.databases)}"
        await self.execute(f"CREATE DATABASE {name}", "postgres")
        return f"postgresql://tester@127.0.0.1:{self.port}/{name}"

    async def execute(self, statement: str, database: str) -> Any:
        """The rows that a statement gives."""
        driver = importlib.import_module("asyncpg")
        connection = await driver.connect(f"postgresql://tester@127.0.0.1:{self.port}/{database}", timeout=5)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    def _answers(self) -> bool:
        ready: list[str | Path] = [
            self.programs / "pg_isready",
            "-q",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-t",
            "1",
        ]
        return subprocess.run(ready, check=False).returncode == 0


@contextmanager
def postgres() -> Iterator[Server]:
    """A server that runs. Raises AbsentError."""
    try:
        importlib.import_module("asyncpg")
    except ImportError:
        raise AbsentError("asyncpg is not installed") from None
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="ledger-postgres-"))
    try:
        user = _owner(folder)
        options: list[str | Path] = ["-D", folder / "data", "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync"]
        made = subprocess.run([programs / "initdb", *options], user=user, capture_output=True, check=False)
        if made.returncode:
            raise AbsentError(f"initdb failed: {made.stderr.decode()[-200:]}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = Server(programs, folder / "data", user, port)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    """Debian keeps the server's programs out of the search path."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    found = [*places, *([Path(name)] if (name := shutil.which("initdb")) else [])]
    if not found:
        raise AbsentError("PostgreSQL's server is not installed")
    return found[0].resolve().parent


def _owner(folder: Path) -> str | None:
    """PostgreSQL refuses to run as root, so then the folder becomes somebody else's."""
    if os.geteuid() != 0:
        return None
    known = {each.pw_name for each in pwd.getpwall()}
    user = next((name for name in ("postgres", "nobody") if name in known), None)
    if user is None:
        raise AbsentError("nobody but root is there to run PostgreSQL")
    shutil.chown(folder, user)
    return user
