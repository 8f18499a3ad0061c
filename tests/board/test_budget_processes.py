"""Budgets over real processes: exact to the request, and whole whenever one of them is killed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_recovery import Left, dead_workers, recover
from gpubalancer.board.budget_reservation import Reservation
from gpubalancer.domain.budget import Claims, Spending
from tests.board.budget_processes import ADMITTED, HOUR_NS, hundred, three
from tests.board.budget_terms import claims, till, window

CHECKOUT = Path(__file__).parents[2]
PROCESSES, THREADS, RUNS = 4, 16, 20
KILLS = 12
PATIENCE_S = 30.0


@contextmanager
def process(*words: object) -> Iterator[subprocess.Popen[str]]:
    """A process of `budget_processes`, killed at the end."""
    command = [sys.executable, "-m", "tests.board.budget_processes", *map(str, words)]
    started = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def test_of_64_threads_in_4_processes_exactly_100_requests_are_admitted(tmp_path: Path) -> None:
    """A budget for exactly 100 requests admits exactly 100 of 512 tries, in each of 20 runs."""
    path = tmp_path / "budgets"
    file = BudgetFile.create(path)
    admitted = []
    with (
        process("admit", path, 0, THREADS, RUNS) as one,
        process("admit", path, 1, THREADS, RUNS) as two,
        process("admit", path, 2, THREADS, RUNS) as three_,
        process("admit", path, 3, THREADS, RUNS) as four,
    ):
        for _ in range(RUNS):
            for each in (one, two, three_, four):
                assert each.stdin is not None
                each.stdin.write("\n")
                each.stdin.flush()
            admitted.append(sum(int(each.stdout.readline()) for each in (one, two, three_, four) if each.stdout))
    assert admitted == [ADMITTED] * RUNS
    for run in range(RUNS):
        narrow, wide = ((file.find(terms.id) or 0) for terms in hundred(run).terms)
        assert file.state(narrow)[:2] == (ADMITTED, 0)
        assert file.state(wide)[:2] == (ADMITTED * 13, 0)
    file.close()


def test_whoever_is_killed_whenever_leaves_budgets_that_agree(tmp_path: Path) -> None:
    """Two spenders are killed at random points, again and again: nothing stays reserved, and the sums are equal."""
    path = tmp_path / "budgets"
    file, chance = BudgetFile.create(path), random.Random(7)
    wide, narrow = three()
    by_id = {terms.id: terms for terms in (*wide.terms, *narrow.terms)}
    left: list[Left] = []
    for _ in range(KILLS):
        with process("spend", path, 0) as one, process("spend", path, 1) as two:
            for each in (one, two):
                assert each.stdout is not None
                assert each.stdout.readline() == "begun\n"
            spent, more = _spent(file, narrow), chance.randrange(20_000)
            deadline_s = time.monotonic() + PATIENCE_S
            while _spent(file, narrow) < spent + more:
                assert time.monotonic() < deadline_s
            for each in (one, two):
                os.kill(each.pid, signal.SIGKILL)
                each.wait(PATIENCE_S)
        assert set(dead_workers(file)) <= {0, 1}
        for worker in (0, 1):
            recover(file, worker, by_id.get, file.now_ns(), left.append)
        a, b, c, d = (file.state(file.find(terms.id) or 0) for terms in (*wide.terms, narrow.terms[0]))
        assert [each[1] for each in (a, b, c, d)] == [0, 0, 0, 0]
        assert a[0] == b[0] > 0
        assert a[0] + d[0] == c[0]
    assert len(left) > KILLS
    assert {each.label for each in left} == {b"request"}
    file.close()


def _spent(file: BudgetFile, paying: Claims) -> int:
    """What is used of the first budget."""
    return file.state(file.find(paying.terms[0].id) or 0)[0]


def test_a_stopped_process_costs_nobody_more_than_its_patience(tmp_path: Path) -> None:
    """Payers of other groups go on while a stopped process may hold a lock, and its own go on when it does."""
    path = tmp_path / "budgets"
    file = BudgetFile.create(path)
    other = claims(window("elsewhere", 1 << 50, HOUR_NS))
    with process("spend", path, 0) as spender:
        assert spender.stdout is not None
        assert spender.stdout.readline() == "begun\n"
        own = till(path, 1)
        # Its row is made now: the process may be stopped while it makes its own.
        own.standings(other, own.now_ns())
        os.kill(spender.pid, signal.SIGSTOP)
        answer = own.reserve(other, Spending(1, 0, 1, 1), own.now_ns())
        assert isinstance(answer, Reservation)
        answer.settle(Spending(1, 0, 1, 1), own.now_ns())
        os.kill(spender.pid, signal.SIGCONT)
        deadline_s = time.monotonic() + PATIENCE_S
        while own.outstanding and time.monotonic() < deadline_s:
            own.settle_late()
        assert not own.outstanding
    own.close()
    file.close()
