"""`gpubalancer engine` as a process, and its page in the documentation."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from gpubalancer.sim.command import engine
from gpubalancer.sim.hardware import HARDWARE

PAGE = Path(__file__).parents[2] / "docs" / "simulated-engine.md"
LISTENING = re.compile(r"engine (\S+) listening on (http://127\.0\.0\.1:\d+)\n")
BASICS = ["--port", "0", "--model", "m", "--hardware", "h100"]


@contextmanager
def started(*flags: str) -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """The command as a process: its name, its address and itself."""
    command = [sys.executable, "-m", "gpubalancer.sim.command", *BASICS, *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = LISTENING.fullmatch(process.stdout.readline())
            assert found is not None
            yield found[1], found[2], process
        finally:
            if process.poll() is None:
                process.kill()


def ask(url: str, body: object) -> bytes:
    """One POST's answer."""
    with urllib.request.urlopen(f"{url}/v1/completions", orjson.dumps(body), timeout=20) as answer:
        data: bytes = answer.read()
    return data


def test_it_listens_answers_and_stops() -> None:
    """The first line tells name and address, a request is answered, and SIGTERM ends it quietly with status 0."""
    with started("--speedup", "inf", "--name", "first") as (name, url, process):
        assert name == "first"
        answer = orjson.loads(ask(url, {"model": "m", "prompt": "a", "max_tokens": 3}))
        assert answer["usage"]["completion_tokens"] == 3
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_stream_under_way_ends_with_abort() -> None:
    """SIGTERM during a stream: the client gets `abort` and the end mark, and the process ends with status 0."""
    body = {"model": "m", "prompt": "a", "max_tokens": 5000, "ignore_eos": True, "stream": True}
    with started() as (name, url, process):
        assert name == "h100"
        with urllib.request.urlopen(f"{url}/v1/completions", orjson.dumps(body), timeout=20) as answer:
            assert b"data: " in answer.readline()
            os.kill(process.pid, signal.SIGTERM)
            rest = answer.read()
        out, err = process.communicate(timeout=20)
    assert rest.endswith(b"data: [DONE]\n\n")
    assert b'"finish_reason":"abort"' in rest
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--hardware", "abacus"], "Invalid value for '--hardware'"),
        (["--speedup", "0"], "must be above 0"),
        (["--speedup", "nan"], "must be above 0"),
        (["--error-rate", "2"], "Invalid value for '--error-rate'"),
        (["--dialect", "klingon"], "Invalid value for '--dialect'"),
        (["--slots", "0"], "Invalid value for '--slots'"),
        (["--throttle-at", "soon"], "Invalid value for '--throttle-at'"),
        (["--throttle-at", "5:0"], "from 0.01 to 1"),
        (["--throttle-at", "-1:0.5"], "is not SECONDS:VALUE"),
        (["--xid-at", "5"], "is not SECONDS:VALUE"),
        (["--xid-at", "nan:79"], "is not SECONDS:VALUE"),
    ],
)
def test_wrong_flags_are_refused(flags: list[str], words: str) -> None:
    """A wrong value ends with status 2 and a sentence that names the flag."""
    result = CliRunner().invoke(engine, [*BASICS, *flags])
    assert result.exit_code == 2
    assert words in result.output


def test_a_port_in_use_is_told() -> None:
    """A port that somebody has ends with status 1 and a sentence, not a traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "gpubalancer.sim.command", *BASICS, "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr == f"Error: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_trouble_comes_in_its_time_on_a_port_of_its_own() -> None:
    """With `--agent-port` a second line tells the agent's address, and ordered throttles and XIDs show there."""
    flags = ("--agent-port", "0", "--throttle-at", "0:0.25", "--xid-at", "0:13", "--xid-at", "0.01:94")
    with started(*flags) as (_, _, process):
        assert process.stdout is not None
        found = re.fullmatch(r"agent of h100 listening on (\S+)\n", process.stdout.readline())
        assert found is not None
        until_s = time.monotonic() + 20
        while len((gpu := gpus(found[1])[0])["xids"]) < 2:
            assert time.monotonic() < until_s
            time.sleep(0.01)
    assert gpu["throttle_reasons"] == ["sw_thermal", "gpu_idle"]
    assert [xid for xid, _ in gpu["xids"]] == [13, 94]


def gpus(url: str) -> Any:
    """The GPUs of an agent."""
    with urllib.request.urlopen(f"{url}/v1/gpus", timeout=20) as answer:
        return orjson.loads(answer.read())["gpus"]


def test_the_page_names_every_flag() -> None:
    """The documentation's table of flags is the command's, no more and no less."""
    told = set(re.findall(r"^\| `(--[a-z-]+)", PAGE.read_text(), re.MULTILINE))
    assert told == {option for parameter in engine.params for option in parameter.opts}


def test_the_page_shows_the_coefficients() -> None:
    """Each class's row in the documentation has the numbers that the code has."""
    rows = {
        row[0]: row[1:] for row in re.findall(r"^\| (\w+)" + r" \| ([\d.,e-]+)" * 8, PAGE.read_text(), re.MULTILINE)
    }
    assert set(rows) == set(HARDWARE)
    for name, h in HARDWARE.items():
        told = [float(cell.replace(",", "")) for cell in rows[name]]
        per_thousand = [h.a0_s * 1e3, h.a1_s * 1e3, h.a2_s * 1e9, h.d0_s * 1e3, h.d1_s * 1e3, h.d2_s * 1e9]
        assert told == pytest.approx([*per_thousand, h.kv_blocks, h.slots])
