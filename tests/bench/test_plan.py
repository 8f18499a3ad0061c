"""The tally of one plan and the window in which CPU is counted."""

import subprocess
import sys

from bench.plan import Plan, Run

BURN = """
import sys
print(flush=True)
sys.stdin.readline()
print(sum(range(2_000_000)), flush=True)
sys.stdin.readline()
"""


def run_of(**changed: object) -> Run:
    """A run whose plan is the least one, with changes."""
    fields = {"kind": "unary", "ports": (1, 2), "key": "k", "prompt_bytes": 64, "seconds": 1.0, "connections": 1}
    return Run(Plan(**(fields | changed)))  # type: ignore[arg-type]


def test_tally_counts_each_answer_once() -> None:
    """No fault is done; faults are counted by kind; ended is both."""
    run = run_of()
    for fault in ("", "status 500", "", "status 500", "wrong body"):
        run.tally(fault)
    result = run.finish()
    assert (result.done, result.errors) == (2, {"status 500": 2, "wrong body": 1})
    assert (result.failed, run.ended) == (3, 5)


def test_finish_has_no_latency_without_answers() -> None:
    """Nothing right has no percentile, not a zero."""
    assert run_of().finish().p50_ms is None


def test_latencies_are_in_milliseconds() -> None:
    """Seconds go in, milliseconds come out."""
    run = run_of()
    run.latencies_s = [0.001, 0.002, 0.003]
    result = run.finish()
    assert (result.p50_ms, result.p99_ms) == (2.0, 3.0)


def test_requests_name_the_port_they_go_to() -> None:
    """Each port has its own request bytes, with its own Host."""
    first, second = run_of().requests()
    assert b"\r\nHost: 127.0.0.1:1\r\n" in first[0]
    assert b"\r\nHost: 127.0.0.1:2\r\n" in second[0]


def test_window_counts_the_watched_process_and_nobody_else() -> None:
    """CPU that a watched process uses inside the window is counted; without a process to watch there is none."""
    with subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as burner:
        assert burner.stdin is not None
        assert burner.stdout is not None
        burner.stdout.readline()
        watching, blind = run_of(watch_pid=burner.pid), run_of()
        for run in (watching, blind):
            run.open_window()
        burner.stdin.write(b"\n")
        burner.stdin.flush()
        burner.stdout.readline()
        for run in (watching, blind):
            run.close_window()
        burner.communicate(b"\n")
    assert watching.result.cpu_s > 0 == blind.result.cpu_s
    assert watching.result.window_s > 0
