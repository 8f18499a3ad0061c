"""`gpubalancer agent` as a process, over the real nvidia-ml-py."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from gpubalancer.telemetry.agent_command import agent
from gpubalancer.telemetry.gpus import Alarm, Snapshot, alarms_of, snapshot_of
from tests.telemetry.fake_nvml import Script

COMMAND = [sys.executable, "-m", "gpubalancer.telemetry.agent_command", "--port", "0"]
LISTENING = re.compile(r"agent listening on (http://127\.0\.0\.1:\d+): (.*)\n")
PATIENCE_S = 30.0
PAGE = Path(__file__).parents[2] / "docs" / "agent.md"

T = TypeVar("T")


@contextmanager
def started(
    script: Script | None, library: Path | None, *flags: str
) -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """The command as a process: its address, what it found, and itself."""
    environment = {name: value for name, value in os.environ.items() if name not in ("LD_LIBRARY_PATH", "FAKE_NVML")}
    if script and library:
        environment |= {"LD_LIBRARY_PATH": str(library.parent), "FAKE_NVML": str(script.path)}
    with subprocess.Popen(
        [*COMMAND, *flags], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            found = LISTENING.fullmatch(process.stdout.readline())
            assert found is not None
            yield found[1], found[2], process
        finally:
            if process.poll() is None:
                process.kill()


def snapshot(url: str) -> Snapshot:
    """`/v1/gpus` now."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)
    connection.request("GET", "/v1/gpus")
    body = connection.getresponse().read()
    connection.close()
    return snapshot_of(body)


def eventually(ask: Callable[[], T], good: Callable[[T], object]) -> T:
    """The first answer that is good."""
    until_s = time.monotonic() + PATIENCE_S
    while not good(answer := ask()):
        assert time.monotonic() < until_s, answer
        time.sleep(0.01)
    return answer


def next_alarm(stream: http.client.HTTPResponse) -> tuple[Alarm, Snapshot]:
    """The next alarm of an event stream."""
    while line := stream.readline():
        if line == b"event: alarm\n":
            alarms, then = alarms_of(stream.readline().removeprefix(b"data: "))
            return alarms[0], then
    raise AssertionError("the stream ended")


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """What the process's GPUs do."""
    return Script(tmp_path / "gpus.txt")


def test_it_tells_what_it_found_serves_and_stops(nvml_library: Path, script: Script) -> None:
    """One line with address, cards and driver; a stream under way does not hold up SIGTERM; status 0, no other word."""
    script.gpu(0)
    script.gpu(1, mig=1)
    script.set(gpu1__mig0__uuid="MIG-0")
    with started(script, nvml_library) as (url, found, process):
        assert found == "2 GPUs and 1 MIG instances, driver 580.65.06"
        assert [gpu.uuid for gpu in snapshot(url).gpus] == ["GPU-0", "GPU-1", "MIG-0"]
        stream = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)
        stream.request("GET", "/v1/events")
        assert stream.getresponse().readline() == b"event: gpus\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)
        stream.close()
    assert (process.returncode, out, err) == (0, "", "")


def test_without_a_driver_it_says_so_and_goes_on() -> None:
    """On a machine without the library: one line, an empty list, status 0 at the end."""
    with started(None, None) as (url, found, process):
        if "no GPUs yet" not in found:
            pytest.skip("this machine has an NVIDIA driver")
        assert found == "no GPUs yet, no NVIDIA driver: NVML Shared Library Not Found"
        assert snapshot(url).gpus == ()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (0, "", "")


def test_alarms_arrive_long_before_the_next_sample(nvml_library: Path, script: Script) -> None:
    """Throttle, XID 79, XID 13, a lost card and full memory are pushed, though the next sample is an hour away."""
    script.gpu(0)
    script.gpu(1)
    steps: list[tuple[Callable[[], None], tuple[str, str, str], bool]] = [
        (lambda: script.set(gpu0__reasons=0x40), ("throttle", "GPU-0", "hw_thermal"), False),
        (lambda: script.xid(1, 13), ("xid", "GPU-1", "13"), False),
        (lambda: script.set(gpu1__memory_used=85_000_000_000), ("memory", "GPU-1", "0.990"), False),
        (lambda: script.xid(0, 79), ("xid", "GPU-0", "79"), True),
        (lambda: script.set(gpu1__lost=1), ("lost", "GPU-1", "NVIDIA H100 80GB HBM3"), True),
    ]
    with started(script, nvml_library, "--interval", "1h") as (url, _, _):
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)
        connection.request("GET", "/v1/events")
        stream = connection.getresponse()
        delays_s = []
        for change, told, faulty in steps:
            changed_s = time.time()
            change()
            alarm, then = next_alarm(stream)
            assert (alarm.kind, alarm.uuid, alarm.detail) == told
            assert next(gpu for gpu in then.gpus if gpu.uuid == alarm.uuid).is_faulty is faulty
            delays_s.append(time.time() - changed_s)
        connection.close()
    # Each from the driver's change to the client; a busy machine may hold one up, not all.
    assert min(delays_s) < 0.1, delays_s


def test_a_stalled_driver_is_told_and_does_not_hold_up_the_end(nvml_library: Path, script: Script) -> None:
    """A call that hangs makes the snapshot old and says so; the process answers, and ends on SIGTERM."""
    script.gpu(0)
    with started(script, nvml_library, "--interval", "100ms") as (url, _, process):
        script.set(gpu0__power__delay=60_000)
        stale = eventually(lambda: snapshot(url), lambda now: now.problem)
        assert stale.problem is not None
        assert stale.problem.startswith("the driver has not answered for ")
        assert stale.gpus[0].power_watts == 412.345
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_reset_is_survived(nvml_library: Path, script: Script) -> None:
    """After the driver was reset the process opens it anew and goes on, XIDs included."""
    script.gpu(0)
    with started(script, nvml_library, "--interval", "100ms") as (url, _, _):
        script.set(generation=1, gpu0__temperature=33)
        eventually(lambda: snapshot(url), lambda now: now.gpus[0].temperature_celsius == 33)
        script.xid(0, 31)
        last = eventually(lambda: snapshot(url), lambda now: now.gpus[0].xids)
        assert (last.gpus[0].xids[0][0], last.gpus[0].lost, last.gpus[0].is_faulty) == (31, False, False)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--interval", "50ms"], "no duration of at least 100ms"),
        (["--interval", "soon"], "no duration of at least 100ms"),
        (["--port", "70000"], "Invalid value for '--port'"),
        (["--token-env", "GPUBALANCER_TEST_UNSET"], "is not set, or empty"),
    ],
)
def test_wrong_flags_are_refused(flags: list[str], words: str) -> None:
    """A wrong value ends with status 2 and a sentence."""
    result = CliRunner().invoke(agent, flags)
    assert result.exit_code == 2
    assert words in result.output


def test_a_port_in_use_is_told() -> None:
    """A port that somebody has ends with status 1 and a sentence, not a traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "--port", str(port)], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_beyond_loopback_without_a_token_there_is_a_warning() -> None:
    """Listening for everyone without a token is allowed, and said aloud."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        flags = ["--host", "0.0.0.0", "--port", str(taken.getsockname()[1])]
        done = subprocess.run([*COMMAND, *flags], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.stderr.startswith("warning: 0.0.0.0 is not loopback")


def test_the_page_names_every_flag_and_path() -> None:
    """The documentation's table of flags is the command's, no more and no less."""
    told = set(re.findall(r"^\| `(--[a-z-]+)", PAGE.read_text(), re.MULTILINE))
    assert told == {option for parameter in agent.params for option in parameter.opts}
