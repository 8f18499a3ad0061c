"""What can't be had at the start: exit 1 with one sentence; what is wrong in the file: exit 2 with a line per fault."""

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.processes import COMMAND, policy

BACKEND = {"name": "b", "url": "http://127.0.0.1:9", "models": ["m"]}


def _run(directory: Path, settings: Any, command: str = "serve") -> "subprocess.CompletedProcess[str]":
    config = directory / "gpubalancer.yaml"
    config.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
    return subprocess.run(
        [*COMMAND, command, "--config", str(config)], capture_output=True, text=True, timeout=30, check=False
    )


def _assert_one_sentence(done: "subprocess.CompletedProcess[str]", what: str) -> None:
    assert done.returncode == 1, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done
    assert what in lines[0]
    assert lines[0].endswith(".")
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("section", ["listen", "admin"])
def test_a_port_in_use(tmp_path: Path, section: str) -> None:
    """The sentence names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = policy(tmp_path, [BACKEND], **{section: {"port": port}})
        _assert_one_sentence(_run(tmp_path, settings), f"127.0.0.1:{port}")


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    """The sentence speaks of the certificate."""
    files = {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    for file in files.values():
        Path(file).write_text("not a certificate")
    done = _run(tmp_path, policy(tmp_path, [BACKEND], listen={"tls": files}))
    _assert_one_sentence(done, "certificate")


def test_a_certificate_that_is_missing(tmp_path: Path) -> None:
    """A file of the machine's that is missing is one sentence and exit 1, as the policy itself is not wrong."""
    files = {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    done = _run(tmp_path, policy(tmp_path, [BACKEND], listen={"tls": files}))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done
    assert "listen.tls.certificate: found" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_state_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """The sentence names the folder; a file stands where it should be."""
    (tmp_path / "state").write_text("")
    _assert_one_sentence(_run(tmp_path, policy(tmp_path, [BACKEND])), str(tmp_path / "state"))


def test_a_state_directory_inside_proc(tmp_path: Path) -> None:
    """Not even the superuser can make a folder there; the sentence names it."""
    directory = f"/proc/{os.getpid()}/state"
    _assert_one_sentence(_run(tmp_path, policy(tmp_path, [BACKEND], state={"directory": directory})), directory)


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_wrong_file(tmp_path: Path, command: str) -> None:
    """Each of three faults has its own line with file, line and setting, and the exit code is 2."""
    text = "version: 1\nlisten: {port: 99999}\nbackends:\n  - {url: 'ftp://x', slots: 0}\n"
    done = _run(tmp_path, text, command)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    path = tmp_path / "gpubalancer.yaml"
    places = [f"{path}:2: listen.port: ", f"{path}:4: backends[0].slots: ", f"{path}:4: backends[0].url: "]
    assert [any(line.startswith(place) for line in lines) for place in places] == [True] * 3, done.stderr
    assert len(lines) == 3, done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The exit code is 2 and the one line names the file."""
    missing = tmp_path / "missing.yaml"
    done = subprocess.run(
        [*COMMAND, "serve", "--config", str(missing)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert str(missing) in done.stderr
