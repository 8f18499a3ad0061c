"""Processes that spend, for the tests that count admissions and the tests that kill.

    python -m tests.board.budget_processes admit PATH WORKER THREADS RUNS
    python -m tests.board.budget_processes spend PATH WORKER

`admit` waits for a line on its input before each run, and then prints how many requests it was admitted. `spend` says
that it has begun and goes on until it is killed, keeping a few requests in flight.
"""

import random
import sys
import threading
from collections import deque
from pathlib import Path

from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_reservation import Reservation
from gpubalancer.board.budgets import Till
from gpubalancer.domain.budget import Claims, Spending
from tests.board.budget_terms import claims, till, window

HOUR_NS = 3_600 * 10**9
ADMITTED = 100
TRIES = 8


def hundred(run: int) -> Claims:
    """A budget for exactly 100 requests, and one beside it that is never spent; anew for each run."""
    narrow = window(f"narrow {run}", ADMITTED, 10**6 * HOUR_NS, unit="requests")
    return claims(narrow, window(f"wide {run}", 10**9, 10**6 * HOUR_NS))


def three() -> tuple[Claims, Claims]:
    """Budgets that always count the same, of two payers who share one of them."""
    names = ("a", "b", "c", "d")
    a, b, c, d = (window(name, 1 << 50, 10**6 * HOUR_NS) for name in names)
    return claims(a, b, c), claims(d, c)


def admit(path: Path, worker: int, threads: int, runs: int) -> None:
    """Ask for more than there is, in as many threads, each with a till of its own."""
    tills = [till(path, worker * threads + number) for number in range(threads)]
    for run in range(runs):
        sys.stdin.readline()
        counts = [0] * threads
        workers = [
            threading.Thread(target=_ask, args=(tills[number], hundred(run), counts, number))
            for number in range(threads)
        ]
        for thread in workers:
            thread.start()
        for thread in workers:
            thread.join()
        print(sum(counts), flush=True)


def _ask(own: Till, asked: Claims, counts: list[int], number: int) -> None:
    for _ in range(TRIES):
        answer = own.reserve(asked, Spending(10, 0, 5, 1), own.now_ns())
        if isinstance(answer, Reservation):
            counts[number] += 1
            answer.settle(Spending(10, 0, 3, 1), own.now_ns())


def spend(path: Path, worker: int) -> None:
    """Reserve, stream and settle for ever."""
    own, chance, flying = Till(BudgetFile.attach(path), worker), random.Random(worker), deque[Reservation]()
    payers = three()
    print("begun", flush=True)
    while True:
        answer = own.reserve(chance.choice(payers), Spending(chance.randrange(99), 0, 50, 1), own.now_ns(), b"request")
        assert isinstance(answer, Reservation)
        answer.sent(chance.randrange(99))
        answer.progress(chance.randrange(99))
        flying.append(answer)
        if len(flying) > 5:
            flying.popleft().settle(Spending(chance.randrange(99), 0, chance.randrange(99), 1), own.now_ns())


if __name__ == "__main__":
    what, where, *numbers = sys.argv[1:]
    if what == "admit":
        admit(Path(where), *map(int, numbers))
    else:
        spend(Path(where), int(numbers[0]))
