"""Budgets for these tests: terms with short ids, windows of a fixed length, and a till over a fresh file."""

import hashlib
from pathlib import Path
from typing import Any

from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_reservation import Reservation
from gpubalancer.board.budgets import Till
from gpubalancer.domain.budget import Bucket, Claims, Gauge, Refusal, Terms, Window


class Stretch:
    """A calendar whose windows all have one length, counted from 0."""

    def __init__(self, length_ns: int) -> None:
        self.length_ns = length_ns

    def window(self, now_ns: int) -> tuple[int, int]:
        """The stretch that holds an instant."""
        start = now_ns - now_ns % self.length_ns
        return start, start + self.length_ns

    def number(self, start_ns: int) -> int:
        """How many there were before."""
        return start_ns // self.length_ns


def identity(name: str) -> bytes:
    """The id of a name."""
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def bucket(name: str, limit: int, period_ns: int = 1000, burst: int | None = None, **more: Any) -> Bucket:
    """A bucket of tokens unless told otherwise."""
    settings = {"unit": "tokens", "per": "1m", **more}
    return Bucket(identity(name), "t", limit=limit, capacity=burst or limit, period_ns=period_ns, **settings)


def window(name: str, limit: int, length_ns: int = 1000, **more: Any) -> Window:
    """A window of tokens unless told otherwise."""
    settings = {"unit": "tokens", "per": "day", **more}
    return Window(identity(name), "t", limit=limit, capacity=limit, calendar=Stretch(length_ns), **settings)


def gauge(name: str, limit: int, **more: Any) -> Gauge:
    """A limit on concurrent requests."""
    return Gauge(identity(name), "t", "concurrent", "", limit, limit, **more)


def claims(*terms: Terms) -> Claims:
    """What a request counts in."""
    return Claims(terms, any(each.stops for each in terms))


def till(path: Path, worker: int = 0) -> Till:
    """A till over the file at a path, which has been created."""
    return Till(BudgetFile.attach(path), worker)


def held(answer: Reservation | Refusal) -> Reservation:
    """The reservation of an answer that is none else."""
    assert isinstance(answer, Reservation), answer
    return answer


def refused(answer: Reservation | Refusal) -> Refusal:
    """The refusal of an answer that is none else."""
    assert isinstance(answer, Refusal), answer
    return answer
